// A circuit prepared for running: NOT gates folded away, XORs fused into their neighbours, wires given places to reuse.
#pragma once

#include "block.h"

namespace autoprivacy {

enum Operation : std::int32_t { kAnd = 0, kXor = 1, kNot = 2 };

struct Gate {
    std::int32_t operation, a, b;
};
static_assert(sizeof(Gate) == 12);

// An instance's row of an AND gate: 16 bytes of garbler half, 16 bytes of evaluator half.
constexpr std::size_t kTableBytes = 32;

// Instances that run together. Rows of a batch are ordered by stripe, then gate, then instance within the stripe, so that
// whole stripes can be made and sent as they come; row r uses the tweaks 2r (garbler half) and 2r + 1 (evaluator half).
constexpr std::size_t kStripe = 64;

// and:  out = ((a ^ a2 ^ not_a) & (b ^ b2 ^ not_b)) ^ c      xor:  out = a ^ a2 ^ c
// Places are numbers of labels in the scratch memory; place 0 always holds zeros and stands for what is absent.
struct Instruction {
    bool is_and, not_a, not_b;
    std::uint32_t a, a2, b, b2, c, out;
    std::uint32_t and_gate;
};

struct Output {
    std::uint32_t place;
    bool complemented;
};

// What `compile` makes, as the kernels read it.
struct Program {
    const Instruction* instructions;
    std::size_t instruction_count;
    const Output* outputs;
    std::size_t output_count;
    std::size_t input_count;  // input i starts in place i + 1
    std::size_t places;
    std::size_t and_gates;
};

// Labels of one input wire for every instance, and, if bits is not null, what they stand for: the zero label is then
// labels[i] ^ bits[i] * delta.
struct InputWire {
    const std::uint8_t* labels;
    const std::uint8_t* bits;
};

struct GarbleJob {
    const InputWire* inputs;
    std::size_t instances;
    std::uint32_t first_row;
    Block delta, start;
    std::uint8_t* tables;        // rows of kTableBytes
    std::uint8_t* output_labels; // (outputs, instances) zero labels, or null
    std::uint8_t* colours;       // (outputs, instances) lowest bits of the zero labels, a byte each, or null
};

struct EvaluateJob {
    const InputWire* inputs;  // bits are null
    std::size_t instances;
    std::uint32_t first_row;
    Block start;
    const std::uint8_t* tables;
    std::uint8_t* output_labels;  // as above, of active labels
    std::uint8_t* colours;
};

}  // namespace autoprivacy
