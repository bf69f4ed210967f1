// The Python module and what its parts share.
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <vector>

#include "bindings.h"

namespace autoprivacy {
namespace {

constexpr std::size_t kLargeBytes = std::size_t{64} << 10;

// Never destroyed: Python may hold arrays until the process ends.
struct Kept {
    std::mutex lock;
    std::vector<Memory*> blocks;  // the one given back last is the last
    std::size_t bytes = 0;
};

Kept& kept() {
    static Kept* const all = new Kept;
    return *all;
}

void free_memory(Memory* memory) noexcept {
    std::free(memory->bytes);
    delete memory;
}

}  // namespace

Memory* take_memory(std::size_t bytes) {
    if (bytes >= kLargeBytes) {
        Kept& all = kept();
        const std::lock_guard guard(all.lock);
        for (std::size_t i = all.blocks.size(); i-- > 0;) {
            Memory* const memory = all.blocks[i];
            if (memory->size < bytes || memory->size / 2 > bytes) continue;
            all.blocks.erase(all.blocks.begin() + static_cast<std::ptrdiff_t>(i));
            all.bytes -= memory->size;
            return memory;
        }
    }
    constexpr std::size_t line = 64;
    if (bytes > std::numeric_limits<std::size_t>::max() - line) throw std::bad_alloc();
    const std::size_t size = bytes == 0 ? line : (bytes + line - 1) / line * line;
    void* const data = std::aligned_alloc(line, size);
    if (data == nullptr) throw std::bad_alloc();
    return new Memory{data, size};
}

void give_memory(Memory* memory) noexcept {
    if (memory->size < kLargeBytes || memory->size > kKeptBytes) return free_memory(memory);
    Kept& all = kept();
    const std::lock_guard guard(all.lock);
    all.blocks.push_back(memory);
    all.bytes += memory->size;
    while (all.bytes > kKeptBytes) {
        all.bytes -= all.blocks.front()->size;
        free_memory(all.blocks.front());
        all.blocks.erase(all.blocks.begin());
    }
}

void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

std::size_t product(std::initializer_list<std::size_t> factors) {
    std::size_t result = 1;
    for (const std::size_t factor : factors) {
        if (__builtin_mul_overflow(result, factor, &result)) refuse("the result would not fit in memory; use smaller batches");
    }
    if (result > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()))
        refuse("the result would not fit in memory; use smaller batches");
    return result;
}

const Kernels& path_named(const std::string& name) {
    if (const Kernels* kernels = kernels_named(name.c_str())) return *kernels;
    std::string known, usable;
    for (const char* path : kPathNames) {
        known += std::string(", '") + path + "'";
        if (kernels_named(path) != nullptr) usable += std::string(usable.empty() ? "'" : ", '") + path + "'";
    }
    if (known.find("'" + name + "'") != std::string::npos) refuse("path '" + name + "': this processor cannot take it; it has " + usable);
    refuse("path '" + name + "': use 'best'" + known);
}

Block block_of(const nb::bytes& bytes, const char* name) {
    if (bytes.size() != sizeof(Block)) {
        refuse(std::string(name) + ": " + std::to_string(bytes.size()) + " bytes given; give 16");
    }
    return load_block(bytes.data());
}

void require_blocks(std::size_t last_extent, const char* name) {
    if (last_extent != sizeof(Block)) {
        refuse(std::string(name) + ": last dimension is " + std::to_string(last_extent) + "; blocks have 16 bytes");
    }
}

}  // namespace autoprivacy

NB_MODULE(_native, m) {
    nanobind::set_leak_warnings(false);  // caches of Python hold objects of ours until the interpreter ends
    using namespace autoprivacy;
    m.doc() = "Native core: AES-128, half gates, oblivious transfer, bit matrices and bit packing. `path` is 'best' or one of `aes_paths()`.";
    bind_aes(m);
    bind_bits(m);
    bind_garbling(m);
    bind_oblivious_transfer(m);
}
