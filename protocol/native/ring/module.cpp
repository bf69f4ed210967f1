// The Python edge of the rings: every argument is checked here, and nowhere behind it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "ring.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace autoprivacy::ring {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

const Path* path_named(const std::string& name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    if (name == "avx512" && avx512) return &avx512::path;
    if (name == "avx2" && avx2) return &avx2::path;
    if (name == "best") return avx512 ? &avx512::path : avx2 ? &avx2::path : &portable::path;
#else
    if (name == "best") return &portable::path;
#endif
    if (name == "portable") return &portable::path;
    refuse("path '" + name + "': this processor has no such instructions; use 'best' or 'portable'");
}

template <class Word>
const Kernels<Word>& kernels_of(const Path& path);
template <>
const Kernels<std::uint32_t>& kernels_of(const Path& path) { return path.narrow; }
template <>
const Kernels<std::uint64_t>& kernels_of(const Path& path) { return path.wide; }

template <class Scalar, class... Shape>
using Array = nb::ndarray<Scalar, nb::c_contig, nb::device::cpu, Shape...>;

template <class Word, class... Extents>
nb::ndarray<nb::numpy, Word, nb::ndim<sizeof...(Extents)>, nb::c_contig> new_array(Extents... extents) {
    const std::size_t shape[] = {static_cast<std::size_t>(extents)...};
    std::size_t count = 1;
    for (const std::size_t extent : shape) count *= extent;
    std::unique_ptr<Word[]> data(new Word[count ? count : 1]);
    nb::capsule owner(data.get(), [](void* p) noexcept { delete[] static_cast<Word*>(p); });
    return {data.release(), sizeof...(Extents), shape, owner};
}

// Words of `Word`: narrow rings take half the memory and bandwidth.
template <class Word>
class Ring {
public:
    using Poly = Array<const Word, nb::ndim<2>>;       // (limbs, n)
    using Polys = Array<const Word, nb::ndim<3>>;      // (polynomials, limbs, n)
    using NewPolys = nb::ndarray<nb::numpy, Word, nb::ndim<3>, nb::c_contig>;
    using NewPoly = nb::ndarray<nb::numpy, Word, nb::ndim<2>, nb::c_contig>;

    Ring(std::size_t n, const std::vector<std::uint64_t>& primes, const std::string& path)
        : n_(n), path_(path_named(path)), kernels_(kernels_of<Word>(*path_)) {
        if (n < 8 || n > (1u << 20) || (n & (n - 1))) refuse("n: " + std::to_string(n) + " is no power of two from 8 to 2^20");
        if (primes.empty()) refuse("primes: none given");
        for (const std::uint64_t q : primes) {
            if (q >> (8 * sizeof(Word) - 2) || q < 3 || q % (2 * n) != 1) {
                refuse("primes: " + std::to_string(q) + " must be 1 modulo 2n and of at most " + std::to_string(8 * sizeof(Word) - 2) + " bits");
            }
            for (std::uint64_t base : {2, 3, 5, 7}) {
                if (q > base && power_modulo(base, q - 1, q) != 1) refuse("primes: " + std::to_string(q) + " is no prime");
            }
            limbs_.emplace_back(n, q);
        }
    }

    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    std::string path() const { return path_->name; }

    NewPolys forward(const Polys& x) const { return transformed(x, kernels_.forward); }
    NewPolys inverse(const Polys& x) const { return transformed(x, kernels_.inverse); }

    NewPolys multiply_accumulate(const std::vector<Polys>& left, const std::vector<Poly>& right) const {
        if (left.empty() || left.size() != right.size()) refuse("a sum needs as many left as right operands, at least one");
        const std::size_t polys = left[0].shape(0), limbs = limbs_.size();
        for (const Polys& each : left) check(each.shape(0) == polys && each.shape(1) == limbs && each.shape(2) == n_, "left");
        for (const Poly& each : right) check(each.shape(0) == limbs && each.shape(1) == n_, "right");
        NewPolys out = new_array<Word>(polys, limbs, n_);
        std::vector<const Word*> a(left.size()), b(left.size());
        nb::gil_scoped_release release;
        for (std::size_t poly = 0; poly < polys; ++poly) {
            for (std::size_t limb = 0; limb < limbs; ++limb) {
                const std::size_t at = (poly * limbs + limb) * n_;
                for (std::size_t i = 0; i < a.size(); ++i) {
                    a[i] = left[i].data() + at;
                    b[i] = right[i].data() + limb * n_;
                }
                kernels_.multiply_accumulate(out.data() + at, a.data(), b.data(), a.size(), n_, limbs_[limb].tables());
            }
        }
        return out;
    }

