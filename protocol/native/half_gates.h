// Half gates [HalfGates] with the re-keyed hash of [GKWWY20]: H(x, j) = AES(start ^ j, sigma(x)) ^ sigma(x).
//
// One gate list runs for many instances. Gate g makes wire inputs + g. The AND gate number m of instance i uses the tweaks
// 2 * (m * instances + i) for its garbler half and the next one for its evaluator half.
#pragma once

#include <vector>

#include "aes_ni.h"
#include "aes_portable.h"

namespace autoprivacy {

enum Operation : std::int32_t { kAnd = 0, kXor = 1, kNot = 2 };

struct Gate {
    std::int32_t operation, a, b;
};
static_assert(sizeof(Gate) == 12);

struct Secret {  // what both halves of a gate need besides labels
    Block delta;  // zero for the evaluator
    Block start;
};

// An instance's row of an AND gate: 16 bytes of garbler half, 16 bytes of evaluator half.
constexpr std::size_t kTableBytes = 32;
constexpr std::size_t kChunk = 64;  // instances whose labels of all wires should fit in the level-2 cache

namespace portable {

inline void tweak_keys(Block keys[kLanes], std::size_t count, Block start, std::uint32_t tweak) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const std::uint32_t used = lane < 2 * count ? tweak + static_cast<std::uint32_t>(lane) : tweak;
        keys[lane] = {start.lo ^ used, start.hi};
    }
}

inline void spread(Block lanes[kLanes], const Block* a, const Block* b, std::size_t count) {
    for (std::size_t i = 0; i < kLanes / 2; ++i) {
        lanes[2 * i] = i < count ? sigma(a[i]) : Block{0, 0};
        lanes[2 * i + 1] = i < count ? sigma(b[i]) : Block{0, 0};
    }
}

inline void garble_and(const Block* a, const Block* b, Block* out, std::uint8_t* table, std::size_t count, Secret secret,
                       std::uint32_t tweak) {
    Block keys[kLanes], zero[kLanes], one[kLanes], hash_zero[kLanes], hash_one[kLanes];
    State key, states[2];
    tweak_keys(keys, count, secret.start, tweak);
    spread(zero, a, b, count);
    for (std::size_t lane = 0; lane < kLanes; ++lane) one[lane] = zero[lane] ^ sigma(secret.delta);
    load(key, keys);
    load(states[0], zero);
    load(states[1], one);
    encrypt(key, states, 2);
    store(states[0], hash_zero);
    store(states[1], hash_one);
    for (std::size_t i = 0; i < count; ++i) {
        const Block g0 = hash_zero[2 * i] ^ zero[2 * i], g1 = hash_one[2 * i] ^ one[2 * i];
        const Block e0 = hash_zero[2 * i + 1] ^ zero[2 * i + 1], e1 = hash_one[2 * i + 1] ^ one[2 * i + 1];
        const Block garbler = g0 ^ g1 ^ (secret.delta & colour_mask(b[i]));
        const Block evaluator = e0 ^ e1 ^ a[i];
        store_block(table + i * kTableBytes, garbler);
        store_block(table + i * kTableBytes + 16, evaluator);
        out[i] = g0 ^ (garbler & colour_mask(a[i])) ^ e0 ^ ((evaluator ^ a[i]) & colour_mask(b[i]));
    }
}

inline void evaluate_and(const Block* a, const Block* b, Block* out, const std::uint8_t* table, std::size_t count, Secret secret,
                         std::uint32_t tweak) {
    Block keys[kLanes], labels[kLanes], hashes[kLanes];
    State key, state;
    tweak_keys(keys, count, secret.start, tweak);
    spread(labels, a, b, count);
    load(key, keys);
    load(state, labels);
    encrypt(key, &state, 1);
    store(state, hashes);
    for (std::size_t i = 0; i < count; ++i) {
        const Block garbler = load_block(table + i * kTableBytes), evaluator = load_block(table + i * kTableBytes + 16);
        out[i] = hashes[2 * i] ^ labels[2 * i] ^ (garbler & colour_mask(a[i])) ^ hashes[2 * i + 1] ^ labels[2 * i + 1] ^
                 ((evaluator ^ a[i]) & colour_mask(b[i]));
    }
}

}  // namespace portable

