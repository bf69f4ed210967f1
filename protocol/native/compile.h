// Preparing circuits.
#pragma once

#include <vector>

#include "program.h"

namespace autoprivacy {

// Owns what a Program points to.
struct CompiledProgram {
    std::vector<Instruction> instructions;
    std::vector<Output> outputs;
    std::size_t input_count, places, and_gates;

    Program view() const {
        return {instructions.data(), instructions.size(), outputs.data(), outputs.size(), input_count, places, and_gates};
    }
};

// The gates must be checked: each reads wires made before.
CompiledProgram compile(const Gate* gates, std::size_t gate_count, std::size_t input_count, const std::int32_t* outputs,
                        std::size_t output_count);

}  // namespace autoprivacy
