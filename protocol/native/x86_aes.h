// AES-128 [FIPS 197] on vectors of blocks, keys expanded on the fly. AESENCLAST on four equal words, or on words of four
// keys, does SubWord; unlike AESKEYGENASSIST it is pipelined.
#pragma once

#include "x86_vectors.h"

namespace autoprivacy {
namespace {

constexpr std::uint32_t kRoundConstants[10] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1B, 0x36};

// One key schedule a block.
AUTOPRIVACY_INLINE __m128i next_round_key(__m128i key, std::uint32_t round_constant) {
    const __m128i rotate_last_word = _mm_set1_epi32(0x0C0F0E0D);
    const __m128i word = _mm_aesenclast_si128(_mm_shuffle_epi8(key, rotate_last_word), _mm_set1_epi32(static_cast<int>(round_constant)));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, word);
}

// Constants that compilers would otherwise make anew, by way of general registers and shuffles, wherever they are used.
struct ScheduleConstants {
    std::uint32_t round[10][4 * kWidth];
    std::uint8_t order[16 * kWidth];
};

constexpr ScheduleConstants schedule_constants() {
    // RotWord and the inverse of AESENCLAST's ShiftRows in one shuffle.
    constexpr std::uint8_t order[16] = {1, 14, 11, 4, 5, 2, 15, 8, 9, 6, 3, 12, 13, 10, 7, 0};
    ScheduleConstants all{};
    for (int r = 0; r < 10; ++r) {
        for (std::uint32_t& word : all.round[r]) word = kRoundConstants[r];
    }
    for (int i = 0; i < 16 * kWidth; ++i) all.order[i] = order[i % 16];
    return all;
}

alignas(64) constexpr ScheduleConstants kScheduleConstants = schedule_constants();

// Four key schedules for each block of a vector at once. word[j] holds word j of keys 0, 1, 2, 3 for j < 2, and of keys 1, 0, 3, 2
// for the others: then two shuffles and two blends give two round keys, of which the odd one comes with its halves swapped. AES
// rounds do not mind, as ShiftRows commutes with a rotation of the columns; blocks under odd keys go in and come out swapped too.
//
// The next word 3 is SubWord(RotWord(word 3)) ^ word 0 ^ word 1 ^ word 2 ^ word 3 ^ constant, and AESENCLAST adds what `sum` holds of that. The
// sum of the next four words is word 1 ^ word 3, so that one AESENCLAST for four keys and its shuffle are the only chain.
struct FourKeys {
    V word[4], one_swapped, sum_of_words;  // one_swapped: word[1] in the order of word[3]

    // Keys 2 * pair, and 2 * pair + 1 with its halves swapped.
    AUTOPRIVACY_METHOD void pair(int pair, V key[2]) const {
        const V a = pair == 0 ? unpack_lo32(word[0], word[1]) : unpack_hi32(word[0], word[1]);
        const V b = pair == 0 ? unpack_lo32(word[2], word[3]) : unpack_hi32(word[2], word[3]);
        key[0] = low_then_high(a, b);
        key[1] = low_then_high(b, a);
    }

    AUTOPRIVACY_METHOD V next_last(const ScheduleConstants* constants) const {
        return encrypt_last(shuffle8(word[3], load(constants->order)), sum_of_words);
    }

    // `last` is what next_last gave; `round`: which keys these are.
    AUTOPRIVACY_METHOD void next(V last, int round, const ScheduleConstants* constants) {
        if (round < 9) sum_of_words = sum(one_swapped, word[3], load(constants->round[round + 1]));
        const V two = sum(word[3], last);
        one_swapped = sum(word[2], two);
        const V one = swap_words(one_swapped);
        word[0] = sum(word[1], one);
        word[1] = one;
        word[2] = two;
        word[3] = last;
    }
};

