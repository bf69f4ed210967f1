// What the parts of the Python edge share. Every argument is checked at that edge, and nowhere behind it.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <initializer_list>
#include <memory>
#include <string>

#include "kernels.h"

namespace autoprivacy {

namespace nb = nanobind;

template <class Scalar, std::size_t dimensions>
using In = nb::ndarray<const Scalar, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
template <class Scalar, std::size_t dimensions>
using Writable = nb::ndarray<Scalar, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
template <class Scalar, std::size_t dimensions>
using Out = nb::ndarray<nb::numpy, Scalar, nb::ndim<dimensions>, nb::c_contig>;

[[noreturn]] void refuse(const std::string& message);

// The product, refused where it would not fit in memory.
std::size_t product(std::initializer_list<std::size_t> factors);

const Kernels& path_named(const std::string& name);
Block block_of(const nb::bytes& bytes, const char* name);
void require_blocks(std::size_t last_extent, const char* name);

template <class Scalar, std::size_t dimensions>
Out<Scalar, dimensions> new_array(const std::size_t (&shape)[dimensions]) {
    std::size_t count = 1;
    for (const std::size_t extent : shape) count = product({count, extent, 1});
    product({count, sizeof(Scalar)});
    std::unique_ptr<Scalar[]> data(new Scalar[count == 0 ? 1 : count]);
    nb::capsule owner(data.get(), [](void* p) noexcept { delete[] static_cast<Scalar*>(p); });
    return Out<Scalar, dimensions>(data.release(), dimensions, shape, owner);
}

void bind_aes(nb::module_& m);
void bind_bits(nb::module_& m);
void bind_garbling(nb::module_& m);
void bind_oblivious_transfer(nb::module_& m);

}  // namespace autoprivacy
