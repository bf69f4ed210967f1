// Bit matrices, packed words, and words as bits.
#include "bindings.h"
#include "bit_packing.h"

namespace autoprivacy {
namespace {

using namespace nb::literals;

Out<std::uint8_t, 2> transpose_bits(const In<std::uint8_t, 2>& rows, const std::string& path) {
    const Kernels& kernels = path_named(path);
    if (rows.shape(0) != 128) refuse("rows: " + std::to_string(rows.shape(0)) + " rows given; the matrix has 128");
    if (rows.shape(1) % 16 != 0) refuse("rows: " + std::to_string(rows.shape(1)) + " bytes a row; give a multiple of 16");
    const std::size_t row_bytes = rows.shape(1);
    auto out = new_array<std::uint8_t, 2>({product({row_bytes, 8}), 16});
    const std::uint8_t* in_bytes = rows.data();
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
    kernels.transpose(in_bytes, row_bytes, row_bytes, out_bytes);
    return out;
}

nb::bytes pack(const In<std::uint64_t, 1>& words, int bits) {
    if (bits < 1 || bits > 64) refuse("bits: " + std::to_string(bits) + " given; use 1 to 64");
    const std::size_t count = words.shape(0);
    const std::size_t size = (product({count, static_cast<std::size_t>(bits)}) + 7) / 8;
    auto out = std::make_unique<std::uint8_t[]>(size == 0 ? 1 : size);
    const std::uint64_t* in = words.data();
    bool fits = false;
    {
        nb::gil_scoped_release release;
        fits = pack_bits(in, count, static_cast<unsigned>(bits), out.get());
    }
    if (!fits) refuse("words: at least one is wider than " + std::to_string(bits) + " bits");
    return nb::bytes(out.get(), size);
}

Out<std::uint64_t, 1> unpack(const nb::bytes& data, int bits, std::size_t count) {
    if (bits < 1 || bits > 64) refuse("bits: " + std::to_string(bits) + " given; use 1 to 64");
    const std::size_t all_bits = product({count, static_cast<std::size_t>(bits)});
    const std::size_t size = all_bits / 8 + (all_bits % 8 != 0);
    if (data.size() != size) {
        refuse("data: " + std::to_string(data.size()) + " bytes given; " + std::to_string(count) + " words of " + std::to_string(bits) +
               " bits take " + std::to_string(size));
    }
    const auto* in = static_cast<const std::uint8_t*>(data.data());
    if (all_bits % 8 != 0 && in[size - 1] >> (all_bits % 8) != 0) refuse("data: the padding bits of the last byte are not zero");
    auto out = new_array<std::uint64_t, 1>({count});
    std::uint64_t* out_words = out.data();
    nb::gil_scoped_release release;
    unpack_bits(in, size, static_cast<unsigned>(bits), count, out_words);
    return out;
}

Out<std::uint8_t, 2> bits_of_words(const In<std::uint64_t, 1>& words, int width) {
    if (width < 0 || width > 64) refuse("width: " + std::to_string(width) + " given; use 0 to 64");
    const std::size_t count = words.shape(0), rows = static_cast<std::size_t>(width);
    auto out = new_array<std::uint8_t, 2>({rows, count});
    const std::uint64_t* in = words.data();
    std::uint8_t* bits = out.data();
    nb::gil_scoped_release release;
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t i = 0; i < count; ++i) bits[row * count + i] = static_cast<std::uint8_t>(in[i] >> row & 1);
    }
    return out;
}

Out<std::uint64_t, 1> words_of_bits(const In<std::uint8_t, 2>& bits) {
    const std::size_t rows = bits.shape(0), count = bits.shape(1);
    if (rows > 64) refuse("bits: " + std::to_string(rows) + " rows given; a word has at most 64");
    auto out = new_array<std::uint64_t, 1>({count});
    const std::uint8_t* in = bits.data();
    std::uint64_t* words = out.data();
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < count; ++i) words[i] = 0;
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t i = 0; i < count; ++i) words[i] |= std::uint64_t{in[row * count + i]} << row;
    }
    return out;
}

}  // namespace

void bind_bits(nb::module_& m) {
    m.def("transpose_bits", &transpose_bits, "rows"_a.noconvert(), "path"_a = "best",
          "Transpose 128 rows of bits (128, bytes): bit i of row j of the result (8 * bytes, 16) is bit j of row i.");
    m.def("pack_bits", &pack, "words"_a.noconvert(), "bits"_a,
          "The lowest `bits` bits of every word, contiguous and little endian; words that are wider are refused.");
    m.def("unpack_bits", &unpack, "data"_a, "bits"_a, "count"_a, "The inverse of `pack_bits`; the length and the padding must be right.");
    m.def("bits_of_words", &bits_of_words, "words"_a.noconvert(), "width"_a,
          "The lowest `width` bits of every word (count,) as (width, count) of 0 and 1, little endian.");
    m.def("words_of_bits", &words_of_bits, "bits"_a.noconvert(), "The inverse of `bits_of_words`.");
}

}  // namespace autoprivacy
