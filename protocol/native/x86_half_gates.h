// Half gates [HalfGates] on vectors of labels: the same gate of several instances at once.
#pragma once

#include "walk.h"
#include "x86_aes.h"

namespace autoprivacy {
namespace {

constexpr std::size_t kChunkX86 = AUTOPRIVACY_CHUNK;
using Labels = Scratch<kChunkX86>;

// The tweak of a half gate in vector v of a group: twice its row, plus the half. As offsets from the group's first row.
AUTOPRIVACY_INLINE V offsets_of(int v, std::uint32_t half) {
    std::uint32_t words[4 * kWidth] = {};
    for (int l = 0; l < kWidth; ++l) words[4 * l] = 2 * static_cast<std::uint32_t>(kWidth * v + l) + half;
    return load(words);
}

// Word 0 of the keys of vectors v and v + 1, transposed: garbler half, evaluator half of v, then of v + 1.
AUTOPRIVACY_INLINE V key_offsets(int v) {
    std::uint32_t words[4 * kWidth];
    for (std::uint32_t k = 0; k < 4; ++k) {
        for (std::uint32_t l = 0; l < kWidth; ++l) words[4 * l + k] = 2 * (kWidth * (static_cast<std::uint32_t>(v) + k / 2) + l) + k % 2;
    }
    return load(words);
}

AUTOPRIVACY_INLINE std::uint32_t word_of(Block x, int j) { return static_cast<std::uint32_t>((j < 2 ? x.lo : x.hi) >> (32 * (j % 2))); }

// in: prepared labels of a and b of one vector of instances, then of the next. out[k] is the hash of in[k] less what `rest` gives, and, for
// the garbler (per_tweak two), out[4 + k] is the hash of label k xored to that of the label that differs by Delta.
struct Rekeyed {
    V word[4], offsets;

    explicit Rekeyed(Block start) : offsets(key_offsets(0)) {
        for (int j = 0; j < 4; ++j) word[j] = set32(word_of(start, j));
    }
    AUTOPRIVACY_METHOD static V prepare(V label) { return sigma(label); }
    template <int per_tweak>
    AUTOPRIVACY_METHOD void hash(const V* in, V difference, V* out, std::uint32_t row) const {
        encrypt_under_four<per_tweak>(sum(word[0], add32(set32(2 * row), offsets)), word[1], word[2], word[3], difference, in, out);
    }
    AUTOPRIVACY_METHOD static V rest(V prepared) { return prepared; }
    AUTOPRIVACY_METHOD static V rest_of_pair(V difference) { return difference; }
};

struct Tmmo {
    OneKey key;
    V offsets[4];

    explicit Tmmo(const Block* round_keys) : key(round_keys), offsets{offsets_of(0, 0), offsets_of(0, 1), offsets_of(1, 0), offsets_of(1, 1)} {}
    AUTOPRIVACY_METHOD static V prepare(V label) { return label; }
    template <int per_tweak>
    AUTOPRIVACY_METHOD void hash(const V* in, V difference, V* out, std::uint32_t row) const {
        hash_of<per_tweak>(in, difference, out, broadcast(_mm_cvtsi32_si128(static_cast<int>(2 * row))));
    }
    AUTOPRIVACY_METHOD static V rest(V) { return zero(); }
    AUTOPRIVACY_METHOD static V rest_of_pair(V) { return zero(); }

private:
    template <int per_tweak>
    __attribute__((noinline)) void hash_of(const V* in, V difference, V* out, V tweak) const {
        V blocks[4 * per_tweak], once[4 * per_tweak];
#pragma GCC unroll 8
        for (int i = 0; i < 4 * per_tweak; ++i) blocks[i] = i < 4 ? in[i] : sum(in[i - 4], difference);
        encrypt_under_one<4 * per_tweak>(key, blocks);
#pragma GCC unroll 8
        for (int i = 0; i < 4 * per_tweak; ++i) {
            once[i] = blocks[i];
            blocks[i] = sum(blocks[i], add32(tweak, offsets[i % 4]));
        }
        encrypt_under_one<4 * per_tweak>(key, blocks);
#pragma GCC unroll 8
        for (int i = 0; i < 4 * per_tweak; ++i) {
            blocks[i] = sum(blocks[i], once[i]);
            out[i] = i < 4 ? blocks[i] : sum(blocks[i], blocks[i - 4]);
        }
    }
};

constexpr std::size_t kGroup = 2 * kWidth;  // instances of an AND gate at once
static_assert(kChunkX86 % kGroup == 0);

AUTOPRIVACY_INLINE void xor_vectors(Labels& labels, const Instruction& instruction) {
    const Block *a = labels.at(instruction.a), *b = labels.at(instruction.a2), *c = labels.at(instruction.c);
    Block* out = labels.at(instruction.out);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kChunkX86; i += kWidth) store(out + i, sum(load(a + i), load(b + i), load(c + i)));
}

// The two labels that enter an AND gate, less their complements: where they are, and of which sums they are made.
struct Operands {
    const Block *a, *a2, *b, *b2;
    V not_a, not_b;