    NewPolys add(const Polys& left, const Polys& right) const {
        const std::size_t polys = left.shape(0);
        check(left.shape(1) <= limbs_.size() && left.shape(2) == n_, "left");
        check(right.shape(0) == polys && right.shape(1) == left.shape(1) && right.shape(2) == n_, "right");
        const std::size_t limbs = left.shape(1);
        NewPolys out = new_array<Word>(polys, limbs, n_);
        nb::gil_scoped_release release;
        for (std::size_t row = 0; row < polys * limbs; ++row) {
            const Word q = static_cast<Word>(limbs_[row % limbs].q());
            const Word *a = left.data() + row * n_, *b = right.data() + row * n_;
            Word* to = out.data() + row * n_;
            for (std::size_t i = 0; i < n_; ++i) {
                const Word sum = a[i] + b[i], less = sum - q;
                to[i] = sum < less ? sum : less;
            }
        }
        return out;
    }

    // Signed integers modulo every prime, in NTT form.
    NewPoly encode(const Array<const std::int64_t, nb::ndim<1>>& values) const {
        check(values.shape(0) == n_, "values");
        NewPoly out = new_array<Word>(limbs_.size(), n_);
        nb::gil_scoped_release release;
        for (std::size_t limb = 0; limb < limbs_.size(); ++limb) {
            const std::int64_t q = static_cast<std::int64_t>(limbs_[limb].q());
            Word* to = out.data() + limb * n_;
            for (std::size_t i = 0; i < n_; ++i) {
                const std::int64_t value = values.data()[i];
                const std::int64_t rest = value >= -q && value < q ? value : value % q;
                to[i] = static_cast<Word>(rest < 0 ? rest + q : rest);
            }
            kernels_.forward(to, n_, limbs_[limb].tables());
        }
        return out;
    }

    // c0 plus round(q m / t) for plaintexts m below t: SEAL's way to add a plaintext to a BFV ciphertext.
    NewPolys add_plain(const Polys& ciphertext, const Array<const std::int64_t, nb::ndim<1>>& plain, std::uint64_t t) const {
        const std::size_t limbs = limbs_.size();
        check(ciphertext.shape(0) == 2 && ciphertext.shape(1) == limbs && ciphertext.shape(2) == n_, "ciphertext");
        check(plain.shape(0) == n_, "plain");
        if (t < 2 || t >> 59) refuse("t: must lie between 2 and 2^59");
        for (std::size_t i = 0; i < n_; ++i) {
            if (plain.data()[i] < 0 || static_cast<std::uint64_t>(plain.data()[i]) >= t) refuse("plain: values must lie in [0, t)");
        }
        NewPolys out = new_array<Word>(2, limbs, n_);
        nb::gil_scoped_release release;
        __builtin_memcpy(out.data(), ciphertext.data(), 2 * limbs * n_ * sizeof(Word));
        std::uint64_t q_mod_t = 1 % t;
        for (const auto& limb : limbs_) q_mod_t = product_modulo(q_mod_t, limb.q() % t, t);
        const bool shifts = (t & (t - 1)) == 0;
        const int bits = __builtin_ctzll(t);
        for (std::size_t limb = 0; limb < limbs; ++limb) {
            const std::uint64_t q = limbs_[limb].q();
            // floor(q / t) modulo this prime is -(q mod t) / t, since q is 0 there.
            const std::uint64_t delta = product_modulo((q - q_mod_t % q) % q, power_modulo(t % q, q - 2, q), q);
            const std::uint64_t delta_quotient = static_cast<std::uint64_t>((static_cast<uint128_t>(delta) << 64) / q);
            Word* c0 = out.data() + limb * n_;
            for (std::size_t i = 0; i < n_; ++i) {
                const std::uint64_t m = static_cast<std::uint64_t>(plain.data()[i]);
                const uint128_t rest = static_cast<uint128_t>(q_mod_t) * m + ((t + 1) >> 1);
                const std::uint64_t fix = shifts ? static_cast<std::uint64_t>(rest >> bits) : quotient_of(rest, t);
                std::uint64_t scaled = m * delta - static_cast<std::uint64_t>(static_cast<uint128_t>(m) * delta_quotient >> 64) * q;
                scaled = (scaled >= q ? scaled - q : scaled) + fix % q + c0[i];
                while (scaled >= q) scaled -= q;
                c0[i] = static_cast<Word>(scaled);
            }
        }
        return out;
    }

