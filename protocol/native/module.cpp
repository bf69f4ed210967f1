// The Python edge of the native core: every argument is checked here, and nowhere behind it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <limits>
#include <memory>
#include <string>

#include "bit_packing.h"
#include "half_gates.h"
#include "prg.h"
#include "transpose.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace autoprivacy {
namespace {

template <class Scalar, std::size_t dimensions>
using In = nb::ndarray<const Scalar, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
template <class Scalar, std::size_t dimensions>
using Out = nb::ndarray<nb::numpy, Scalar, nb::ndim<dimensions>, nb::c_contig>;

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

std::size_t product(std::initializer_list<std::size_t> factors) {
    std::size_t result = 1;
    for (const std::size_t factor : factors) {
        if (__builtin_mul_overflow(result, factor, &result)) refuse("the result would not fit in memory; use smaller batches");
    }
    if (result > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()))
        refuse("the result would not fit in memory; use smaller batches");
    return result;
}

template <class Scalar, std::size_t dimensions>
Out<Scalar, dimensions> new_array(const std::size_t (&shape)[dimensions]) {
    std::size_t count = 1;
    for (const std::size_t extent : shape) count = product({count, extent, 1});
    product({count, sizeof(Scalar)});
    std::unique_ptr<Scalar[]> data(new Scalar[count == 0 ? 1 : count]);
    nb::capsule owner(data.get(), [](void* p) noexcept { delete[] static_cast<Scalar*>(p); });
    return Out<Scalar, dimensions>(data.release(), dimensions, shape, owner);
}

AesPath path_named(const std::string& name) {
    if (name == "best") return best_aes_path();
    if (name == "portable") return AesPath::portable;
    if (name == "aesni") {
        if (best_aes_path() != AesPath::aesni) refuse("path 'aesni': this processor has no AES-NI; use 'portable'");
        return AesPath::aesni;
    }
    refuse("path '" + name + "': use 'best', 'portable' or 'aesni'");
}

Block block_of(const nb::bytes& bytes, const char* name) {
    if (bytes.size() != sizeof(Block)) {
        refuse(std::string(name) + ": " + std::to_string(bytes.size()) + " bytes given; give 16");
    }
    return load_block(static_cast<const std::uint8_t*>(bytes.data()));
}

void require_blocks(std::size_t last_extent, const char* name) {
    if (last_extent != sizeof(Block)) {
        refuse(std::string(name) + ": last dimension is " + std::to_string(last_extent) + "; blocks have 16 bytes");
    }
}

std::string aes_path() { return best_aes_path() == AesPath::aesni ? "aesni" : "portable"; }

Out<std::uint8_t, 2> aes_encrypt(const In<std::uint8_t, 2>& keys, const In<std::uint8_t, 2>& blocks, const std::string& path) {
    const AesPath chosen = path_named(path);
    require_blocks(keys.shape(1), "keys");
    require_blocks(blocks.shape(1), "blocks");
    const std::size_t count = keys.shape(0);
    if (blocks.shape(0) != count) refuse("blocks: " + std::to_string(blocks.shape(0)) + " rows for " + std::to_string(count) + " keys");
    auto out = new_array<std::uint8_t, 2>({count, 16});
    const std::uint8_t *key_bytes = keys.data(), *in_bytes = blocks.data();
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
#if AUTOPRIVACY_X86
    if (chosen == AesPath::aesni) {
        aesni::encrypt_each(key_bytes, in_bytes, out_bytes, count);
        return out;
    }
#endif
    (void)chosen;
    portable::encrypt_each(key_bytes, in_bytes, out_bytes, count);
    return out;
}

Out<std::uint8_t, 2> prg_rows(const In<std::uint8_t, 2>& seeds, std::size_t row_bytes, std::uint64_t counter, const std::string& path) {
    const AesPath chosen = path_named(path);
    require_blocks(seeds.shape(1), "seeds");
    const std::size_t rows = seeds.shape(0);
    if (counter > std::numeric_limits<std::uint64_t>::max() - row_bytes / 16 - 1) refuse("counter: would pass 2^64; use a fresh seed");
    product({rows, row_bytes});
    auto out = new_array<std::uint8_t, 2>({rows, row_bytes});
    const std::uint8_t* seed_bytes = seeds.data();
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
    for (std::size_t row = 0; row < rows; ++row) {
        expand_bytes(chosen, load_block(seed_bytes + 16 * row), counter, out_bytes + row * row_bytes, row_bytes);
    }
    return out;
}

