// 128-bit blocks: wire labels and AES blocks.
//
// Everything inline in this folder has internal linkage: one header is compiled for several instruction sets, and a linker
// that merged the copies could put the widest instructions where an old processor runs them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace autoprivacy {

static_assert(std::endian::native == std::endian::little, "wire formats are written in memory order");

struct Block {
    std::uint64_t lo;
    std::uint64_t hi;
};
static_assert(sizeof(Block) == 16);

static inline Block operator^(Block a, Block b) { return {a.lo ^ b.lo, a.hi ^ b.hi}; }
static inline Block operator&(Block a, std::uint64_t mask) { return {a.lo & mask, a.hi & mask}; }

// All ones if the colour (lowest) bit is set, else zero: selection without a branch on secrets.
static inline std::uint64_t colour_mask(Block a) { return std::uint64_t{0} - (a.lo & 1); }

// The linear orthomorphism (L || R) -> (L ^ R || L) with L the upper half.
static inline Block sigma(Block a) { return {a.hi, a.hi ^ a.lo}; }

static inline Block load_block(const void* bytes) {
    Block block;
    std::memcpy(&block, bytes, sizeof block);
    return block;
}

static inline void store_block(void* bytes, Block block) { std::memcpy(bytes, &block, sizeof block); }

}  // namespace autoprivacy
