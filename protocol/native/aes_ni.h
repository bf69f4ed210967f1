// AES-128 with the instructions of x86-64, keys expanded on the fly. Compiled for any x86-64, run only where
// best_aes_path() says so.
#pragma once

#include "block.h"

#if AUTOPRIVACY_X86
#include <immintrin.h>

#define AUTOPRIVACY_AESNI __attribute__((target("aes,sse4.1")))
#define AUTOPRIVACY_AESNI_INLINE __attribute__((target("aes,sse4.1"), always_inline)) inline

namespace autoprivacy::aesni {

// The next round key. AESENCLAST on a register of four equal words does SubWord (ShiftRows then has no effect), which unlike
// AESKEYGENASSIST is pipelined; the shuffle before it does RotWord and the broadcast.
AUTOPRIVACY_AESNI_INLINE __m128i next_round_key(__m128i key, __m128i round_constant) {
    const __m128i rotate_last_word = _mm_set1_epi32(0x0C0F0E0D);
    const __m128i word = _mm_aesenclast_si128(_mm_shuffle_epi8(key, rotate_last_word), round_constant);
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, word);
}

constexpr int kRoundConstants[10] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1B, 0x36};

// Encrypt per_key blocks under each of `keys` keys: block k + keys * j under key k.
template <int keys, int per_key>
AUTOPRIVACY_AESNI_INLINE void encrypt(__m128i* key, __m128i* blocks) {
#pragma GCC unroll 32
    for (int i = 0; i < keys * per_key; ++i) blocks[i] = _mm_xor_si128(blocks[i], key[i % keys]);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
        const __m128i constant = _mm_set1_epi32(kRoundConstants[round]);
#pragma GCC unroll 32
        for (int k = 0; k < keys; ++k) key[k] = next_round_key(key[k], constant);
#pragma GCC unroll 32
        for (int i = 0; i < keys * per_key; ++i) {
            blocks[i] = round == 9 ? _mm_aesenclast_si128(blocks[i], key[i % keys]) : _mm_aesenc_si128(blocks[i], key[i % keys]);
        }
    }
}

// As portable::encrypt_each.
AUTOPRIVACY_AESNI inline void encrypt_each(const std::uint8_t* keys, const std::uint8_t* in, std::uint8_t* out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        __m128i key = _mm_loadu_si128(reinterpret_cast<const __m128i*>(keys) + i);
        __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in) + i);
        encrypt<1, 1>(&key, &block);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + i, block);
    }
}

// As portable::expand.
AUTOPRIVACY_AESNI inline void expand(Block seed, std::uint64_t first, std::uint8_t* out, std::size_t count) {
    __m128i round_keys[11];
    round_keys[0] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(&seed));
    for (int r = 0; r < 10; ++r) round_keys[r + 1] = next_round_key(round_keys[r], _mm_set1_epi32(kRoundConstants[r]));
    constexpr std::size_t width = 8;
    for (std::size_t done = 0; done < count; done += width) {
        __m128i blocks[width];
        for (std::size_t i = 0; i < width; ++i) {
            blocks[i] = _mm_xor_si128(_mm_set_epi64x(0, static_cast<long long>(first + done + i)), round_keys[0]);
        }
        for (int r = 1; r < 10; ++r) {
            for (auto& block : blocks) block = _mm_aesenc_si128(block, round_keys[r]);
        }
        for (auto& block : blocks) block = _mm_aesenclast_si128(block, round_keys[10]);
        const std::size_t here = count - done < width ? count - done : width;
        std::memcpy(out + done * sizeof(Block), blocks, here * sizeof(Block));
    }
}

}  // namespace autoprivacy::aesni
#endif
