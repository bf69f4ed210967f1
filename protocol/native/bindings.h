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

// Memory of arrays. Large blocks that were given back are kept, up to kKeptBytes, and used again: fresh pages cost as much as filling them.
constexpr std::size_t kKeptBytes = std::size_t{32} << 20;
struct Memory {
    void* bytes;
    std::size_t size;
};
Memory* take_memory(std::size_t bytes);
void give_memory(Memory* memory) noexcept;

template <class Scalar, std::size_t dimensions>
Out<Scalar, dimensions> new_array(const std::size_t (&shape)[dimensions]) {
    std::size_t count = 1;
    for (const std::size_t extent : shape) count = product({count, extent, 1});
    Memory* const memory = take_memory(product({count, sizeof(Scalar)}));
    nb::capsule owner(memory, [](void* p) noexcept { give_memory(static_cast<Memory*>(p)); });
    return Out<Scalar, dimensions>(memory->bytes, dimensions, shape, owner);
}

void bind_aes(nb::module_& m);
void bind_bits(nb::module_& m);
void bind_garbling(nb::module_& m);
void bind_oblivious_transfer(nb::module_& m);

}  // namespace autoprivacy
