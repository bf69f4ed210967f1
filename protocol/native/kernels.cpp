#include "kernels.h"

#include <vector>

#include "compile.h"

namespace autoprivacy {
namespace {

std::vector<std::uint8_t> known_bytes(std::size_t size, std::uint64_t which) {
    std::vector<std::uint8_t> bytes((size + 15) / 16 * 16);
    Block keys[11];
    kPortable.round_keys_of({0x6E6F7468696E6720, 0x7570206D7920736C}, keys);
    kPortable.expand(keys, which << 32, bytes.data(), bytes.size() / 16);
    bytes.resize(size);
    return bytes;
}

// What garbling and evaluating `instances` of a circuit that uses every kind of instruction puts out.
std::vector<std::uint8_t> run_known(const Kernels& kernels, Hash hash, std::size_t instances) {
    constexpr Gate gates[] = {{kXor, 0, 2}, {kXor, 1, 2}, {kAnd, 3, 4}, {kXor, 5, 2}, {kXor, 0, 1}, {kXor, 7, 2},
                              {kNot, 6, 6}, {kAnd, 9, 8}, {kAnd, 10, 6}, {kXor, 11, 9}, {kNot, 12, 12}};
    constexpr std::int32_t outputs[] = {8, 13, 10, 0};
    const CompiledProgram compiled = compile(gates, std::size(gates), 3, outputs, std::size(outputs));
    const std::vector<std::uint8_t> labels = known_bytes(3 * 16 * instances, instances + 1), secret = known_bytes(32, 0);
    std::vector<std::uint8_t> bits = known_bytes(instances, 1);
    for (auto& bit : bits) bit &= 1;
    const InputWire inputs[] = {{labels.data(), nullptr}, {labels.data() + 16 * instances, bits.data()}, {labels.data() + 32 * instances, nullptr}};
    Block delta = load_block(secret.data());
    delta.lo |= 1;
    const std::size_t tables = compiled.and_gates * instances * kTableBytes, out = std::size(outputs) * instances * 16;
    std::vector<std::uint8_t> made(tables + 2 * out);
    std::uint8_t* const at = made.data();
    kernels.garble(compiled.view(), {inputs, instances, 77, delta, load_block(secret.data() + 16), at, at + tables, nullptr}, hash);
    const InputWire active[] = {inputs[0], {inputs[1].labels, nullptr}, inputs[2]};
    kernels.evaluate(compiled.view(), {active, instances, 77, load_block(secret.data() + 16), at, at + tables + out, nullptr}, hash);
    return made;
}

#if AUTOPRIVACY_X86
// All the instruction sets of a path must be reported: a hypervisor may hide some.
bool supported(const Kernels& kernels) {
    __builtin_cpu_init();
    const bool aes = __builtin_cpu_supports("aes"), vaes = aes && __builtin_cpu_supports("vaes");
    if (&kernels == &kAesNi) return aes && __builtin_cpu_supports("sse4.1");
    if (&kernels == &kVaes256) return vaes && __builtin_cpu_supports("avx2");
    return vaes && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

// Kernels of path number i in kPathNames if they may be used; decided once.
const Kernels* usable(std::size_t i) {
#if AUTOPRIVACY_X86
    static const Kernels* const found[] = {&kPortable, &kAesNi, &kVaes256, &kVaes512};
    static const bool aesni = supported(kAesNi) && agrees_with_portable(kAesNi);
    static const bool vaes256 = supported(kVaes256) && agrees_with_portable(kVaes256);
    static const bool vaes512 = supported(kVaes512) && agrees_with_portable(kVaes512);
    const bool use[] = {true, aesni, vaes256, vaes512};
    return use[i] ? found[i] : nullptr;
#else
    return i == 0 ? &kPortable : nullptr;
#endif
}

}  // namespace

bool agrees_with_portable(const Kernels& kernels) {
    constexpr std::size_t blocks = 161;  // every group size, and a rest
    const std::vector<std::uint8_t> keys = known_bytes(16 * blocks, 2), in = known_bytes(16 * blocks, 3);
    std::vector<std::uint8_t> expected(16 * blocks), got(16 * blocks);
    kPortable.encrypt_each(keys.data(), in.data(), expected.data(), blocks);
    kernels.encrypt_each(keys.data(), in.data(), got.data(), blocks);
    if (got != expected) return false;
    Block round_keys[11], same[11];
    kPortable.round_keys_of(load_block(keys.data()), round_keys);
    kernels.round_keys_of(load_block(keys.data()), same);
    if (std::memcmp(round_keys, same, sizeof same) != 0) return false;
    kPortable.expand(round_keys, 0xFFFFFFF0, expected.data(), blocks);
    kernels.expand(round_keys, 0xFFFFFFF0, got.data(), blocks);
    if (got != expected) return false;
    const std::vector<std::uint8_t> rows = known_bytes(128 * 40, 4);
    expected.assign(2 * 128 * 16, 0);
    got = expected;
    kPortable.transpose(rows.data(), 40, 32, expected.data());
    kernels.transpose(rows.data(), 40, 32, got.data());
    if (got != expected) return false;
    for (const Hash hash : {Hash::rekeyed, Hash::tmmo}) {
        for (const std::size_t instances : {std::size_t{1}, std::size_t{77}}) {
            if (run_known(kernels, hash, instances) != run_known(kPortable, hash, instances)) return false;
        }
    }
    return true;
}

const Kernels& best_kernels() {
    for (std::size_t i = std::size(kPathNames); i-- > 0;) {
        if (const Kernels* kernels = usable(i)) return *kernels;
    }
    return kPortable;
}

const Kernels* kernels_named(const char* name) {
    if (std::strcmp(name, "best") == 0) return &best_kernels();
    for (std::size_t i = 0; i < std::size(kPathNames); ++i) {
        if (std::strcmp(name, kPathNames[i]) == 0) return usable(i);
    }
    return nullptr;
}

}  // namespace autoprivacy