#if AUTOPRIVACY_X86
namespace aesni {

AUTOPRIVACY_AESNI_INLINE __m128i load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
AUTOPRIVACY_AESNI_INLINE void store(void* to, __m128i block) { _mm_storeu_si128(static_cast<__m128i*>(to), block); }

AUTOPRIVACY_AESNI_INLINE __m128i sigma(__m128i x) {
    const __m128i swapped = _mm_shuffle_epi32(x, 0x4E);
    return _mm_xor_si128(swapped, _mm_and_si128(x, _mm_set_epi64x(-1, 0)));
}

AUTOPRIVACY_AESNI_INLINE __m128i colour_mask(__m128i x) {
    const __m128i bit = _mm_and_si128(_mm_shuffle_epi32(x, 0), _mm_set1_epi32(1));
    return _mm_sub_epi32(_mm_setzero_si128(), bit);
}

// n instances at once, so that n * 2 key schedules and n * 4 encryptions are in flight.
template <int n>
AUTOPRIVACY_AESNI_INLINE void garble_and_n(const Block* a, const Block* b, Block* out, std::uint8_t* table, __m128i delta,
                                           __m128i start, std::uint32_t tweak) {
    __m128i keys[2 * n], inputs[4 * n], blocks[4 * n];
    const __m128i sigma_delta = sigma(delta);
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        keys[2 * i] = _mm_xor_si128(start, _mm_cvtsi32_si128(static_cast<int>(tweak + 2 * i)));
        keys[2 * i + 1] = _mm_xor_si128(start, _mm_cvtsi32_si128(static_cast<int>(tweak + 2 * i + 1)));
        inputs[2 * i] = sigma(load(a + i));
        inputs[2 * i + 1] = sigma(load(b + i));
        inputs[2 * n + 2 * i] = _mm_xor_si128(inputs[2 * i], sigma_delta);
        inputs[2 * n + 2 * i + 1] = _mm_xor_si128(inputs[2 * i + 1], sigma_delta);
    }
#pragma GCC unroll 32
    for (int i = 0; i < 4 * n; ++i) blocks[i] = inputs[i];
    encrypt<2 * n, 2>(keys, blocks);
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        const __m128i label_a = load(a + i), mask_a = colour_mask(label_a), mask_b = colour_mask(load(b + i));
        const __m128i g0 = _mm_xor_si128(blocks[2 * i], inputs[2 * i]);
        const __m128i e0 = _mm_xor_si128(blocks[2 * i + 1], inputs[2 * i + 1]);
        const __m128i g1 = _mm_xor_si128(blocks[2 * n + 2 * i], inputs[2 * n + 2 * i]);
        const __m128i e1 = _mm_xor_si128(blocks[2 * n + 2 * i + 1], inputs[2 * n + 2 * i + 1]);
        const __m128i garbler = _mm_xor_si128(_mm_xor_si128(g0, g1), _mm_and_si128(delta, mask_b));
        const __m128i difference = _mm_xor_si128(e0, e1);  // the evaluator half without label_a
        store(table + i * kTableBytes, garbler);
        store(table + i * kTableBytes + 16, _mm_xor_si128(difference, label_a));
        store(out + i, _mm_xor_si128(_mm_xor_si128(g0, _mm_and_si128(garbler, mask_a)),
                                     _mm_xor_si128(e0, _mm_and_si128(difference, mask_b))));
    }
}

template <int n>
AUTOPRIVACY_AESNI_INLINE void evaluate_and_n(const Block* a, const Block* b, Block* out, const std::uint8_t* table,
                                             __m128i start, std::uint32_t tweak) {
    __m128i keys[2 * n], inputs[2 * n], blocks[2 * n];
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        keys[2 * i] = _mm_xor_si128(start, _mm_cvtsi32_si128(static_cast<int>(tweak + 2 * i)));
        keys[2 * i + 1] = _mm_xor_si128(start, _mm_cvtsi32_si128(static_cast<int>(tweak + 2 * i + 1)));
        blocks[2 * i] = inputs[2 * i] = sigma(load(a + i));
        blocks[2 * i + 1] = inputs[2 * i + 1] = sigma(load(b + i));
    }
    encrypt<2 * n, 1>(keys, blocks);
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        const __m128i label_a = load(a + i), mask_a = colour_mask(label_a), mask_b = colour_mask(load(b + i));
        const __m128i garbler = load(table + i * kTableBytes), evaluator = load(table + i * kTableBytes + 16);
        const __m128i g = _mm_xor_si128(_mm_xor_si128(blocks[2 * i], inputs[2 * i]), _mm_and_si128(garbler, mask_a));
        const __m128i e = _mm_xor_si128(_mm_xor_si128(blocks[2 * i + 1], inputs[2 * i + 1]),
                                        _mm_and_si128(_mm_xor_si128(evaluator, label_a), mask_b));
        store(out + i, _mm_xor_si128(g, e));
    }
}

