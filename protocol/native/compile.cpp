#include "compile.h"

namespace autoprivacy {
namespace {

constexpr std::int32_t kNone = -1;

// A wire with its NOTs stripped: the wire that carries it, and whether it is complemented.
struct Signal {
    std::int32_t wire;
    bool complemented;
};

struct Use {
    std::int32_t count = 0, by_and = 0;
    std::int32_t xor_reader = kNone;  // the last XOR gate that reads it
    bool is_output = false;
};

class Compiler {
public:
    Compiler(const Gate* gates, std::size_t gate_count, std::size_t input_count, const std::int32_t* outputs, std::size_t output_count)
        : gates_(gates), gate_count_(gate_count), inputs_(input_count), signals_(input_count + gate_count), uses_(input_count + gate_count),
          fused_(input_count + gate_count, false), place_(input_count + gate_count, 0), last_(input_count + gate_count, -1) {
        strip_nots();
        for (std::size_t k = 0; k < output_count; ++k) uses_[wire(outputs[k])].is_output = true;
        choose_fusions();
        emit();
        finish(outputs, output_count);
    }

    CompiledProgram program;

private:
    std::size_t wire(std::int32_t index) const { return static_cast<std::size_t>(signals_[static_cast<std::size_t>(index)].wire); }
    bool is_input(std::size_t w) const { return w < inputs_; }
    const Gate& gate(std::size_t w) const { return gates_[w - inputs_]; }
    bool is(std::size_t w, Operation operation) const { return !is_input(w) && gate(w).operation == operation; }

    void strip_nots() {
        for (std::size_t w = 0; w < signals_.size(); ++w) {
            signals_[w] = {static_cast<std::int32_t>(w), false};
            if (is_input(w)) continue;
            const Gate& g = gate(w);
            const Signal a = signals_[static_cast<std::size_t>(g.a)], b = signals_[static_cast<std::size_t>(g.b)];
            if (g.operation == kNot) {
                signals_[w] = {a.wire, !a.complemented};
                continue;
            }
            // A complement under an XOR moves to its result.
            if (g.operation == kXor) signals_[w].complemented = a.complemented != b.complemented;
            for (const std::int32_t read : {a.wire, b.wire}) {
                Use& use = uses_[static_cast<std::size_t>(read)];
                ++use.count;
                if (g.operation == kAnd) ++use.by_and;
                if (g.operation == kXor) use.xor_reader = static_cast<std::int32_t>(w);
            }
        }
    }

    // An XOR that only AND gates read is done in them; an XOR or AND that one XOR reads alone is done in that.
    void choose_fusions() {
        std::vector<bool> holds_fused(signals_.size(), false);
        for (std::size_t w = inputs_; w < signals_.size(); ++w) {
            const Use& use = uses_[w];
            if (use.is_output || use.count == 0 || gate(w).operation == kNot) continue;
            const bool flat = is(w, kXor) && !holds_fused[w];  // both sources are in places of their own
            if (flat && use.by_and == use.count) {
                fused_[w] = true;
            } else if (use.count == 1 && use.xor_reader != kNone) {
                const auto reader = static_cast<std::size_t>(use.xor_reader);
                const bool emitted = uses_[reader].count > 0 || uses_[reader].is_output;
                if (emitted && !holds_fused[reader] && (flat || is(w, kAnd))) fused_[w] = holds_fused[reader] = true;
            }
        }
    }

    struct Draft {
        Instruction instruction;
        std::int32_t reads[5];
        std::int32_t makes;
    };

    void set_operand(std::int32_t signal, std::int32_t& first, std::int32_t& second, bool& complemented) const {
        const Signal s = signals_[static_cast<std::size_t>(signal)];
        complemented = s.complemented;
        first = s.wire;
        second = kNone;
        if (fused_[static_cast<std::size_t>(s.wire)]) {
            const Gate& g = gate(static_cast<std::size_t>(s.wire));
            first = static_cast<std::int32_t>(wire(g.a));
            second = static_cast<std::int32_t>(wire(g.b));
        }
    }

    Draft draft_and(std::size_t w) const {
        Draft draft{{true, false, false, 0, 0, 0, 0, 0, 0, and_number_[w - inputs_]}, {kNone, kNone, kNone, kNone, kNone}, static_cast<std::int32_t>(w)};
        set_operand(gate(w).a, draft.reads[0], draft.reads[1], draft.instruction.not_a);
        set_operand(gate(w).b, draft.reads[2], draft.reads[3], draft.instruction.not_b);
        return draft;
    }

