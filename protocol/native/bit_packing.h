// Words of a few bits, contiguous and little endian.
#pragma once

#include "block.h"

namespace autoprivacy {

// Bytes of 0 and 1 as bits, eight at a time; the bits behind the last are zero. out holds (count + 7) / 8 bytes.
static inline void pack_bools(const std::uint8_t* bools, std::size_t count, std::uint8_t* out) {
    for (std::size_t i = 0; i < count; i += 8) {
        std::uint64_t eight = 0;
        std::memcpy(&eight, bools + i, count - i < 8 ? count - i : 8);
        out[i / 8] = static_cast<std::uint8_t>((eight * 0x0102040810204080ULL) >> 56);
    }
}

static inline std::uint64_t low_bits(unsigned bits) { return bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1; }

// False if a word does not fit in `bits`. out holds (count * bits + 7) / 8 bytes.
static inline bool pack_bits(const std::uint64_t* words, std::size_t count, unsigned bits, std::uint8_t* out) {
    const std::uint64_t mask = low_bits(bits);
    std::uint64_t pending = 0, excess = 0;
    unsigned held = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t word = words[i];
        excess |= word & ~mask;
        pending |= word << held;
        if (held + bits >= 64) {
            std::memcpy(out, &pending, 8);
            out += 8;
            const unsigned used = 64 - held;
            pending = used == 64 ? 0 : word >> used;
            held = held + bits - 64;
        } else {
            held += bits;
        }
    }
    std::memcpy(out, &pending, (held + 7) / 8);
    return excess == 0;
}

static inline void unpack_bits(const std::uint8_t* data, std::size_t size, unsigned bits, std::size_t count, std::uint64_t* out) {
    const std::uint64_t mask = low_bits(bits);
    std::size_t first = 0;
    for (std::size_t i = 0; i < count; ++i, first += bits) {
        const std::size_t byte = first / 8;
        const unsigned shift = first % 8;
        std::uint64_t window = 0;
        std::memcpy(&window, data + byte, size - byte < 8 ? size - byte : 8);
        window >>= shift;
        if (shift + bits > 64) window |= std::uint64_t{data[byte + 8]} << (64 - shift);
        out[i] = window & mask;
    }
}

}  // namespace autoprivacy