    // An encryption of zero, u pk + (e0, e1), from a public key in NTT form and bytes: first those that make the ternary u
    // (value modulo 3, 255 is passed over), then six for each of 2n noises.
    NewPolys encrypt_zero(const Polys& key, const nb::bytes& random) const {
        const std::size_t limbs = limbs_.size(), noise_bytes = 12 * n_;
        check(key.shape(0) == 2 && key.shape(1) == limbs && key.shape(2) == n_, "key");
        if (random.size() < noise_bytes + n_) refuse("random: too few bytes");
        const auto* bytes = static_cast<const std::uint8_t*>(random.data());
        const std::size_t spare = random.size() - noise_bytes;
        NewPolys out = new_array<Word>(2, limbs, n_);
        std::vector<std::uint8_t> ternary(n_);
        std::vector<Word> u(n_);
        std::size_t found = 0;
        {
            nb::gil_scoped_release release;
            for (std::size_t i = 0; i < spare && found < n_; ++i) {
                ternary[found] = bytes[i] % 3;
                found += bytes[i] != 255;
            }
            const std::uint8_t* coins = bytes + spare;
            std::vector<std::int8_t> noise(2 * n_);
            for (std::size_t i = 0; i < 2 * n_; ++i) {
                std::uint64_t word = 0;
                __builtin_memcpy(&word, coins + 6 * i, 6);
                noise[i] = static_cast<std::int8_t>(__builtin_popcountll(word & ((std::uint64_t{1} << 42) - 1)) - 21);
            }
            for (std::size_t limb = 0; limb < limbs; ++limb) {
                const Tables<Word>& tables = limbs_[limb].tables();
                const Word lifted[] = {0, 1, static_cast<Word>(tables.q - 1)};
                for (std::size_t i = 0; i < n_; ++i) u[i] = lifted[ternary[i]];
                kernels_.forward(u.data(), n_, tables);
                for (std::size_t poly = 0; poly < 2; ++poly) {
                    Word* to = out.data() + (poly * limbs + limb) * n_;
                    const Word *left = u.data(), *right = key.data() + (poly * limbs + limb) * n_;
                    kernels_.multiply_accumulate(to, &left, &right, 1, n_, tables);
                    kernels_.inverse(to, n_, tables);
                    for (std::size_t i = 0; i < n_; ++i) {
                        const Word sum = to[i] + static_cast<Word>(tables.q + noise[poly * n_ + i]);
                        const Word once = sum < tables.q ? sum : sum - tables.q;
                        to[i] = once < tables.q ? once : once - tables.q;
                    }
                }
            }
        }
        if (found < n_) refuse("random: too few usable bytes; draw again");
        return out;
    }

    // The ciphertext divided by its last prime and rounded: one limb fewer.
    NewPolys drop_limb(const Polys& x) const {
        const std::size_t limbs = x.shape(1), polys = x.shape(0);
        check(limbs >= 2 && limbs <= limbs_.size() && x.shape(2) == n_, "x");
        NewPolys out = new_array<Word>(polys, limbs - 1, n_);
        const std::uint64_t last = limbs_[limbs - 1].q(), half = last >> 1;
        nb::gil_scoped_release release;
        for (std::size_t poly = 0; poly < polys; ++poly) {
            const Word* top = x.data() + (poly * limbs + limbs - 1) * n_;
            for (std::size_t limb = 0; limb + 1 < limbs; ++limb) {
                const std::uint64_t q = limbs_[limb].q(), barrett = limbs_[limb].tables().barrett;
                const std::uint64_t inverse = power_modulo(last % q, q - 2, q), half_here = half % q;
                const std::uint64_t quotient = static_cast<std::uint64_t>((static_cast<uint128_t>(inverse) << 64) / q);
                const Word* from = x.data() + (poly * limbs + limb) * n_;
                Word* to = out.data() + (poly * (limbs - 1) + limb) * n_;
                for (std::size_t i = 0; i < n_; ++i) {
                    std::uint64_t moved = top[i] + half;
                    moved = moved >= last ? moved - last : moved;
                    moved -= static_cast<std::uint64_t>(static_cast<uint128_t>(moved) * barrett >> 64) * q;
                    moved = moved >= q ? moved - q : moved;
                    const std::uint64_t difference = from[i] + q - moved + half_here;
                    std::uint64_t scaled = difference * inverse - static_cast<std::uint64_t>(static_cast<uint128_t>(difference) * quotient >> 64) * q;
                    to[i] = static_cast<Word>(scaled >= q ? scaled - q : scaled);
                }
            }
        }
        return out;
    }

private:
    static void check(bool right, const char* what) {
        if (!right) refuse(std::string(what) + ": not of this ring's shape");
    }

