// The Python module and what its parts share.
#include <limits>

#include "bindings.h"

namespace autoprivacy {

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
