// 128-bit blocks (wire labels, AES blocks) and the paths that AES can take.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#define AUTOPRIVACY_X86 1
#else
#define AUTOPRIVACY_X86 0
#endif

namespace autoprivacy {

static_assert(std::endian::native == std::endian::little, "wire formats are written in memory order");

struct Block {
    std::uint64_t lo;
    std::uint64_t hi;
};
static_assert(sizeof(Block) == 16);

inline Block operator^(Block a, Block b) { return {a.lo ^ b.lo, a.hi ^ b.hi}; }
inline Block operator&(Block a, std::uint64_t mask) { return {a.lo & mask, a.hi & mask}; }

// All ones if the colour (lowest) bit is set, else zero: selection without a branch on secrets.
inline std::uint64_t colour_mask(Block a) { return std::uint64_t{0} - (a.lo & 1); }

// The linear orthomorphism (L || R) -> (L ^ R || L) with L the upper half.
inline Block sigma(Block a) { return {a.hi, a.hi ^ a.lo}; }

inline Block load_block(const std::uint8_t* bytes) {
    Block block;
    std::memcpy(&block, bytes, sizeof block);
    return block;
}

inline void store_block(std::uint8_t* bytes, Block block) { std::memcpy(bytes, &block, sizeof block); }

enum class AesPath { portable, aesni };

inline AesPath best_aes_path() {
#if AUTOPRIVACY_X86
    if (__builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1")) return AesPath::aesni;
#endif
    return AesPath::portable;
}

}  // namespace autoprivacy
