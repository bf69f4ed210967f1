// The path of any 64-bit machine: bit-sliced, 64 instances of a gate at once.
#include "aes_portable.h"
#include "transpose.h"
#include "walk.h"

namespace autoprivacy {
namespace {

using portable::kLanes;
using portable::State;

constexpr std::size_t kCount = kLanes / 2;
using Labels = Scratch<kCount>;

// Lane 2i takes the garbler half of instance i, lane 2i + 1 its evaluator half.
struct Operands {
    Block a[kCount], b[kCount];
};

Operands operands_of(Labels& labels, const Instruction& instruction, Block delta) {
    const Block *a1 = labels.at(instruction.a), *a2 = labels.at(instruction.a2), *b1 = labels.at(instruction.b);
    const Block* b2 = labels.at(instruction.b2);
    const Block not_a = delta & (std::uint64_t{0} - std::uint64_t{instruction.not_a});
    const Block not_b = delta & (std::uint64_t{0} - std::uint64_t{instruction.not_b});
    Operands operands;
    for (std::size_t i = 0; i < kCount; ++i) {
        operands.a[i] = a1[i] ^ a2[i] ^ not_a;
        operands.b[i] = b1[i] ^ b2[i] ^ not_b;
    }
    return operands;
}

std::uint32_t tweak_of(std::uint32_t row, std::size_t lane) { return 2 * row + static_cast<std::uint32_t>(lane); }

struct Rekeyed {
    Block start;

    static Block prepare(Block label) { return sigma(label); }

    // Lanes of sets[j] are hashed with the tweaks of their half gates.
    template <int per_tweak>
    void hash(Block (*sets)[kLanes], std::uint32_t row) const {
        Block lanes[kLanes];
        State key, states[per_tweak];
        for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] = {start.lo ^ tweak_of(row, lane), start.hi};
        load(key, lanes);
        for (int j = 0; j < per_tweak; ++j) load(states[j], sets[j]);
        encrypt(key, states, per_tweak);
        for (int j = 0; j < per_tweak; ++j) {
            store(states[j], lanes);
            for (std::size_t lane = 0; lane < kLanes; ++lane) sets[j][lane] = sets[j][lane] ^ lanes[lane];
        }
    }
};

struct Tmmo {
    Block start;

    static Block prepare(Block label) { return label; }

    void permute(Block lanes[kLanes]) const {
        Block keys[kLanes];
        State key, state;
        for (std::size_t lane = 0; lane < kLanes; ++lane) keys[lane] = start;
        load(key, keys);
        load(state, lanes);
        encrypt(key, &state, 1);
        store(state, lanes);
    }

    template <int per_tweak>
    void hash(Block (*sets)[kLanes], std::uint32_t row) const {
        for (int j = 0; j < per_tweak; ++j) {
            Block once[kLanes];
            permute(sets[j]);
            std::memcpy(static_cast<void*>(once), sets[j], sizeof once);
            for (std::size_t lane = 0; lane < kLanes; ++lane) sets[j][lane].lo ^= tweak_of(row, lane);
            permute(sets[j]);
            for (std::size_t lane = 0; lane < kLanes; ++lane) sets[j][lane] = sets[j][lane] ^ once[lane];
        }
    }
};

void xor_labels(Labels& labels, const Instruction& instruction) {
    const Block *a = labels.at(instruction.a), *b = labels.at(instruction.a2), *c = labels.at(instruction.c);
    Block* out = labels.at(instruction.out);
    for (std::size_t i = 0; i < kCount; ++i) out[i] = a[i] ^ b[i] ^ c[i];
}

template <class Hasher>
struct Garbler {
    Hasher hasher;
    Block difference;

    Block delta() const { return difference; }
    void xor_gate(Labels& labels, const Instruction& instruction) const { xor_labels(labels, instruction); }

    void and_gate(Labels& labels, const Instruction& instruction, std::uint8_t* table, std::uint32_t row, std::size_t count) const {
        const Operands in = operands_of(labels, instruction, difference);
        const Block image = Hasher::prepare(difference);
        Block hashes[2][kLanes];  // of zero labels, of one labels
        for (std::size_t i = 0; i < kCount; ++i) {
            hashes[0][2 * i] = Hasher::prepare(in.a[i]);
            hashes[0][2 * i + 1] = Hasher::prepare(in.b[i]);
            hashes[1][2 * i] = hashes[0][2 * i] ^ image;
            hashes[1][2 * i + 1] = hashes[0][2 * i + 1] ^ image;
        }
        hasher.template hash<2>(hashes, row);
        const Block* c = labels.at(instruction.c);
        Block* out = labels.at(instruction.out);
        for (std::size_t i = 0; i < count; ++i) {
            const Block g0 = hashes[0][2 * i], g1 = hashes[1][2 * i], e0 = hashes[0][2 * i + 1], e1 = hashes[1][2 * i + 1];
            const Block garbler = g0 ^ g1 ^ (difference & colour_mask(in.b[i])), change = e0 ^ e1;
            store_block(table + i * kTableBytes, garbler);
            store_block(table + i * kTableBytes + 16, change ^ in.a[i]);
            out[i] = g0 ^ (garbler & colour_mask(in.a[i])) ^ e0 ^ (change & colour_mask(in.b[i])) ^ c[i];
        }
    }
};

template <class Hasher>
struct Evaluator {
    Hasher hasher;

    Block delta() const { return {0, 0}; }
    void xor_gate(Labels& labels, const Instruction& instruction) const { xor_labels(labels, instruction); }

    void and_gate(Labels& labels, const Instruction& instruction, const std::uint8_t* table, std::uint32_t row,
                  std::size_t count) const {
        const Operands in = operands_of(labels, instruction, delta());
        Block hashes[1][kLanes];
        for (std::size_t i = 0; i < kCount; ++i) {
            hashes[0][2 * i] = Hasher::prepare(in.a[i]);
            hashes[0][2 * i + 1] = Hasher::prepare(in.b[i]);
        }
        hasher.template hash<1>(hashes, row);
        const Block* c = labels.at(instruction.c);
        Block* out = labels.at(instruction.out);
        for (std::size_t i = 0; i < count; ++i) {
            const Block garbler = load_block(table + i * kTableBytes), evaluator = load_block(table + i * kTableBytes + 16);
            out[i] = hashes[0][2 * i] ^ (garbler & colour_mask(in.a[i])) ^ hashes[0][2 * i + 1] ^
                     ((evaluator ^ in.a[i]) & colour_mask(in.b[i])) ^ c[i];
        }
    }
};

void garble(const Program& program, const GarbleJob& job, Hash hash) {
    if (hash == Hash::rekeyed) {
        walk<kCount>(program, job, Garbler<Rekeyed>{{job.start}, job.delta});
    } else {
        walk<kCount>(program, job, Garbler<Tmmo>{{job.start}, job.delta});
    }
}

void evaluate(const Program& program, const EvaluateJob& job, Hash hash) {
    if (hash == Hash::rekeyed) {
        walk<kCount>(program, job, Evaluator<Rekeyed>{{job.start}});
    } else {
        walk<kCount>(program, job, Evaluator<Tmmo>{{job.start}});
    }
}

}  // namespace

const Kernels kPortable = {"portable", portable::encrypt_each, portable::round_keys_of, portable::expand,
                           transpose_rows, garble, evaluate};

}  // namespace autoprivacy
