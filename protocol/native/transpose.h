// Transposing bit matrices.
#pragma once

#include "block.h"

namespace autoprivacy {

// Transpose 128 x 128 bits in place: bit j of row i becomes bit i of row j. Recursive block swap.
static inline void transpose_128(Block rows[128]) {
    for (int i = 0; i < 64; ++i) {
        const std::uint64_t upper = rows[i].hi;
        rows[i].hi = rows[i + 64].lo;
        rows[i + 64].lo = upper;
    }
    std::uint64_t mask = 0x00000000FFFFFFFFULL;
    for (int step = 32; step != 0; step >>= 1, mask ^= mask << step) {
        for (int base = 0; base < 128; base += 2 * step) {
            for (int i = base; i < base + step; ++i) {
                Block& a = rows[i];
                Block& b = rows[i + step];
                const std::uint64_t swap_lo = ((a.lo >> step) ^ b.lo) & mask;
                const std::uint64_t swap_hi = ((a.hi >> step) ^ b.hi) & mask;
                a.lo ^= swap_lo << step;
                a.hi ^= swap_hi << step;
                b.lo ^= swap_lo;
                b.hi ^= swap_hi;
            }
        }
    }
}

// See kernels.h.
static inline void transpose_rows(const std::uint8_t* rows, std::size_t stride, std::size_t bytes, std::uint8_t* out) {
    Block square[128];
    for (std::size_t column = 0; column < bytes; column += 16) {
        for (std::size_t i = 0; i < 128; ++i) square[i] = load_block(rows + i * stride + column);
        transpose_128(square);
        std::memcpy(out + column * 8 * sizeof(Block), square, sizeof square);
    }
}

}  // namespace autoprivacy
