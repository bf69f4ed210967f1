// A few 128-bit blocks in one register of x86-64. AUTOPRIVACY_WIDTH says how many: 1 (SSE4.1, AES-NI), 2 (AVX2, VAES) or
// 4 (AVX-512 F, BW, VL, VAES). Included by one source file for each width, which is compiled for those instructions.
#pragma once

#include <immintrin.h>

#include "block.h"

#define AUTOPRIVACY_METHOD __attribute__((always_inline)) inline
#define AUTOPRIVACY_INLINE static AUTOPRIVACY_METHOD

namespace autoprivacy {
namespace {

#if AUTOPRIVACY_WIDTH == 1
#define AUTOPRIVACY_OP(name, suffix) _mm_##name##_##suffix
#define AUTOPRIVACY_BITS(name) _mm_##name##_si128
typedef __m128i V;
#elif AUTOPRIVACY_WIDTH == 2
#define AUTOPRIVACY_OP(name, suffix) _mm256_##name##_##suffix
#define AUTOPRIVACY_BITS(name) _mm256_##name##_si256
typedef __m256i V;
#else
#define AUTOPRIVACY_OP(name, suffix) _mm512_##name##_##suffix
#define AUTOPRIVACY_BITS(name) _mm512_##name##_si512
typedef __m512i V;
#endif

#if AUTOPRIVACY_WIDTH == 4
#define AUTOPRIVACY_REGISTER "+v"
#else
#define AUTOPRIVACY_REGISTER "+x"
#endif

constexpr int kWidth = AUTOPRIVACY_WIDTH;

AUTOPRIVACY_INLINE V zero() { return AUTOPRIVACY_BITS(setzero)(); }
AUTOPRIVACY_INLINE V both(V a, V b) { return AUTOPRIVACY_BITS(and)(a, b); }
AUTOPRIVACY_INLINE V either(V a, V b) { return AUTOPRIVACY_BITS(xor)(a, b); }
AUTOPRIVACY_INLINE V set32(std::uint32_t x) { return AUTOPRIVACY_OP(set1, epi32)(static_cast<int>(x)); }
AUTOPRIVACY_INLINE V add32(V a, V b) { return AUTOPRIVACY_OP(add, epi32)(a, b); }
AUTOPRIVACY_INLINE V add64(V a, V b) { return AUTOPRIVACY_OP(add, epi64)(a, b); }
AUTOPRIVACY_INLINE V sub32(V a, V b) { return AUTOPRIVACY_OP(sub, epi32)(a, b); }
AUTOPRIVACY_INLINE V unpack_lo32(V a, V b) { return AUTOPRIVACY_OP(unpacklo, epi32)(a, b); }
AUTOPRIVACY_INLINE V unpack_hi32(V a, V b) { return AUTOPRIVACY_OP(unpackhi, epi32)(a, b); }
AUTOPRIVACY_INLINE V unpack_lo64(V a, V b) { return AUTOPRIVACY_OP(unpacklo, epi64)(a, b); }
AUTOPRIVACY_INLINE V unpack_hi64(V a, V b) { return AUTOPRIVACY_OP(unpackhi, epi64)(a, b); }
AUTOPRIVACY_INLINE V shuffle8(V a, V order) { return AUTOPRIVACY_OP(shuffle, epi8)(a, order); }

#if AUTOPRIVACY_WIDTH == 1
AUTOPRIVACY_INLINE V load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
AUTOPRIVACY_INLINE void store(void* to, V x) { _mm_storeu_si128(static_cast<__m128i*>(to), x); }
AUTOPRIVACY_INLINE V broadcast(__m128i x) { return x; }
AUTOPRIVACY_INLINE V encrypt_round(V x, V key) { return _mm_aesenc_si128(x, key); }
AUTOPRIVACY_INLINE V encrypt_last(V x, V key) { return _mm_aesenclast_si128(x, key); }
#elif AUTOPRIVACY_WIDTH == 2
AUTOPRIVACY_INLINE V load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
AUTOPRIVACY_INLINE void store(void* to, V x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }
AUTOPRIVACY_INLINE V broadcast(__m128i x) { return _mm256_broadcastsi128_si256(x); }
AUTOPRIVACY_INLINE V encrypt_round(V x, V key) { return _mm256_aesenc_epi128(x, key); }
AUTOPRIVACY_INLINE V encrypt_last(V x, V key) { return _mm256_aesenclast_epi128(x, key); }
#else
AUTOPRIVACY_INLINE V load(const void* from) { return _mm512_loadu_si512(from); }
AUTOPRIVACY_INLINE void store(void* to, V x) { _mm512_storeu_si512(to, x); }
AUTOPRIVACY_INLINE V broadcast(__m128i x) { return _mm512_broadcast_i32x4(x); }
AUTOPRIVACY_INLINE V encrypt_round(V x, V key) { return _mm512_aesenc_epi128(x, key); }
AUTOPRIVACY_INLINE V encrypt_last(V x, V key) { return _mm512_aesenclast_epi128(x, key); }
#endif

AUTOPRIVACY_INLINE V broadcast(Block x) { return broadcast(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&x))); }

