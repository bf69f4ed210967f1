// What every code path offers, and how one is chosen.
#pragma once

#include "block.h"
#include "program.h"

#if defined(__x86_64__)
#define AUTOPRIVACY_X86 1
#else
#define AUTOPRIVACY_X86 0
#endif

namespace autoprivacy {

// How a label is hashed with its tweak j. rekeyed: AES(start ^ j, sigma(x)) ^ sigma(x) [GKWWY20]. tmmo: with the one
// permutation P = AES(start, .), P(P(x) ^ j) ^ P(x) [GKWY20].
enum class Hash { rekeyed, tmmo };

struct Kernels {
    const char* name;
    // Block i of `in` under key i.
    void (*encrypt_each)(const std::uint8_t* keys, const std::uint8_t* in, std::uint8_t* out, std::size_t count);
    // The eleven round keys of `key`.
    void (*round_keys_of)(Block key, Block* round_keys);
    // out[i] = AES(key, first + i), the counter in the lower half of the block.
    void (*expand)(const Block* round_keys, std::uint64_t first, std::uint8_t* out, std::size_t count);
    // rows: 128 rows, `stride` bytes apart, of which `bytes` (a multiple of 16) are used; bit i of block j of `out` is bit j of row i.
    void (*transpose)(const std::uint8_t* rows, std::size_t stride, std::size_t bytes, std::uint8_t* out);
    void (*garble)(const Program& program, const GarbleJob& job, Hash hash);
    void (*evaluate)(const Program& program, const EvaluateJob& job, Hash hash);
};

extern const Kernels kPortable;
#if AUTOPRIVACY_X86
extern const Kernels kAesNi;    // needs AES-NI and SSE4.1
extern const Kernels kVaes256;  // needs AVX2 and VAES
extern const Kernels kVaes512;  // needs AVX-512 F, BW, VL and VAES
#endif

// The widest path that this processor has and that, once, gave the bytes of the portable one on a batch of known answers.
const Kernels& best_kernels();

// A path by name, or 'best'; null if the name is unknown, or the processor lacks it, or it failed its known answers.
const Kernels* kernels_named(const char* name);

// The names of the paths that kernels_named knows, narrowest first.
constexpr const char* kPathNames[] = {"portable", "aesni", "vaes256", "vaes512"};

// Whether a path gives the portable path's bytes for every kernel, both hashes, and batches with and without a rest.
bool agrees_with_portable(const Kernels& kernels);

}  // namespace autoprivacy
