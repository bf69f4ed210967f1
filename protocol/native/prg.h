// AES-128 in counter mode, on whichever path.
#pragma once

#include "aes_ni.h"
#include "aes_portable.h"

namespace autoprivacy {

inline void expand(AesPath path, Block seed, std::uint64_t first, std::uint8_t* out, std::size_t count) {
#if AUTOPRIVACY_X86
    if (path == AesPath::aesni) return aesni::expand(seed, first, out, count);
#endif
    (void)path;
    portable::expand(seed, first, out, count);
}

inline void expand_bytes(AesPath path, Block seed, std::uint64_t first, std::uint8_t* out, std::size_t size) {
    const std::size_t whole = size / sizeof(Block), rest = size % sizeof(Block);
    expand(path, seed, first, out, whole);
    if (rest != 0) {
        std::uint8_t last[sizeof(Block)];
        expand(path, seed, first + whole, last, 1);
        std::memcpy(out + whole * sizeof(Block), last, rest);
    }
}

}  // namespace autoprivacy
