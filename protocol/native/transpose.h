// Transposing bit matrices.
#pragma once

#include "block.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

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

// As transpose_rows, a square of 128 x 128 bits at a time with AVX2: the blocks of rows v and v + 64 share a vector, so that every step from 32
// down to 1 swaps parts of two vectors. Eight vectors at a time stay in registers for three steps.
#if defined(__AVX2__)
template <int step>
static inline void swap_parts(__m256i& a, __m256i& b) {
    if constexpr (step == 32) {
        const __m256i low = _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xAA);
        b = _mm256_blend_epi32(_mm256_srli_epi64(a, 32), b, 0xAA);
        a = low;
    } else if constexpr (step == 16) {
        const __m256i low = _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA);
        b = _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xAA);
        a = low;
    } else {
        constexpr int mask = step == 8 ? 0x00FF00FF : step == 4 ? 0x0F0F0F0F : step == 2 ? 0x33333333 : 0x55555555;
        const __m256i swap = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi32(a, step), b), _mm256_set1_epi32(mask));
        b = _mm256_xor_si256(b, swap);
        a = _mm256_xor_si256(a, _mm256_slli_epi32(swap, step));
    }
}

template <int step>
static inline void swap_in_eight(__m256i v[8]) {
    constexpr int distance = step >= 8 ? step / 8 : step;
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
        if ((i & distance) == 0) swap_parts<step>(v[i], v[i + distance]);
    }
}

static inline void transpose_rows_avx2(const std::uint8_t* rows, std::size_t stride, std::size_t bytes, std::uint8_t* out) {
    const auto row = [rows, stride](int i, std::size_t column) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + static_cast<std::size_t>(i) * stride + column));
    };
    for (std::size_t column = 0; column < bytes; column += 16, out += 128 * sizeof(Block)) {
        __m256i all[64];
        for (int first = 0; first < 8; ++first) {
            __m256i v[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) {
                const int r = first + 8 * i;
                // Step 64: the lower halves of both rows, then the upper halves.
                const __m256i two = _mm256_inserti128_si256(_mm256_castsi128_si256(row(r, column)), row(r + 64, column), 1);
                v[i] = _mm256_permute4x64_epi64(two, 0xD8);
            }
            swap_in_eight<32>(v);
            swap_in_eight<16>(v);
            swap_in_eight<8>(v);
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) all[first + 8 * i] = v[i];
        }
        for (int first = 0; first < 64; first += 8) {
            __m256i v[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) v[i] = all[first + i];
            swap_in_eight<4>(v);
            swap_in_eight<2>(v);
            swap_in_eight<1>(v);
            auto* const to = reinterpret_cast<__m128i*>(out) + first;
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) {
                _mm_storeu_si128(to + i, _mm256_castsi256_si128(v[i]));
                _mm_storeu_si128(to + 64 + i, _mm256_extracti128_si256(v[i], 1));
            }
        }
    }
}
#endif

// See kernels.h.
static inline void transpose_rows(const std::uint8_t* rows, std::size_t stride, std::size_t bytes, std::uint8_t* out) {
#if defined(__AVX2__)
    transpose_rows_avx2(rows, stride, bytes, out);
#else
    Block square[128];
    for (std::size_t column = 0; column < bytes; column += 16) {
        for (std::size_t i = 0; i < 128; ++i) square[i] = load_block(rows + i * stride + column);
        transpose_128(square);
        std::memcpy(out + column * 8 * sizeof(Block), square, sizeof square);
    }
#endif
}

}  // namespace autoprivacy
