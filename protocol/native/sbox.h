// The AES S-box as a circuit of XORs and ANDs: no table, so no secret-dependent address.
//
// Inversion happens in the tower GF(((2^2)^2)^2), whose formulas hold for single bits (used at compile time, to derive the
// change of basis) and for bit planes of many blocks at once (used at run time) alike.
#pragma once

#include <array>
#include <utility>

#include "block.h"

namespace autoprivacy::sbox {

template <class Bit>
struct Gf4 {  // hi * w + lo with w^2 = w + 1
    Bit hi, lo;
};

template <class Bit>
constexpr Gf4<Bit> operator^(Gf4<Bit> a, Gf4<Bit> b) { return {a.hi ^ b.hi, a.lo ^ b.lo}; }

template <class Bit>
constexpr Gf4<Bit> operator*(Gf4<Bit> a, Gf4<Bit> b) {
    const Bit low = a.lo & b.lo;
    return {((a.hi ^ a.lo) & (b.hi ^ b.lo)) ^ low, (a.hi & b.hi) ^ low};
}

template <class Bit>
constexpr Gf4<Bit> square(Gf4<Bit> a) { return {a.hi, a.hi ^ a.lo}; }

template <class Bit>
constexpr Gf4<Bit> times_w(Gf4<Bit> a) { return {a.hi ^ a.lo, a.hi}; }

template <class Bit>
struct Gf16 {  // hi * y + lo with y^2 = y + w
    Gf4<Bit> hi, lo;
};

template <class Bit>
constexpr Gf16<Bit> operator^(Gf16<Bit> a, Gf16<Bit> b) { return {a.hi ^ b.hi, a.lo ^ b.lo}; }

template <class Bit>
constexpr Gf16<Bit> operator*(Gf16<Bit> a, Gf16<Bit> b) {
    const Gf4<Bit> low = a.lo * b.lo;
    return {((a.hi ^ a.lo) * (b.hi ^ b.lo)) ^ low, times_w(a.hi * b.hi) ^ low};
}

template <class Bit>
constexpr Gf16<Bit> square(Gf16<Bit> a) {
    const Gf4<Bit> high = square(a.hi);
    return {high, times_w(high) ^ square(a.lo)};
}

template <class Bit>
constexpr Gf16<Bit> inverse(Gf16<Bit> a) {  // 0 maps to 0
    const Gf4<Bit> sum = a.hi ^ a.lo;
    const Gf4<Bit> norm = times_w(square(a.hi)) ^ (a.lo * sum);
    const Gf4<Bit> scale = square(norm);  // the inverse in GF(4)
    return {a.hi * scale, sum * scale};
}

template <class Bit>
constexpr Gf16<Bit> times_wy(Gf16<Bit> a) {
    return {times_w(a.hi ^ a.lo), times_w(times_w(a.hi))};
}

template <class Bit>
using Byte = std::array<Bit, 8>;  // a tower element, lowest coordinate first

template <class Bit>
constexpr Gf16<Bit> low_half(const Byte<Bit>& a) { return {{a[3], a[2]}, {a[1], a[0]}}; }

template <class Bit>
constexpr Gf16<Bit> high_half(const Byte<Bit>& a) { return {{a[7], a[6]}, {a[5], a[4]}}; }

template <class Bit>
constexpr Byte<Bit> join(Gf16<Bit> hi, Gf16<Bit> lo) {
    return {lo.lo.lo, lo.lo.hi, lo.hi.lo, lo.hi.hi, hi.lo.lo, hi.lo.hi, hi.hi.lo, hi.hi.hi};
}

// GF(256) over GF(16): hi * z + lo with z^2 = z + w*y.
template <class Bit>
constexpr Byte<Bit> multiply(const Byte<Bit>& a, const Byte<Bit>& b) {
    const auto low = low_half(a) * low_half(b);
    const auto high = high_half(a) * high_half(b);
    return join((low_half(a) ^ high_half(a)) * (low_half(b) ^ high_half(b)) ^ low, times_wy(high) ^ low);
}

template <class Bit>
constexpr Byte<Bit> inverse(const Byte<Bit>& a) {
    const auto hi = high_half(a);
    const auto sum = hi ^ low_half(a);
    const auto scale = inverse(times_wy(square(hi)) ^ (low_half(a) * sum));
    return join(hi * scale, sum * scale);
}

// Everything below is derived at compile time from AES's polynomial x^8 + x^4 + x^3 + x + 1.
using Matrix = std::array<std::uint8_t, 8>;  // row j: which inputs are summed into output j
using Bits = Byte<unsigned>;

constexpr Bits bits_of(unsigned value) {
    Bits bits{};
    for (unsigned i = 0; i < 8; ++i) bits[i] = (value >> i) & 1;
    return bits;
}

constexpr unsigned value_of(const Bits& bits) {
    unsigned value = 0;
    for (unsigned i = 0; i < 8; ++i) value |= bits[i] << i;
    return value;
}

constexpr Matrix from_columns(const std::array<unsigned, 8>& columns) {
    Matrix matrix{};
    for (unsigned row = 0; row < 8; ++row) {
        for (unsigned i = 0; i < 8; ++i) matrix[row] |= static_cast<std::uint8_t>(((columns[i] >> row) & 1) << i);
    }
    return matrix;
}

constexpr unsigned apply(const Matrix& matrix, unsigned value) {
    unsigned result = 0;
    for (unsigned row = 0; row < 8; ++row) result |= static_cast<unsigned>(std::popcount(matrix[row] & value) & 1) << row;
    return result;
}

constexpr std::array<unsigned, 8> powers(unsigned element) {
    std::array<unsigned, 8> result{};
    Bits power = bits_of(1);
    for (auto& entry : result) {
        entry = value_of(power);
        power = multiply(power, bits_of(element));
    }
    return result;
}

constexpr Matrix to_tower() {
    for (unsigned candidate = 2; candidate < 256; ++candidate) {
        const auto p = powers(candidate);
        const unsigned eighth = value_of(multiply(bits_of(p[7]), bits_of(candidate)));
        if ((eighth ^ p[4] ^ p[3] ^ p[1] ^ p[0]) == 0) return from_columns(p);
    }
    return {};
}

constexpr Matrix kToTower = to_tower();

constexpr unsigned affine_part(unsigned value) {
    const unsigned twice = value | value << 8;
    return (value ^ twice >> 4 ^ twice >> 5 ^ twice >> 6 ^ twice >> 7) & 0xFF;
}

constexpr Matrix from_tower_and_affine() {
    std::array<unsigned, 8> columns{};
    for (unsigned value = 0; value < 256; ++value) {
        const unsigned image = apply(kToTower, value);
        if (std::has_single_bit(image)) columns[static_cast<unsigned>(std::countr_zero(image))] = affine_part(value);
    }
    return from_columns(columns);
}

constexpr Matrix kFromTowerAffine = from_tower_and_affine();

constexpr unsigned substitute(unsigned value) {
    return apply(kFromTowerAffine, value_of(inverse(bits_of(apply(kToTower, value))))) ^ 0x63;
}
// FIPS-197 section 4.2.1 and table 4.
static_assert(substitute(0x00) == 0x63 && substitute(0x53) == 0xED && substitute(0xFF) == 0x16);

template <std::uint8_t mask, std::size_t first, class Bit>
inline Bit sum_of(const Byte<Bit>& in) {
    constexpr std::uint8_t rest = mask & (mask - 1);
    if constexpr (rest == 0) {
        return in[first];
    } else {
        return in[first] ^ sum_of<rest, std::countr_zero(rest)>(in);
    }
}

template <const Matrix& matrix, class Bit, std::size_t... row>
inline Byte<Bit> map_rows(const Byte<Bit>& in, std::index_sequence<row...>) {
    return {sum_of<matrix[row], std::countr_zero(matrix[row])>(in)...};
}

// SubBytes on eight bit planes of one byte position, in place.
template <class Word>
inline void substitute_planes(Word* planes) {
    Byte<Word> byte;
    for (std::size_t i = 0; i < 8; ++i) byte[i] = planes[i];
    constexpr auto rows = std::make_index_sequence<8>{};
    const Byte<Word> out = map_rows<kFromTowerAffine>(inverse(map_rows<kToTower>(byte, rows)), rows);
    for (std::size_t i = 0; i < 8; ++i) planes[i] = (0x63 >> i) & 1 ? ~out[i] : out[i];
}

}  // namespace autoprivacy::sbox