    AUTOPRIVACY_METHOD Operands(Labels& labels, const Instruction& instruction, V delta)
        : a(labels.at(instruction.a)), a2(labels.at(instruction.a2)), b(labels.at(instruction.b)), b2(labels.at(instruction.b2)),
          not_a(instruction.not_a ? delta : zero()), not_b(instruction.not_b ? delta : zero()) {}
    AUTOPRIVACY_METHOD V first(std::size_t i) const { return sum(load(a + i), load(a2 + i), not_a); }
    AUTOPRIVACY_METHOD V second(std::size_t i) const { return sum(load(b + i), load(b2 + i), not_b); }
};

// Hashes the operands of a whole chunk, then finish(i, rows of the table) makes of them what comes out. In separate loops: each keeps the processor
// busy over several iterations, which one loop over everything is too long for.
template <int per_tweak, class Hasher, class Byte, class Finish>
AUTOPRIVACY_INLINE void for_groups(const Hasher& hasher, const Operands& operands, V difference, V (*hashes)[4 * per_tweak], V (*prepared)[4],
                                   Byte* table, std::uint32_t row, std::size_t count, const Finish& finish) {
    const std::size_t groups = (count + kGroup - 1) / kGroup;
    for (std::size_t g = 0; g < groups; ++g) {
#pragma GCC unroll 2
        for (std::size_t v = 0; v < 2; ++v) {
            prepared[g][2 * v] = Hasher::prepare(operands.first(kGroup * g + kWidth * v));
            prepared[g][2 * v + 1] = Hasher::prepare(operands.second(kGroup * g + kWidth * v));
        }
    }
    for (std::size_t g = 0; g < groups; ++g) {
        hasher.template hash<per_tweak>(prepared[g], difference, hashes[g], row + static_cast<std::uint32_t>(kGroup * g));
    }
    std::size_t g = 0;
    for (; (g + 1) * kGroup <= count; ++g) finish(g, table + g * kGroup * kTableBytes);
    if (g == groups) return;
    std::uint8_t rest[kGroup * kTableBytes] = {};  // the rows of a group that is not whole
    const std::size_t size = (count - g * kGroup) * kTableBytes;
    if constexpr (per_tweak == 1) std::memcpy(rest, table + g * kGroup * kTableBytes, size);
    finish(g, rest);
    if constexpr (per_tweak == 2) std::memcpy(table + g * kGroup * kTableBytes, rest, size);
}

template <class Hasher>
struct Garbler {
    Hasher hasher;
    Block difference;

    Block delta() const { return difference; }
    AUTOPRIVACY_METHOD void xor_gate(Labels& labels, const Instruction& instruction) const { xor_vectors(labels, instruction); }

