// AES and what is made of it.
#include <limits>

#include "bindings.h"

namespace autoprivacy {
namespace {

using namespace nb::literals;

void expand_bytes(const Kernels& kernels, Block seed, std::uint64_t first, std::uint8_t* out, std::size_t size) {
    const std::size_t whole = size / sizeof(Block), rest = size % sizeof(Block);
    Block round_keys[11];
    kernels.round_keys_of(seed, round_keys);
    kernels.expand(round_keys, first, out, whole);
    if (rest != 0) {
        std::uint8_t last[sizeof(Block)];
        kernels.expand(round_keys, first + whole, last, 1);
        std::memcpy(out + whole * sizeof(Block), last, rest);
    }
}

// Encrypts in place of memory that stays in the cache: nothing but AES is timed.
nb::bytes encrypt_counters(std::size_t blocks, const std::string& path) {
    const Kernels& kernels = path_named(path);
    constexpr std::size_t step = 256;
    std::uint8_t out[16 * step];
    {
        nb::gil_scoped_release release;
        Block round_keys[11];
        kernels.round_keys_of({1, 2}, round_keys);
        for (std::size_t done = 0; done < blocks; done += step) kernels.expand(round_keys, done, out, step);
    }
    return nb::bytes(out, 16);
}

nb::list aes_paths() {
    nb::list names;
    for (const char* name : kPathNames) {
        if (kernels_named(name) != nullptr) names.append(name);
    }
    return names;
}

Out<std::uint8_t, 2> aes_encrypt(const In<std::uint8_t, 2>& keys, const In<std::uint8_t, 2>& blocks, const std::string& path) {
    const Kernels& kernels = path_named(path);
    require_blocks(keys.shape(1), "keys");
    require_blocks(blocks.shape(1), "blocks");
    const std::size_t count = keys.shape(0);
    if (blocks.shape(0) != count) refuse("blocks: " + std::to_string(blocks.shape(0)) + " rows for " + std::to_string(count) + " keys");
    auto out = new_array<std::uint8_t, 2>({count, 16});
    const std::uint8_t *key_bytes = keys.data(), *in_bytes = blocks.data();
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
    kernels.encrypt_each(key_bytes, in_bytes, out_bytes, count);
    return out;
}

Out<std::uint8_t, 2> prg_rows(const In<std::uint8_t, 2>& seeds, std::size_t row_bytes, std::uint64_t counter, const std::string& path) {
    const Kernels& kernels = path_named(path);
    require_blocks(seeds.shape(1), "seeds");
    const std::size_t rows = seeds.shape(0);
    if (counter > std::numeric_limits<std::uint64_t>::max() - row_bytes / 16 - 1) refuse("counter: would pass 2^64; use a fresh seed");
    product({rows, row_bytes});
    auto out = new_array<std::uint8_t, 2>({rows, row_bytes});
    const std::uint8_t* seed_bytes = seeds.data();
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
    for (std::size_t row = 0; row < rows; ++row) {
        expand_bytes(kernels, load_block(seed_bytes + 16 * row), counter, out_bytes + row * row_bytes, row_bytes);
    }
    return out;
}

Out<std::uint8_t, 1> prg(const nb::bytes& seed, std::size_t byte_count, std::uint64_t counter, const std::string& path) {
    const Kernels& kernels = path_named(path);
    const Block seed_block = block_of(seed, "seed");
    if (counter > std::numeric_limits<std::uint64_t>::max() - byte_count / 16 - 1) refuse("counter: would pass 2^64; use a fresh seed");
    auto out = new_array<std::uint8_t, 1>({byte_count});
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
    expand_bytes(kernels, seed_block, counter, out_bytes, byte_count);
    return out;
}

}  // namespace

void bind_aes(nb::module_& m) {
    m.def("aes_path", [] { return std::string(best_kernels().name); }, "The path that 'best' takes on this processor.");
    m.def("aes_paths", &aes_paths, nb::sig("def aes_paths() -> list[str]"),
          "The paths that this processor has and that gave the portable one's bytes on known answers, narrowest first.");
    m.def("encrypt_counters", &encrypt_counters, "blocks"_a, "path"_a = "best",
          "Encrypt `blocks` counters (a multiple of 256) under one key, in the cache: how fast AES can be here. Returns the first of the last 256.");
    m.def("aes_encrypt", &aes_encrypt, "keys"_a.noconvert(), "blocks"_a.noconvert(), "path"_a = "best",
          "Encrypt row i of `blocks` (count, 16) with AES-128 under row i of `keys` (count, 16).");
    m.def("prg", &prg, "seed"_a, "byte_count"_a, "counter"_a = 0, "path"_a = "best",
          "AES-128 in counter mode: the stream of a 16-byte seed from block `counter` on; the counter is the lower half of the block.");
    m.def("prg_rows", &prg_rows, "seeds"_a.noconvert(), "row_bytes"_a, "counter"_a = 0, "path"_a = "best",
          "Row i is what `prg` makes of seed i (rows, 16).");
}

}  // namespace autoprivacy
