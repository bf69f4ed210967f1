// Running a program for all instances of a batch, on whichever path.
#pragma once

#include "kernels.h"

namespace autoprivacy {
namespace {

// Labels of every place for kChunk instances; as small as keeps the kernels busy, so that they stay in the first-level cache.
template <std::size_t kChunk>
struct Scratch {
    explicit Scratch(std::size_t places) : memory(new Block[places * kChunk + 4]) {
        const auto address = reinterpret_cast<std::uintptr_t>(memory);
        labels = memory + (64 - address % 64) % 64 / sizeof(Block);
        std::memset(static_cast<void*>(labels), 0, places * kChunk * sizeof(Block));
    }
    ~Scratch() { delete[] memory; }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    Block* at(std::uint32_t place) { return labels + place * kChunk; }

    Block* memory;
    Block* labels;
};

// `Gates` does the cryptography: and_gate(scratch, instruction, rows of the table, their number, count), xor_gate(...), and
// delta(), which is zero for the evaluator. Reads inputs and writes outputs as the job says.
template <std::size_t kChunk, class Job, class Gates>
void walk(const Program& program, const Job& job, const Gates& gates) {
    static_assert(kStripe % kChunk == 0);
    Scratch<kChunk> scratch(program.places);
    const Block delta = gates.delta();
    for (std::size_t first = 0; first < job.instances; first += kChunk) {
        const std::size_t count = job.instances - first < kChunk ? job.instances - first : kChunk;
        const std::size_t stripe = first / kStripe * kStripe;
        const std::size_t stripe_count = job.instances - stripe < kStripe ? job.instances - stripe : kStripe;
        for (std::size_t w = 0; w < program.input_count; ++w) {
            Block* place = scratch.at(static_cast<std::uint32_t>(w + 1));
            const InputWire& input = job.inputs[w];
            std::memcpy(static_cast<void*>(place), input.labels + first * sizeof(Block), count * sizeof(Block));
            if (input.bits == nullptr) continue;
            for (std::size_t i = 0; i < count; ++i) place[i] = place[i] ^ (delta & (std::uint64_t{0} - input.bits[first + i]));
        }
        for (std::size_t n = 0; n < program.instruction_count; ++n) {
            const Instruction& instruction = program.instructions[n];
            if (instruction.is_and) {
                const std::size_t row = stripe * program.and_gates + instruction.and_gate * stripe_count + (first - stripe);
                gates.and_gate(scratch, instruction, job.tables + row * kTableBytes, job.first_row + static_cast<std::uint32_t>(row), count);
            } else {
                gates.xor_gate(scratch, instruction);
            }
        }
        for (std::size_t k = 0; k < program.output_count; ++k) {
            const Output output = program.outputs[k];
            const Block* place = scratch.at(output.place);
            const Block flip = delta & (std::uint64_t{0} - std::uint64_t{output.complemented});
            const std::size_t offset = k * job.instances + first;
            for (std::size_t i = 0; i < count; ++i) {
                const Block label = place[i] ^ flip;
                if (job.output_labels != nullptr) store_block(job.output_labels + (offset + i) * sizeof(Block), label);
                if (job.colours != nullptr) job.colours[offset + i] = static_cast<std::uint8_t>(label.lo & 1);
            }
        }
    }
}

}  // namespace
}  // namespace autoprivacy
