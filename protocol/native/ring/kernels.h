// Arithmetic of polynomials modulo X^n + 1 and one prime q, for words of 32 bits (q < 2^30) or 64 (q < 2^62).
//
// The same source is compiled for several instruction sets (path_*.cpp); `best_kernels` picks one when it is first asked.
#pragma once

#include <cstddef>
#include <cstdint>

namespace autoprivacy::ring {

// What a transform modulo q needs. A quotient of a factor w is floor(w 2^bits / q), bits those of a Word [Harvey 2014].
template <class Word>
struct Tables {
    Word q;
    Word n_inverse, n_inverse_quotient;
    const Word *roots, *root_quotients;                 // powers of a primitive 2n-th root, in bit-reversed order
    const Word *inverse_roots, *inverse_root_quotients;  // their inverses
    std::uint64_t barrett;                               // floor(2^64 / q)
    std::uint64_t two_64, two_64_quotient;               // 2^64 mod q, and its quotient by 64-bit words
    std::size_t terms;                                   // how many products a sum holds before it must be reduced
};

template <class Word>
struct Kernels {
    // In place, natural to bit-reversed order; words below q in and out.
    void (*forward)(Word* x, std::size_t n, const Tables<Word>& tables);
    // Its inverse.
    void (*inverse)(Word* x, std::size_t n, const Tables<Word>& tables);
    // out[i] = sum over terms of left[term][i] * right[term][i] modulo q.
    void (*multiply_accumulate)(Word* out, const Word* const* left, const Word* const* right, std::size_t terms, std::size_t n,
                                const Tables<Word>& tables);
};

struct Path {
    const char* name;
    Kernels<std::uint32_t> narrow;
    Kernels<std::uint64_t> wide;
};

#define AUTOPRIVACY_RING_PATHS(apply) apply(portable) apply(avx2) apply(avx512)
#define AUTOPRIVACY_RING_DECLARE(name) \
    namespace name {                   \
    extern const Path path;            \
    }
AUTOPRIVACY_RING_PATHS(AUTOPRIVACY_RING_DECLARE)
#undef AUTOPRIVACY_RING_DECLARE

}  // namespace autoprivacy::ring
