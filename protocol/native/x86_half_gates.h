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

// A hasher takes prepared labels, a and b of one vector of instances, then of the next. out[k] is the hash of in[k] less what `finish` adds, and,
// for the garbler (per_tweak two), out[4 + k] is the hash of label k xored to that of the label that differs by Delta, whose image is `difference`.
struct Rekeyed {
    TweakedKeys keys;

    explicit Rekeyed(Block start) : keys(start) {}
    AUTOPRIVACY_METHOD static V prepare(V label) { return sigma(label); }
    template <int per_tweak, class Meanwhile>
    AUTOPRIVACY_METHOD void hash(const V* in, V difference, V* out, std::uint32_t row, const Meanwhile& meanwhile) const {
        encrypt_under_four<per_tweak>(keys, 2 * row, difference, in, out, meanwhile);
    }
    AUTOPRIVACY_METHOD static V finish(const V* hash, const V* prepared) { return sum(hash[0], hash[1], prepared[0], prepared[1]); }
};

struct Tmmo {
    OneKey key;
    V offsets[4];

    explicit Tmmo(const Block* round_keys) : key(round_keys), offsets{offsets_of(0, 0), offsets_of(0, 1), offsets_of(1, 0), offsets_of(1, 1)} {}
    AUTOPRIVACY_METHOD static V prepare(V label) { return label; }
    template <int per_tweak, class Meanwhile>
    AUTOPRIVACY_METHOD void hash(const V* in, V difference, V* out, std::uint32_t row, const Meanwhile& meanwhile) const {
        hash_of<per_tweak>(in, difference, out, broadcast(_mm_cvtsi32_si128(static_cast<int>(2 * row))));
#pragma GCC unroll 10
        for (int round = 1; round <= 10; ++round) meanwhile(round);
    }
    AUTOPRIVACY_METHOD static V finish(const V* hash, const V*) { return sum(hash[0], hash[1]); }

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

// Hashes the operands of a whole chunk, and finish(v, rows of its table) makes of vector v what comes out. While one group is hashed, the group
// before is finished and the next one is prepared: a processor does not look far enough ahead to mix them by itself.
template <int per_tweak, class Hasher, class Byte, class Finish>
AUTOPRIVACY_INLINE void for_groups(const Hasher& hasher, const Operands& operands, V image, V (*raw)[2], V (*prepared)[2], V (*hashes)[4 * per_tweak],
                                   Byte* table, std::uint32_t row, std::size_t count, const Finish& finish) {
    const auto prepare = [&](std::size_t v) __attribute__((always_inline)) {
        raw[v][0] = operands.first(kWidth * v);
        raw[v][1] = operands.second(kWidth * v);
        prepared[v][0] = Hasher::prepare(raw[v][0]);
        prepared[v][1] = Hasher::prepare(raw[v][1]);
    };
    constexpr std::size_t vector_bytes = kWidth * kTableBytes;
    const std::size_t groups = (count + kGroup - 1) / kGroup;
    const auto hash = [&](std::size_t g, const auto& meanwhile) __attribute__((always_inline)) {
        hasher.template hash<per_tweak>(prepared[2 * g], image, hashes[g], row + static_cast<std::uint32_t>(kGroup * g), meanwhile);
    };
    prepare(0);
    prepare(1);
    const std::size_t last = groups - 1;
    hash(0, [&](int round) __attribute__((always_inline)) {
        if (round == 3) prepare(last == 0 ? 0 : 2);
        if (round == 6) prepare(last == 0 ? 1 : 3);
    });
    for (std::size_t g = 1; g < groups; ++g) {
        const std::size_t before = 2 * (g - 1), after = g == last ? before : 2 * (g + 1);
        hash(g, [&](int round) __attribute__((always_inline)) {
            if (round == 1) finish(before, table + before * vector_bytes);
            if (round == 3) finish(before + 1, table + (before + 1) * vector_bytes);
            if (round == 5) prepare(after);
            if (round == 7) prepare(after + 1);
        });
    }
    std::uint8_t rest[2 * vector_bytes] = {};  // the rows of the last group, which may not be whole
    const std::size_t size = (count - last * kGroup) * kTableBytes;
    if constexpr (per_tweak == 1) std::memcpy(rest, table + last * kGroup * kTableBytes, size);
    finish(2 * last, rest);
    finish(2 * last + 1, rest + vector_bytes);
    if constexpr (per_tweak == 2) std::memcpy(table + last * kGroup * kTableBytes, rest, size);
}

template <class Hasher>
struct Garbler {
    Hasher hasher;
    Block difference;

    Block delta() const { return difference; }
    AUTOPRIVACY_METHOD void xor_gate(Labels& labels, const Instruction& instruction) const { xor_vectors(labels, instruction); }

    void and_gate(Labels& labels, const Instruction& instruction, std::uint8_t* table, std::uint32_t row, std::size_t count) const {
        const V delta = broadcast(difference);
        const Operands operands(labels, instruction, delta);
        const Block* c = labels.at(instruction.c);
        Block* out = labels.at(instruction.out);
        V raw[kChunkX86 / kWidth][2], prepared[kChunkX86 / kWidth][2], hashes[kChunkX86 / kGroup][8];
        for_groups<2>(hasher, operands, Hasher::prepare(delta), raw, prepared, hashes, table, row, count, [&](std::size_t v, std::uint8_t* rows) __attribute__((always_inline)) {
            const std::size_t at = kWidth * v;
            const V* hash = hashes[v / 2] + 2 * (v % 2);
            const V a = raw[v][0], mask_a = colour_mask(a), mask_b = colour_mask(raw[v][1]);
            const V garbler = sum_where(hash[4], delta, mask_b), change = hash[5];  // the latter: the evaluator half without label a
            store_rows(rows, garbler, sum(change, a));
            const V zeros = Hasher::finish(hash, prepared[v]);
            store(out + at, sum_where(sum_where(sum(zeros, load(c + at)), garbler, mask_a), change, mask_b));
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
        V raw[kChunkX86 / kWidth][2], prepared[kChunkX86 / kWidth][2], hashes[kChunkX86 / kGroup][4];
        for_groups<1>(hasher, operands, zero(), raw, prepared, hashes, table, row, count, [&](std::size_t v, const std::uint8_t* rows) __attribute__((always_inline)) {
            const std::size_t at = kWidth * v;
            const V* hash = hashes[v / 2] + 2 * (v % 2);
            const V a = raw[v][0], mask_a = colour_mask(a), mask_b = colour_mask(raw[v][1]);
            V garbler, evaluator;
            load_rows(rows, garbler, evaluator);
            const V own = Hasher::finish(hash, prepared[v]);
            store(out + at, sum_where(sum_where(sum(own, load(c + at)), garbler, mask_a), sum(evaluator, a), mask_b));
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