    void and_gate(Labels& labels, const Instruction& instruction, std::uint8_t* table, std::uint32_t row, std::size_t count) const {
        const V delta = broadcast(difference), image = Hasher::prepare(delta), pair = Hasher::rest_of_pair(image);
        const Operands operands(labels, instruction, delta);
        const Block* c = labels.at(instruction.c);
        Block* out = labels.at(instruction.out);
        V prepared[kChunkX86 / kGroup][4], hashes[kChunkX86 / kGroup][8];
        for_groups<2>(hasher, operands, image, hashes, prepared, table, row, count, [&](std::size_t g, std::uint8_t* rows) __attribute__((always_inline)) {
#pragma GCC unroll 2
            for (std::size_t v = 0; v < 2; ++v) {
                const std::size_t i = kGroup * g + kWidth * v;
                const V a = operands.first(i), mask_a = colour_mask(a), mask_b = colour_mask(operands.second(i));
                const V* hash = hashes[g] + 2 * v;
                const V garbler = sum(hash[4], pair, both(delta, mask_b));
                const V change = sum(hash[5], pair);  // the evaluator half without label a
                store_rows(rows + v * kWidth * kTableBytes, garbler, sum(change, a));
                const V zeros = sum(sum(hash[0], hash[1]), sum(Hasher::rest(prepared[g][2 * v]), Hasher::rest(prepared[g][2 * v + 1])));
                store(out + i, sum(zeros, both(garbler, mask_a), both(change, mask_b), load(c + i)));
            }
        });
    }
};

template <class Hasher>
struct Evaluator {
    Hasher hasher;

    Block delta() const { return {0, 0}; }
    AUTOPRIVACY_METHOD void xor_gate(Labels& labels, const Instruction& instruction) const { xor_vectors(labels, instruction); }

    void and_gate(Labels& labels, const Instruction& instruction, const std::uint8_t* table, std::uint32_t row, std::size_t count) const {
        const Operands operands(labels, instruction, zero());
        const Block* c = labels.at(instruction.c);
        Block* out = labels.at(instruction.out);
        V prepared[kChunkX86 / kGroup][4], hashes[kChunkX86 / kGroup][4];
        for_groups<1>(hasher, operands, zero(), hashes, prepared, table, row, count, [&](std::size_t g, const std::uint8_t* rows) __attribute__((always_inline)) {
#pragma GCC unroll 2
            for (std::size_t v = 0; v < 2; ++v) {
                const std::size_t i = kGroup * g + kWidth * v;
                const V a = operands.first(i), mask_a = colour_mask(a), mask_b = colour_mask(operands.second(i));
                const V* hash = hashes[g] + 2 * v;
                V garbler, evaluator;
                load_rows(rows + v * kWidth * kTableBytes, garbler, evaluator);
                const V own = sum(sum(hash[0], hash[1]), sum(Hasher::rest(prepared[g][2 * v]), Hasher::rest(prepared[g][2 * v + 1])));
                store(out + i, sum(own, both(garbler, mask_a), both(sum(evaluator, a), mask_b), load(c + i)));
            }
        });
    }
};

void garble(const Program& program, const GarbleJob& job, Hash hash) {
    if (hash == Hash::rekeyed) {
        const Garbler<Rekeyed> gates{Rekeyed(job.start), job.delta};
        walk<kChunkX86>(program, job, gates);
    } else {
        Block round_keys[11];
        round_keys_of(job.start, round_keys);
        const Garbler<Tmmo> gates{Tmmo(round_keys), job.delta};
        walk<kChunkX86>(program, job, gates);
    }
}

void evaluate(const Program& program, const EvaluateJob& job, Hash hash) {
    if (hash == Hash::rekeyed) {
        const Evaluator<Rekeyed> gates{Rekeyed(job.start)};
        walk<kChunkX86>(program, job, gates);
    } else {
        Block round_keys[11];
        round_keys_of(job.start, round_keys);
        const Evaluator<Tmmo> gates{Tmmo(round_keys)};
        walk<kChunkX86>(program, job, gates);
    }
}

}  // namespace
}  // namespace autoprivacy