    Draft draft_xor(std::size_t w) const {
        std::size_t a = wire(gate(w).a), b = wire(gate(w).b);
        if (fused_[b]) std::swap(a, b);
        if (!fused_[a]) return {{}, {static_cast<std::int32_t>(a), static_cast<std::int32_t>(b), kNone, kNone, kNone}, static_cast<std::int32_t>(w)};
        Draft draft;
        if (is(a, kAnd)) {
            draft = draft_and(a);
        } else {
            draft = {{}, {static_cast<std::int32_t>(wire(gate(a).a)), static_cast<std::int32_t>(wire(gate(a).b)), kNone, kNone, kNone}, 0};
        }
        draft.reads[4] = static_cast<std::int32_t>(b);
        draft.makes = static_cast<std::int32_t>(w);
        return draft;
    }

    void emit() {
        and_number_.resize(gate_count_);
        std::uint32_t count = 0;
        for (std::size_t g = 0; g < gate_count_; ++g) {
            if (gates_[g].operation == kAnd) and_number_[g] = count++;
        }
        program.and_gates = count;
        for (std::size_t w = inputs_; w < signals_.size(); ++w) {
            const Use& use = uses_[w];
            if (gate(w).operation == kNot || fused_[w]) continue;
            // An AND gate that nobody reads still has its row, so that tables follow from the gates alone.
            if (is(w, kXor) && use.count == 0 && !use.is_output) continue;
            drafts_.push_back(is(w, kAnd) ? draft_and(w) : draft_xor(w));
        }
    }

    void finish(const std::int32_t* outputs, std::size_t output_count) {
        for (std::size_t i = 0; i < drafts_.size(); ++i) {
            for (const std::int32_t read : drafts_[i].reads) {
                if (read != kNone) last_[static_cast<std::size_t>(read)] = static_cast<std::int64_t>(i);
            }
        }
        std::uint32_t next = static_cast<std::uint32_t>(inputs_) + 1;
        std::vector<std::uint32_t> free;
        for (std::size_t w = 0; w < inputs_; ++w) place_[w] = static_cast<std::uint32_t>(w) + 1;
        for (std::size_t i = 0; i < drafts_.size(); ++i) {
            Draft& draft = drafts_[i];
            std::uint32_t* const fields[5] = {&draft.instruction.a, &draft.instruction.a2, &draft.instruction.b, &draft.instruction.b2,
                                              &draft.instruction.c};
            for (int k = 0; k < 5; ++k) {
                if (draft.reads[k] == kNone) continue;
                const auto read = static_cast<std::size_t>(draft.reads[k]);
                *fields[k] = place_[read];
                // Once per instruction, although it may read a wire twice.
                if (last_[read] == static_cast<std::int64_t>(i) && !uses_[read].is_output) {
                    free.push_back(place_[read]);
                    last_[read] = -1;
                }
            }
            const auto made = static_cast<std::size_t>(draft.makes);
            if (free.empty()) free.push_back(next++);
            place_[made] = draft.instruction.out = free.back();
            free.pop_back();
            if (last_[made] == -1 && !uses_[made].is_output) free.push_back(place_[made]);
            program.instructions.push_back(draft.instruction);
        }
        for (std::size_t k = 0; k < output_count; ++k) {
            program.outputs.push_back({place_[wire(outputs[k])], signals_[static_cast<std::size_t>(outputs[k])].complemented});
        }
        program.input_count = inputs_;
        program.places = next;
    }

    const Gate* gates_;
    std::size_t gate_count_, inputs_;
    std::vector<Signal> signals_;
    std::vector<Use> uses_;
    std::vector<bool> fused_;  // done inside the instructions that read it
    std::vector<std::uint32_t> place_, and_number_;
    std::vector<std::int64_t> last_;
    std::vector<Draft> drafts_;
};

}  // namespace

CompiledProgram compile(const Gate* gates, std::size_t gate_count, std::size_t input_count, const std::int32_t* outputs,
                        std::size_t output_count) {
    return Compiler(gates, gate_count, input_count, outputs, output_count).program;
}

}  // namespace autoprivacy