// out[k] = AES(key k, in[k]), k < 4, under the four keys of each block, odd ones with their halves swapped; with two per_key also
// out[4 + k] = out[k] ^ AES(key k, in[k] ^ difference[k % 2]). The empty assembly statement keeps the order written here, which compilers
// undo: what the next keys wait for comes first, then what fills the time.
template <int per_key, class Meanwhile>
AUTOPRIVACY_INLINE void encrypt_under_four(FourKeys keys, const V* difference, const V* in, V* out, const Meanwhile& meanwhile) {
    const ScheduleConstants* constants = &kScheduleConstants;
    asm("" : "+r"(constants));
    V blocks[4 * per_key];
#pragma GCC unroll 11
    for (int round = 0; round <= 10; ++round) {
        V last = zero();
        if (round != 10) {
            last = keys.next_last(constants);
            asm volatile("" : AUTOPRIVACY_REGISTER(last));
        }
#pragma GCC unroll 2
        for (int pair = 0; pair < 2; ++pair) {
            V key[2];
            keys.pair(pair, key);
#pragma GCC unroll 8
            for (int j = 0; j < per_key; ++j) {
#pragma GCC unroll 2
                for (int k = 0; k < 2; ++k) {
                    V& block = blocks[4 * j + 2 * pair + k];
                    if (round == 0) {
                        block = j == 0 ? sum(in[2 * pair + k], key[k]) : sum(blocks[2 * pair + k], difference[k]);
                    } else {
                        block = round == 10 ? encrypt_last(block, key[k]) : encrypt_round(block, key[k]);
                    }
                }
            }
        }
        if (round != 10) keys.next(last, round, constants);
        meanwhile(round);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 4 * per_key; ++i) out[i] = i < 4 ? blocks[i] : sum(blocks[i], blocks[i - 4]);
}

void round_keys_of(Block key, Block* out) {
    __m128i state = _mm_loadu_si128(reinterpret_cast<const __m128i*>(&key));
    for (int r = 0; r <= 10; ++r) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + r), state);
        if (r < 10) state = next_round_key(state, kRoundConstants[r]);
    }
}

// The eleven round keys of one key, in every block of a vector.
struct OneKey {
    V round[11];

    explicit OneKey(const Block* round_keys) {
        for (int r = 0; r <= 10; ++r) round[r] = broadcast(round_keys[r]);
    }
};

template <int count>
AUTOPRIVACY_INLINE void encrypt_under_one(const OneKey& key, V* blocks) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) blocks[i] = sum(blocks[i], key.round[0]);
#pragma GCC unroll 10
    for (int r = 1; r < 10; ++r) {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) blocks[i] = encrypt_round(blocks[i], key.round[r]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) blocks[i] = encrypt_last(blocks[i], key.round[10]);
}

void encrypt_each(const std::uint8_t* keys, const std::uint8_t* in, std::uint8_t* out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        __m128i key = _mm_loadu_si128(reinterpret_cast<const __m128i*>(keys) + i);
        __m128i block = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in) + i), key);
        for (int round = 0; round < 10; ++round) {
            key = next_round_key(key, kRoundConstants[round]);
            block = round == 9 ? _mm_aesenclast_si128(block, key) : _mm_aesenc_si128(block, key);
        }
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + i, block);
    }
}

void expand(const Block* round_keys, std::uint64_t first, std::uint8_t* out, std::size_t count) {
    constexpr int vectors = 8;
    constexpr std::size_t group = vectors * kWidth;
    const OneKey key(round_keys);
    Block counters[kWidth];
    for (std::size_t i = 0; i < kWidth; ++i) counters[i] = {first + i, 0};
    V counter = load(counters);
    const V step = broadcast(_mm_set_epi64x(0, kWidth));
    for (std::size_t done = 0; done < count; done += group) {
        V blocks[vectors];
#pragma GCC unroll 8
        for (int i = 0; i < vectors; ++i) {
            blocks[i] = counter;
            counter = add64(counter, step);
        }
        encrypt_under_one<vectors>(key, blocks);
        if (count - done >= group) {
#pragma GCC unroll 8
            for (int i = 0; i < vectors; ++i) store(out + 16 * (done + static_cast<std::size_t>(kWidth * i)), blocks[i]);
        } else {
            std::memcpy(out + 16 * done, blocks, 16 * (count - done));
        }
    }
}

}  // namespace
}  // namespace autoprivacy