    NewPolys transformed(const Polys& x, void (*kernel)(Word*, std::size_t, const Tables<Word>&)) const {
        const std::size_t polys = x.shape(0), limbs = limbs_.size();
        check(x.shape(1) == limbs && x.shape(2) == n_, "x");
        NewPolys out = new_array<Word>(polys, limbs, n_);
        nb::gil_scoped_release release;
        __builtin_memcpy(out.data(), x.data(), polys * limbs * n_ * sizeof(Word));
        for (std::size_t row = 0; row < polys * limbs; ++row) kernel(out.data() + row * n_, n_, limbs_[row % limbs].tables());
        return out;
    }

    std::size_t n_;
    const Path* path_;
    const Kernels<Word>& kernels_;
    std::vector<Limb<Word>> limbs_;
};

// Values plus masks modulo q, and the share -round(t mask / q) modulo t of each mask; all below q.
nb::tuple mask_uniformly(const Array<const std::uint64_t, nb::ndim<1>>& values, const Array<const std::uint64_t, nb::ndim<1>>& masks,
                         std::uint64_t q, std::uint64_t t) {
    const std::size_t count = values.shape(0);
    if (masks.shape(0) != count) refuse("masks: not as many as values");
    if (q < 3 || q >> 62 || t < 2 || t >= q) refuse("q and t: 2 <= t < q < 2^62");
    for (std::size_t i = 0; i < count; ++i) {
        if (values.data()[i] >= q || masks.data()[i] >= q) refuse("values and masks must lie below q");
    }
    auto masked = new_array<std::uint64_t>(count);
    auto shares = new_array<std::int64_t>(count);
    {
        nb::gil_scoped_release release;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t mask = masks.data()[i], sum = values.data()[i] + mask;
            masked.data()[i] = sum >= q ? sum - q : sum;
            const std::uint64_t rounded = quotient_of(static_cast<uint128_t>(t) * mask + q / 2, q);
            shares.data()[i] = static_cast<std::int64_t>(rounded == 0 || rounded == t ? 0 : t - rounded);
        }
    }
    return nb::make_tuple(masked, shares);
}

template <class Word>
void bind_ring(nb::module_& module, const char* name) {
    using R = Ring<Word>;
    nb::class_<R>(module, name)
        .def(nb::init<std::size_t, const std::vector<std::uint64_t>&, const std::string&>(), "n"_a, "primes"_a, "path"_a = "best")
        .def_prop_ro("path", &R::path, "The instruction set that is used: 'avx512', 'avx2' or 'portable'.")
        .def("forward", &R::forward, "x"_a, "NTT of polynomials (polynomials, limbs, n), words below their prime; bit-reversed order.")
        .def("inverse", &R::inverse, "x"_a, "The inverse of `forward`.")
        .def("multiply_accumulate", &R::multiply_accumulate, "left"_a, "right"_a,
             "Sum of products of each left (polynomials, limbs, n) with its right (limbs, n), slot by slot.")
        .def("add", &R::add, "left"_a, "right"_a, "The sum of polynomials, limb by limb; may hold fewer limbs than the ring.")
        .def("encode", &R::encode, "values"_a, "Signed integers (n,) modulo every prime, in NTT form (limbs, n).")
        .def("add_plain", &R::add_plain, "ciphertext"_a, "plain"_a, "t"_a,
             "A ciphertext (2, limbs, n) plus round(q m / t) for a plaintext m (n,) in [0, t).")
        .def("encrypt_zero", &R::encrypt_zero, "key"_a, "random"_a,
             "An encryption of zero (2, limbs, n) under a public key in NTT form; randomness: n bytes and some spare, then 12 n bytes.")
        .def("drop_limb", &R::drop_limb, "x"_a, "Divided by the last prime and rounded: (polynomials, limbs - 1, n).");
}

}  // namespace
}  // namespace autoprivacy::ring

NB_MODULE(_ring, module) {
    nanobind::set_leak_warnings(false);  // caches of Python hold objects of ours until the interpreter ends
    using namespace autoprivacy::ring;
    module.doc() = "Polynomials modulo X^n + 1 and a product of primes: NTT, sums of products, and the steps of BFV around them.";
    bind_ring<std::uint32_t>(module, "NarrowRing");
    bind_ring<std::uint64_t>(module, "WideRing");
    module.def("mask_uniformly", &mask_uniformly, "values"_a, "masks"_a, "q"_a, "t"_a,
               nb::sig("def mask_uniformly(values: NDArray[numpy.uint64], masks: NDArray[numpy.uint64], q: int, t: int) -> "
                       "tuple[NDArray[numpy.uint64], NDArray[numpy.int64]]"),
               "(values + masks) modulo q, and the shares -round(t masks / q) modulo t.");
}
