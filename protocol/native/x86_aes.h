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
    std::uint32_t first_word[4 * kWidth];
};

constexpr ScheduleConstants schedule_constants() {
    // RotWord and the inverse of AESENCLAST's ShiftRows in one shuffle.
    constexpr std::uint8_t order[16] = {1, 14, 11, 4, 5, 2, 15, 8, 9, 6, 3, 12, 13, 10, 7, 0};
    ScheduleConstants all{};
    for (int r = 0; r < 10; ++r) {
        for (std::uint32_t& word : all.round[r]) word = kRoundConstants[r];
    }
    for (int i = 0; i < 16 * kWidth; ++i) all.order[i] = order[i % 16];
    for (int l = 0; l < kWidth; ++l) all.first_word[4 * l] = 0xFFFFFFFF;
    return all;
}

alignas(64) constexpr ScheduleConstants kScheduleConstants = schedule_constants();

// Four key schedules for each block of a vector at once: word[j] holds word j of keys 0, 1, 2, 3; two rounds of unpacking make the keys
// of it.
//
// The next word 3 is SubWord(RotWord(word 3)) ^ word 0 ^ word 1 ^ word 2 ^ word 3 ^ constant, and AESENCLAST adds what `sum` holds of that. The
// sum of the next four words is word 1 ^ word 3, so that one AESENCLAST for four keys and its shuffle are the only chain.
struct FourKeys {
    V word[4], sum_of_words;

    // Keys 2 * pair and 2 * pair + 1.
    AUTOPRIVACY_METHOD void pair(int pair, V key[2]) const {
        const V a = pair == 0 ? unpack_lo32(word[0], word[1]) : unpack_hi32(word[0], word[1]);
        const V b = pair == 0 ? unpack_lo32(word[2], word[3]) : unpack_hi32(word[2], word[3]);
        key[0] = unpack_lo64(a, b);
        key[1] = unpack_hi64(a, b);
    }

    AUTOPRIVACY_METHOD V next_last(const ScheduleConstants* constants) const {
        return encrypt_last(shuffle8(word[3], load(constants->order)), sum_of_words);
    }

    // `last` is what next_last gave; `round`: which keys these are.
    AUTOPRIVACY_METHOD void next(V last, int round, const ScheduleConstants* constants) {
        if (round < 9) sum_of_words = sum(word[1], word[3], load(constants->round[round + 1]));
        const V two = sum(word[3], last), one = sum(word[2], two);
        word[0] = sum(word[1], one);
        word[1] = one;
        word[2] = two;
        word[3] = last;
    }
};

// The keys start ^ j for many tweaks j. The tweak is in word 0, so that SubWord sees it only from round key 1 on, which is that of tweak
// 0 with j in all four words.
struct TweakedKeys {
    V start, one, word[4], sum_of_words;  // round keys 0 and 1, and the words of the latter, all for tweak 0
    V offset[4], offsets;                 // of tweaks: of key k in all words, of key k in word k

    explicit TweakedKeys(Block key) : start(broadcast(key)) {
        const __m128i second = next_round_key(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&key)), kRoundConstants[0]);
        one = broadcast(second);
        std::uint32_t words[4], each[4][4 * kWidth], all[4 * kWidth];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(words), second);
        for (int j = 0; j < 4; ++j) word[j] = set32(words[j]);
        sum_of_words = sum(sum(word[0], word[1]), sum(word[2], word[3]), set32(kRoundConstants[1]));
        for (std::uint32_t i = 0; i < 4 * kWidth; ++i) {
            for (std::uint32_t k = 0; k < 4; ++k) each[k][i] = 2 * (kWidth * (k / 2) + i / 4) + k % 2;
            all[i] = each[i % 4][i];
        }
        for (int k = 0; k < 4; ++k) offset[k] = load(each[k]);
        offsets = load(all);
    }

    // The words of round keys 1.
    AUTOPRIVACY_METHOD FourKeys words(V first) const {
        const V tweaks = add32(first, offsets);
        return {{tweaks, sum(word[1], tweaks), sum(word[2], tweaks), sum(word[3], tweaks)}, sum_of_words};
    }
};

// out[k] = AES(key k, in[k]), k < 4, under the four keys of each block: garbler half, evaluator half of vector 0, then of vector 1. With two
// per_key also out[4 + k] = out[k] ^ AES(key k, in[k] ^ difference) ^ difference. The empty assembly statement keeps the order written here,
// which compilers undo: what the next keys wait for comes first, then what fills the time.
template <int per_key, class Meanwhile>
AUTOPRIVACY_INLINE void encrypt_under_four(const TweakedKeys& tweaked, std::uint32_t first_tweak, V difference, const V* in, V* out, const Meanwhile& meanwhile) {
    const ScheduleConstants* constants = &kScheduleConstants;
    asm("" : "+r"(constants));
    const V first = set32(first_tweak);
    FourKeys keys = tweaked.words(first);
    V blocks[4 * per_key];
    V last = keys.next_last(constants);
    asm volatile("" : AUTOPRIVACY_REGISTER(last));
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        const V tweak = add32(first, tweaked.offset[k]), key = sum(tweaked.one, tweak);
        const V block = sum_where(sum(in[k], tweaked.start), tweak, load(constants->first_word));
        blocks[k] = encrypt_round(block, key);
        if constexpr (per_key == 2) blocks[4 + k] = encrypt_round(sum(block, difference), key);
    }
    keys.next(last, 1, constants);
    meanwhile(1);
#pragma GCC unroll 9
    for (int round = 2; round <= 10; ++round) {
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
                    block = round == 10 ? encrypt_last(block, key[k]) : encrypt_round(block, key[k]);
                }
            }
        }
        if (round != 10) keys.next(last, round, constants);
        meanwhile(round);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 4 * per_key; ++i) out[i] = i < 4 ? blocks[i] : sum(blocks[i], blocks[i - 4], difference);
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