Out<std::uint8_t, 1> prg(const nb::bytes& seed, std::size_t byte_count, std::uint64_t counter, const std::string& path) {
    const AesPath chosen = path_named(path);
    const Block seed_block = block_of(seed, "seed");
    if (counter > std::numeric_limits<std::uint64_t>::max() - byte_count / 16 - 1) refuse("counter: would pass 2^64; use a fresh seed");
    auto out = new_array<std::uint8_t, 1>({byte_count});
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
    expand_bytes(chosen, seed_block, counter, out_bytes, byte_count);
    return out;
}

Out<std::uint8_t, 2> transpose_bits(const In<std::uint8_t, 2>& rows) {
    if (rows.shape(0) != 128) refuse("rows: " + std::to_string(rows.shape(0)) + " rows given; the matrix has 128");
    if (rows.shape(1) % 16 != 0) refuse("rows: " + std::to_string(rows.shape(1)) + " bytes a row; give a multiple of 16");
    const std::size_t row_bytes = rows.shape(1);
    auto out = new_array<std::uint8_t, 2>({product({row_bytes, 8}), 16});
    const std::uint8_t* in_bytes = rows.data();
    std::uint8_t* out_bytes = out.data();
    nb::gil_scoped_release release;
    transpose_rows(in_bytes, row_bytes, out_bytes);
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

struct CheckedRun {
    Run run;
    std::size_t and_gates;
};

CheckedRun check_run(const In<std::int32_t, 2>& gates, const In<std::uint8_t, 3>& inputs, const In<std::int32_t, 1>& outputs) {
    if (gates.shape(1) != 3) refuse("gates: " + std::to_string(gates.shape(1)) + " columns given; use operation, a, b");
    require_blocks(inputs.shape(2), "input labels");
    const std::size_t input_count = inputs.shape(0), gate_count = gates.shape(0), instances = inputs.shape(1);
    if (input_count > 0x7FFFFFFF || gate_count > 0x7FFFFFFF - input_count) refuse("gates: more than 2^31 wires");
    product({input_count + gate_count, kChunk, sizeof(Block)});
    const auto* list = reinterpret_cast<const Gate*>(gates.data());
    std::size_t and_gates = 0;
    for (std::size_t g = 0; g < gate_count; ++g) {
        const Gate gate = list[g];
        const auto made = static_cast<std::int64_t>(input_count + g);
        if (gate.operation < kAnd || gate.operation > kNot) {
            refuse("gate " + std::to_string(g) + ": operation " + std::to_string(gate.operation) + "; use 0 (AND), 1 (XOR), 2 (NOT)");
        }
        if (gate.a < 0 || gate.a >= made || gate.b < 0 || gate.b >= made) {
            refuse("gate " + std::to_string(g) + ": reads wires " + std::to_string(gate.a) + " and " + std::to_string(gate.b) +
                   "; only 0 to " + std::to_string(made - 1) + " exist yet");
        }
        and_gates += gate.operation == kAnd;
    }
    const std::size_t output_count = outputs.shape(0);
    for (std::size_t k = 0; k < output_count; ++k) {
        const std::int32_t wire = outputs.data()[k];
        if (wire < 0 || static_cast<std::size_t>(wire) >= input_count + gate_count) {
            refuse("output " + std::to_string(k) + ": wire " + std::to_string(wire) + " does not exist");
        }
    }
    if (product({2, and_gates, instances}) > (std::size_t{1} << 32)) {
        refuse("batch: " + std::to_string(and_gates) + " AND gates times " + std::to_string(instances) +
               " instances need more than 2^32 tweaks; use smaller batches, each with a fresh start");
    }
    return {{list, gate_count, input_count, outputs.data(), output_count, instances}, and_gates};
}

nb::tuple garble_batch(const In<std::int32_t, 2>& gates, const In<std::uint8_t, 3>& input_zero_labels,
                       const In<std::int32_t, 1>& outputs, const nb::bytes& delta, const nb::bytes& start, const std::string& path) {
    const AesPath chosen = path_named(path);
    const Secret secret{block_of(delta, "delta"), block_of(start, "start")};
    if ((secret.delta.lo & 1) == 0) refuse("delta: its lowest bit is 0; point and permute needs 1");
    const auto [run, and_gates] = check_run(gates, input_zero_labels, outputs);
    auto tables = new_array<std::uint8_t, 3>({and_gates, run.instances, kTableBytes});
    auto output_labels = new_array<std::uint8_t, 3>({run.output_count, run.instances, sizeof(Block)});
    {
        const auto* in = reinterpret_cast<const Block*>(input_zero_labels.data());
        auto* out = reinterpret_cast<Block*>(output_labels.data());
        std::uint8_t* table_bytes = tables.data();
        nb::gil_scoped_release release;
        garble(chosen, run, in, out, table_bytes, secret);
    }
    return nb::make_tuple(tables, output_labels);
}

Out<std::uint8_t, 3> evaluate_batch(const In<std::int32_t, 2>& gates, const In<std::uint8_t, 3>& input_labels,
                                    const In<std::int32_t, 1>& outputs, const In<std::uint8_t, 3>& tables, const nb::bytes& start,
                                    const std::string& path) {
    const AesPath chosen = path_named(path);
    const Block start_block = block_of(start, "start");
    const auto [run, and_gates] = check_run(gates, input_labels, outputs);
    if (tables.shape(0) != and_gates || tables.shape(1) != run.instances || tables.shape(2) != kTableBytes) {
        refuse("tables: shape (" + std::to_string(tables.shape(0)) + ", " + std::to_string(tables.shape(1)) + ", " +
               std::to_string(tables.shape(2)) + ") given; this circuit has (" + std::to_string(and_gates) + ", " +
               std::to_string(run.instances) + ", 32)");
    }
    auto output_labels = new_array<std::uint8_t, 3>({run.output_count, run.instances, sizeof(Block)});
    const auto* in = reinterpret_cast<const Block*>(input_labels.data());
    auto* out = reinterpret_cast<Block*>(output_labels.data());
    const std::uint8_t* table_bytes = tables.data();
    nb::gil_scoped_release release;
    evaluate(chosen, run, in, out, table_bytes, start_block);
    return output_labels;
}

}  // namespace
}  // namespace autoprivacy