AUTOPRIVACY_AESNI inline void garble_and(const Block* a, const Block* b, Block* out, std::uint8_t* table, std::size_t count,
                                         Secret secret, std::uint32_t tweak) {
    const __m128i delta = load(&secret.delta), start = load(&secret.start);
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        garble_and_n<4>(a + i, b + i, out + i, table + i * kTableBytes, delta, start, tweak + static_cast<std::uint32_t>(2 * i));
    }
    for (; i < count; ++i) {
        garble_and_n<1>(a + i, b + i, out + i, table + i * kTableBytes, delta, start, tweak + static_cast<std::uint32_t>(2 * i));
    }
}

AUTOPRIVACY_AESNI inline void evaluate_and(const Block* a, const Block* b, Block* out, const std::uint8_t* table,
                                           std::size_t count, Secret secret, std::uint32_t tweak) {
    const __m128i start = load(&secret.start);
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        evaluate_and_n<4>(a + i, b + i, out + i, table + i * kTableBytes, start, tweak + static_cast<std::uint32_t>(2 * i));
    }
    for (; i < count; ++i) {
        evaluate_and_n<1>(a + i, b + i, out + i, table + i * kTableBytes, start, tweak + static_cast<std::uint32_t>(2 * i));
    }
}

}  // namespace aesni
#endif

struct Run {  // a checked circuit: every wire index is in range and every wire is made before it is used
    const Gate* gates;
    std::size_t gate_count;
    std::size_t input_count;
    const std::int32_t* outputs;
    std::size_t output_count;
    std::size_t instances;
};

// Walk the gates for chunks of instances. `and_gate(a, b, out, table row, count, secret, tweak)` does one AND gate.
// inputs, outputs: (wires, instances) blocks. With delta zero this evaluates, as NOT then keeps the label.
template <class Table, class AndGate>
inline void run_gates(const Run& run, const Block* inputs, Block* outputs, Table* tables, Secret secret, AndGate and_gate) {
    std::vector<Block> labels((run.input_count + run.gate_count) * kChunk);
    for (std::size_t first = 0; first < run.instances; first += kChunk) {
        const std::size_t count = run.instances - first < kChunk ? run.instances - first : kChunk;
        for (std::size_t wire = 0; wire < run.input_count; ++wire) {
            std::memcpy(&labels[wire * kChunk], inputs + wire * run.instances + first, count * sizeof(Block));
        }
        std::size_t row = first;  // AND gates so far * instances + first
        for (std::size_t g = 0; g < run.gate_count; ++g) {
            const Gate gate = run.gates[g];
            const Block* a = &labels[static_cast<std::size_t>(gate.a) * kChunk];
            const Block* b = &labels[static_cast<std::size_t>(gate.b) * kChunk];
            Block* out = &labels[(run.input_count + g) * kChunk];
            if (gate.operation == kAnd) {
                and_gate(a, b, out, tables + row * kTableBytes, count, secret, static_cast<std::uint32_t>(2 * row));
                row += run.instances;
            } else if (gate.operation == kXor) {
                for (std::size_t i = 0; i < count; ++i) out[i] = a[i] ^ b[i];
            } else {
                for (std::size_t i = 0; i < count; ++i) out[i] = a[i] ^ secret.delta;
            }
        }
        for (std::size_t k = 0; k < run.output_count; ++k) {
            std::memcpy(outputs + k * run.instances + first, &labels[static_cast<std::size_t>(run.outputs[k]) * kChunk],
                        count * sizeof(Block));
        }
    }
}

inline void garble(AesPath path, const Run& run, const Block* inputs, Block* outputs, std::uint8_t* tables, Secret secret) {
#if AUTOPRIVACY_X86
    if (path == AesPath::aesni) return run_gates(run, inputs, outputs, tables, secret, aesni::garble_and);
#endif
    (void)path;
    run_gates(run, inputs, outputs, tables, secret, portable::garble_and);
}

inline void evaluate(AesPath path, const Run& run, const Block* inputs, Block* outputs, const std::uint8_t* tables, Block start) {
    const Secret secret{{0, 0}, start};
#if AUTOPRIVACY_X86
    if (path == AesPath::aesni) return run_gates(run, inputs, outputs, tables, secret, aesni::evaluate_and);
#endif
    (void)path;
    run_gates(run, inputs, outputs, tables, secret, portable::evaluate_and);
}

}  // namespace autoprivacy