// Of three at once where one instruction does it; and a ^ (b & c).
#if AUTOPRIVACY_WIDTH == 4
AUTOPRIVACY_INLINE V either(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
AUTOPRIVACY_INLINE V sum_where(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x78); }
#else
AUTOPRIVACY_INLINE V either(V a, V b, V c) { return either(either(a, b), c); }
AUTOPRIVACY_INLINE V sum_where(V a, V b, V c) { return either(a, both(b, c)); }
#endif

template <class... Rest>
AUTOPRIVACY_INLINE V sum(V a, V b, Rest... rest) {
    if constexpr (sizeof...(rest) == 0) {
        return either(a, b);
    } else if constexpr (sizeof...(rest) == 1) {
        return either(a, b, rest...);
    } else {
        return either(a, b, sum(rest...));
    }
}

#if AUTOPRIVACY_WIDTH == 4
AUTOPRIVACY_INLINE V swap_halves(V x) { return _mm512_shuffle_epi32(x, _MM_PERM_BADC); }
AUTOPRIVACY_INLINE V first_word(V x) { return _mm512_shuffle_epi32(x, _MM_PERM_AAAA); }
#else
AUTOPRIVACY_INLINE V swap_halves(V x) { return AUTOPRIVACY_OP(shuffle, epi32)(x, 0x4E); }
AUTOPRIVACY_INLINE V first_word(V x) { return AUTOPRIVACY_OP(shuffle, epi32)(x, 0x00); }
#endif

// As block.h's, on every block.
AUTOPRIVACY_INLINE V sigma(V x) { return sum_where(swap_halves(x), x, broadcast(_mm_set_epi64x(-1, 0))); }
AUTOPRIVACY_INLINE V colour_mask(V x) { return sub32(zero(), both(first_word(x), set32(1))); }

// Rows of two blocks each, first from `first`, second from `second`; and back.
AUTOPRIVACY_INLINE void store_rows(std::uint8_t* to, V first, V second) {
#if AUTOPRIVACY_WIDTH == 1
    store(to, first);
    store(to + 16, second);
#elif AUTOPRIVACY_WIDTH == 2
    store(to, _mm256_permute2x128_si256(first, second, 0x20));
    store(to + 32, _mm256_permute2x128_si256(first, second, 0x31));
#else
    store(to, _mm512_permutex2var_epi64(first, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), second));
    store(to + 64, _mm512_permutex2var_epi64(first, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), second));
#endif
}

AUTOPRIVACY_INLINE void load_rows(const std::uint8_t* from, V& first, V& second) {
#if AUTOPRIVACY_WIDTH == 1
    first = load(from);
    second = load(from + 16);
#elif AUTOPRIVACY_WIDTH == 2
    const auto part = [from](int k) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + k); };
    first = _mm256_inserti128_si256(_mm256_castsi128_si256(part(0)), part(2), 1);
    second = _mm256_inserti128_si256(_mm256_castsi128_si256(part(1)), part(3), 1);
#else
    const V low = load(from), high = load(from + 64);
    first = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), high);
    second = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), high);
#endif
}

}  // namespace
}  // namespace autoprivacy
