// A ring Z_q[X]/(X^n + 1) for a product q of primes, limb by limb, and what BFV does in it besides products.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels.h"

namespace autoprivacy::ring {

using uint128_t = unsigned __int128;

// The quotient of a 128-bit number by d, where it is below 2^64.
inline std::uint64_t quotient_of(uint128_t number, std::uint64_t d) {
#if defined(__x86_64__)
    std::uint64_t quotient, rest;
    __asm__("divq %4" : "=a"(quotient), "=d"(rest) : "a"(static_cast<std::uint64_t>(number)), "d"(static_cast<std::uint64_t>(number >> 64)), "r"(d) : "cc");
    return quotient;
#else
    return static_cast<std::uint64_t>(number / d);
#endif
}

inline std::uint64_t product_modulo(std::uint64_t a, std::uint64_t b, std::uint64_t q) {
    const uint128_t product = static_cast<uint128_t>(a) * b;
    return static_cast<std::uint64_t>(product - static_cast<uint128_t>(quotient_of(product, q)) * q);
}

inline std::uint64_t power_modulo(std::uint64_t base, std::uint64_t exponent, std::uint64_t q) {
    std::uint64_t result = 1 % q;
    for (base %= q; exponent; exponent >>= 1, base = product_modulo(base, base, q)) {
        if (exponent & 1) result = product_modulo(result, base, q);
    }
    return result;
}

// Tables of one prime, and the memory they point into.
template <class Word>
class Limb {
public:
    Limb(std::size_t n, std::uint64_t q) : roots_(n), root_quotients_(n), inverse_roots_(n), inverse_root_quotients_(n) {
        const std::uint64_t root = primitive_root(n, q);
        const std::uint64_t inverse = power_modulo(root, q - 2, q);
        fill(roots_, root_quotients_, root, q);
        fill(inverse_roots_, inverse_root_quotients_, inverse, q);
        tables_.q = static_cast<Word>(q);
        const std::uint64_t n_inverse = power_modulo(n, q - 2, q);
        tables_.n_inverse = static_cast<Word>(n_inverse);
        tables_.n_inverse_quotient = quotient(n_inverse, q);
        tables_.roots = roots_.data();
        tables_.root_quotients = root_quotients_.data();
        tables_.inverse_roots = inverse_roots_.data();
        tables_.inverse_root_quotients = inverse_root_quotients_.data();
        tables_.barrett = static_cast<std::uint64_t>((static_cast<uint128_t>(1) << 64) / q);
        tables_.two_64 = static_cast<std::uint64_t>((static_cast<uint128_t>(1) << 64) % q);
        tables_.two_64_quotient = static_cast<std::uint64_t>((static_cast<uint128_t>(tables_.two_64) << 64) / q);
        const int bits = 64 - __builtin_clzll(q), room = 2 * 8 * static_cast<int>(sizeof(Word)) - 2 * bits;
        tables_.terms = static_cast<std::size_t>(1) << (room > 30 ? 30 : room);
    }
    Limb(const Limb&) = delete;
    Limb& operator=(const Limb&) = delete;
    Limb(Limb&&) = default;

    const Tables<Word>& tables() const { return tables_; }
    std::uint64_t q() const { return tables_.q; }

private:
    static Word quotient(std::uint64_t factor, std::uint64_t q) {
        return static_cast<Word>((static_cast<uint128_t>(factor) << (8 * sizeof(Word))) / q);
    }

    // An element of order 2n: some candidate to the power (q - 1) / 2n whose n-th power is -1.
    static std::uint64_t primitive_root(std::size_t n, std::uint64_t q) {
        for (std::uint64_t candidate = 2;; ++candidate) {
            const std::uint64_t root = power_modulo(candidate, (q - 1) / (2 * n), q);
            if (power_modulo(root, n, q) == q - 1) return root;
        }
    }

    static void fill(std::vector<Word>& powers, std::vector<Word>& quotients, std::uint64_t root, std::uint64_t q) {
        const std::size_t n = powers.size();
        std::uint64_t power = 1;
        for (std::size_t i = 0, reversed = 0; i < n; ++i) {
            powers[reversed] = static_cast<Word>(power);
            quotients[reversed] = quotient(power, q);
            power = product_modulo(power, root, q);
            // Count up in bit-reversed order.
            std::size_t bit = n >> 1;
            while (bit && (reversed & bit)) {
                reversed ^= bit;
                bit >>= 1;
            }
            reversed |= bit;
        }
    }

    Tables<Word> tables_;
    std::vector<Word> roots_, root_quotients_, inverse_roots_, inverse_root_quotients_;
};

}  // namespace autoprivacy::ring
