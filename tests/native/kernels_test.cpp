// The native kernels without Python, for runs under the address and undefined-behaviour sanitizers: `make check-native`.
//
// Every path must give the portable path's bytes; random circuits must compute what their gates say, for every rest of a stripe;
// extended transfers must differ by choice times Delta; packed words must come back.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "bit_packing.h"
#include "compile.h"
#include "kernels.h"
#include "ot_extension.h"

using namespace autoprivacy;

namespace {

std::mt19937_64 generator(1);

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

std::size_t below(std::size_t bound) { return generator() % bound; }

Block random_block() { return {generator(), generator()}; }

// Exactly as long as it must be, so that a read or write beyond it is seen.
std::unique_ptr<Block[]> random_blocks(std::size_t count) {
    auto blocks = std::make_unique<Block[]>(count);
    for (std::size_t i = 0; i < count; ++i) blocks[i] = random_block();
    return blocks;
}

std::uint8_t* bytes_of(Block* blocks) { return reinterpret_cast<std::uint8_t*>(blocks); }

void run_random_circuit(const Kernels& kernels, Hash hash, std::size_t instances) {
    const std::size_t inputs = 1 + below(6), gate_count = below(60), output_count = 1 + below(5);
    std::vector<Gate> gates;
    for (std::size_t g = 0; g < gate_count; ++g) {
        const auto wire = [&] { return static_cast<std::int32_t>(below(inputs + g)); };
        gates.push_back({static_cast<std::int32_t>(below(3)), wire(), wire()});
    }
    std::vector<std::int32_t> outputs;
    for (std::size_t k = 0; k < output_count; ++k) outputs.push_back(static_cast<std::int32_t>(below(inputs + gate_count)));
    const CompiledProgram compiled = compile(gates.data(), gate_count, inputs, outputs.data(), output_count);

    Block delta = random_block();
    delta.lo |= 1;
    const Block start = random_block();
    auto active = random_blocks(inputs * instances), zero_out = random_blocks(output_count * instances);
    auto active_out = random_blocks(output_count * instances), tables = random_blocks(2 * compiled.and_gates * instances);
    std::vector<std::uint8_t> bits(inputs * instances);
    for (auto& bit : bits) bit = static_cast<std::uint8_t>(below(2));
    std::vector<InputWire> zero_wires, active_wires;
    for (std::size_t w = 0; w < inputs; ++w) {
        zero_wires.push_back({bytes_of(active.get() + w * instances), bits.data() + w * instances});
        active_wires.push_back({bytes_of(active.get() + w * instances), nullptr});
    }
    std::vector<std::uint8_t> colours(output_count * instances), decoded(output_count * instances);
    kernels.garble(compiled.view(), {zero_wires.data(), instances, 3, delta, start, bytes_of(tables.get()), bytes_of(zero_out.get()), colours.data()},
                   hash);
    kernels.evaluate(compiled.view(), {active_wires.data(), instances, 3, start, bytes_of(tables.get()), bytes_of(active_out.get()), decoded.data()},
                     hash);
    for (std::size_t i = 0; i < instances; ++i) {
        std::vector<unsigned> value;
        for (std::size_t w = 0; w < inputs; ++w) value.push_back(bits[w * instances + i]);
        for (const Gate& gate : gates) {
            const unsigned a = value[static_cast<std::size_t>(gate.a)], b = value[static_cast<std::size_t>(gate.b)];
            value.push_back(gate.operation == kAnd ? a & b : gate.operation == kXor ? a ^ b : a ^ 1);
        }
        for (std::size_t k = 0; k < output_count; ++k) {
            const std::size_t at = k * instances + i;
            const unsigned bit = value[static_cast<std::size_t>(outputs[k])];
            const Block difference = active_out[at] ^ zero_out[at];
            require(difference.lo == delta.lo * bit && difference.hi == delta.hi * bit, "labels stand for the circuit's bits");
            require((decoded[at] ^ colours[at]) == bit, "colours decode");
        }
    }
}

void run_transfers(const Kernels& kernels, std::size_t count) {
    const Block delta = random_block();
    std::vector<Block> keys[2], chosen;
    for (std::size_t i = 0; i < kBaseTransfers; ++i) {
        Block expanded[2][kRoundKeys];
        for (int side = 0; side < 2; ++side) {
            kernels.round_keys_of(random_block(), expanded[side]);
            keys[side].insert(keys[side].end(), expanded[side], expanded[side] + kRoundKeys);
        }
        const Block* mine = expanded[(i < 64 ? delta.lo >> i : delta.hi >> (i - 64)) & 1];
        chosen.insert(chosen.end(), mine, mine + kRoundKeys);
    }
    const std::size_t row_bytes = (count + 7) / 8;
    std::vector<std::uint8_t> choices(row_bytes, 0), message(kBaseTransfers * row_bytes);
    for (std::size_t i = 0; i < count; ++i) choices[i / 8] = static_cast<std::uint8_t>(choices[i / 8] | below(2) << (i % 8));
    auto received = random_blocks(count), sent = random_blocks(count);
    extend_receiver(kernels, keys[0].data(), keys[1].data(), 7, choices.data(), count, message.data(), bytes_of(received.get()));
    extend_sender(kernels, chosen.data(), 7, delta, message.data(), count, bytes_of(sent.get()));
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t mask = std::uint64_t{0} - (choices[i / 8] >> (i % 8) & 1u);
        const Block difference = received[i] ^ sent[i];
        require(difference.lo == (delta.lo & mask) && difference.hi == (delta.hi & mask), "transfers differ by choice times Delta");
    }
}

void run_packing() {
    for (unsigned bits = 1; bits <= 64; ++bits) {
        const std::size_t count = below(50);
        std::vector<std::uint64_t> words(count), back(count);
        for (auto& word : words) word = generator() & low_bits(bits);
        const std::size_t size = (count * bits + 7) / 8;
        const auto packed = std::make_unique<std::uint8_t[]>(size);
        require(pack_bits(words.data(), count, bits, packed.get()), "words fit");
        unpack_bits(packed.get(), size, bits, count, back.data());
        require(words == back, "packed words come back");
    }
}

}  // namespace

int main() {
    for (const char* name : kPathNames) {
        const Kernels* kernels = kernels_named(name);
        if (kernels == nullptr) {
            std::printf("%s: not on this processor\n", name);
            continue;
        }
        require(agrees_with_portable(*kernels), "a path gives the portable path's bytes");
        for (std::size_t instances = 0; instances <= 70; ++instances) {
            run_random_circuit(*kernels, instances % 2 == 0 ? Hash::rekeyed : Hash::tmmo, instances);
        }
        for (const std::size_t instances : {128, 191, 300}) run_random_circuit(*kernels, Hash::rekeyed, instances);
        for (const std::size_t count : {0, 1, 7, 8, 127, 129, 1000, 1024, 1025, 2049}) run_transfers(*kernels, count);
        std::printf("%s: ok\n", name);
    }
    run_packing();
}