NB_MODULE(_native, m) {
    using namespace autoprivacy;
    m.doc() = "Native core: AES-128, half gates, bit matrices and bit packing. `path` is 'best', 'portable' or 'aesni'.";
    m.def("aes_path", &aes_path, "The AES path that 'best' takes on this processor: 'aesni' or 'portable'.");
    m.def("aes_encrypt", &aes_encrypt, "keys"_a.noconvert(), "blocks"_a.noconvert(), "path"_a = "best",
          "Encrypt row i of `blocks` (count, 16) with AES-128 under row i of `keys` (count, 16).");
    m.def("prg", &prg, "seed"_a, "byte_count"_a, "counter"_a = 0, "path"_a = "best",
          "AES-128 in counter mode: the stream of a 16-byte seed from block `counter` on; the counter is the lower half of the block.");
    m.def("prg_rows", &prg_rows, "seeds"_a.noconvert(), "row_bytes"_a, "counter"_a = 0, "path"_a = "best",
          "Row i is what `prg` makes of seed i (rows, 16).");
    m.def("transpose_bits", &transpose_bits, "rows"_a.noconvert(),
          "Transpose 128 rows of bits (128, bytes): bit i of row j of the result (8 * bytes, 16) is bit j of row i.");
    m.def("pack_bits", &pack, "words"_a.noconvert(), "bits"_a,
          "The lowest `bits` bits of every word, contiguous and little endian; words that are wider are refused.");
    m.def("unpack_bits", &unpack, "data"_a, "bits"_a, "count"_a, "The inverse of `pack_bits`; the length and the padding must be right.");
    m.def("garble", &garble_batch, "gates"_a.noconvert(), "input_zero_labels"_a.noconvert(), "outputs"_a.noconvert(), "delta"_a,
          "start"_a, "path"_a = "best",
          nb::sig("def garble(gates: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu', "
                  "writable=False)], input_zero_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', "
                  "device='cpu', writable=False)], outputs: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', "
                  "device='cpu', writable=False)], delta: bytes, start: bytes, path: str = 'best') -> tuple[NDArray[numpy.uint8], "
                  "NDArray[numpy.uint8]]"),
          "Tables (and_gates, instances, 32) and zero labels of the outputs (outputs, instances, 16).");
    m.def("evaluate", &evaluate_batch, "gates"_a.noconvert(), "input_labels"_a.noconvert(), "outputs"_a.noconvert(),
          "tables"_a.noconvert(), "start"_a, "path"_a = "best", "Active labels of the outputs (outputs, instances, 16).");
}
