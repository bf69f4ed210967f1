// Circuits, garbled and evaluated: whole batches in arrays, or piece by piece in the messages that are sent.
#include <vector>

#include "bindings.h"
#include "bit_packing.h"
#include "compile.h"

namespace autoprivacy {
namespace {

using namespace nb::literals;

constexpr std::size_t kMaxRows = std::size_t{1} << 31;

Hash hash_named(const std::string& name) {
    if (name == "rekeyed") return Hash::rekeyed;
    if (name == "tmmo") return Hash::tmmo;
    refuse("hash '" + name + "': use 'rekeyed' or 'tmmo'");
}

// The first and the count of a piece's instances, and the views that its message is cut into.
struct Piece {
    std::size_t first, count;
    std::size_t server_bytes, colour_bytes, table_bytes;

    std::size_t bytes() const { return server_bytes + colour_bytes + table_bytes; }
};

class GarblingProgram {
public:
    GarblingProgram(const In<std::int32_t, 2>& gates, const In<bool, 1>& server_inputs, const In<std::int32_t, 1>& outputs)
        : server_(server_inputs.data(), server_inputs.data() + server_inputs.shape(0)) {
        const std::size_t inputs = server_.size(), gate_count = gates.shape(0), output_count = outputs.shape(0);
        if (gates.shape(1) != 3) refuse("gates: " + std::to_string(gates.shape(1)) + " columns given; use operation, a, b");
        if (inputs > 0x3FFFFFFF || gate_count > 0x3FFFFFFF) refuse("gates: more than 2^31 wires");
        const auto* list = reinterpret_cast<const Gate*>(gates.data());
        for (std::size_t g = 0; g < gate_count; ++g) {
            const Gate gate = list[g];
            const auto made = static_cast<std::int64_t>(inputs + g);
            if (gate.operation < kAnd || gate.operation > kNot) {
                refuse("gate " + std::to_string(g) + ": operation " + std::to_string(gate.operation) + "; use 0 (AND), 1 (XOR), 2 (NOT)");
            }
            if (gate.a < 0 || gate.a >= made || gate.b < 0 || gate.b >= made) {
                refuse("gate " + std::to_string(g) + ": reads wires " + std::to_string(gate.a) + " and " + std::to_string(gate.b) +
                       "; only 0 to " + std::to_string(made - 1) + " exist yet");
            }
        }
        for (std::size_t k = 0; k < output_count; ++k) {
            const std::int32_t wire = outputs.data()[k];
            if (wire < 0 || static_cast<std::size_t>(wire) >= inputs + gate_count) {
                refuse("output " + std::to_string(k) + ": wire " + std::to_string(wire) + " does not exist");
            }
        }
        for (const bool server : server_) server_count_ += server;
        compiled_ = compile(list, gate_count, inputs, outputs.data(), output_count);
    }

    std::size_t and_gates() const { return compiled_.and_gates; }
    std::size_t scratch_labels() const { return compiled_.places; }

    nb::tuple garble(const In<std::uint8_t, 3>& input_zero_labels, const nb::bytes& delta, const nb::bytes& start, std::size_t first_row,
                     const std::string& hash, const std::string& path) const {
        const Kernels& kernels = path_named(path);
        const Hash chosen = hash_named(hash);
        const Block delta_block = delta_of(delta), start_block = block_of(start, "start");
        const std::size_t instances = check_labels(input_zero_labels), rows = check_rows(instances, first_row);
        auto tables = new_array<std::uint8_t, 2>({rows, kTableBytes});
        auto labels = new_array<std::uint8_t, 3>({compiled_.outputs.size(), instances, sizeof(Block)});
        const std::vector<InputWire> inputs = wires_of(input_zero_labels.data(), instances);
        const GarbleJob job{inputs.data(), instances,    static_cast<std::uint32_t>(first_row), delta_block, start_block, tables.data(),
                            labels.data(), nullptr};
        {
            nb::gil_scoped_release release;
            kernels.garble(compiled_.view(), job, chosen);
        }
        return nb::make_tuple(tables, labels);
    }

    Out<std::uint8_t, 3> evaluate(const In<std::uint8_t, 3>& input_labels, const In<std::uint8_t, 2>& tables, const nb::bytes& start,
                                  std::size_t first_row, const std::string& hash, const std::string& path) const {
        const Kernels& kernels = path_named(path);
        const Hash chosen = hash_named(hash);
        const Block start_block = block_of(start, "start");
        const std::size_t instances = check_labels(input_labels), rows = check_rows(instances, first_row);
        if (tables.shape(0) != rows || tables.shape(1) != kTableBytes) {
            refuse("tables: shape (" + std::to_string(tables.shape(0)) + ", " + std::to_string(tables.shape(1)) + ") given; this batch has (" +
                   std::to_string(rows) + ", 32)");
        }
        auto labels = new_array<std::uint8_t, 3>({compiled_.outputs.size(), instances, sizeof(Block)});
        const std::vector<InputWire> inputs = wires_of(input_labels.data(), instances);
        const EvaluateJob job{inputs.data(), instances, static_cast<std::uint32_t>(first_row), start_block, tables.data(), labels.data(), nullptr};
        nb::gil_scoped_release release;
        kernels.evaluate(compiled_.view(), job, chosen);
        return labels;
    }

    void garble_piece(const Writable<std::uint8_t, 1>& message, const In<std::uint8_t, 3>& client_zero_labels,
                      const In<std::uint8_t, 2>& server_bits, std::size_t first, std::size_t count, const nb::bytes& delta,
                      const nb::bytes& start, const nb::bytes& seed, const std::string& hash, const std::string& path) const {
        const Kernels& kernels = path_named(path);
        const Hash chosen = hash_named(hash);
        const Block delta_block = delta_of(delta), start_block = block_of(start, "start"), seed_block = block_of(seed, "seed");
        const std::size_t instances = check_client(client_zero_labels, "client_zero_labels");
        if (server_bits.shape(0) != server_count_ || server_bits.shape(1) != instances) {
            refuse("server_bits: shape (" + std::to_string(server_bits.shape(0)) + ", " + std::to_string(server_bits.shape(1)) + "); the circuit needs (" +
                   std::to_string(server_count_) + ", " + std::to_string(instances) + ")");
        }
        const Piece piece = piece_of(first, count, instances, message.shape(0));
        std::uint8_t* const server_labels = message.data();
        const std::vector<InputWire> inputs =
            wires_of(server_labels, count, server_bits.data() + first, client_zero_labels.data() + first * sizeof(Block), instances);
        std::vector<std::uint8_t> colours(compiled_.outputs.size() * count);
        const GarbleJob job{inputs.data(), count, static_cast<std::uint32_t>(first * compiled_.and_gates), delta_block, start_block,
                            server_labels + piece.server_bytes + piece.colour_bytes, nullptr, colours.data()};
        nb::gil_scoped_release release;
        Block round_keys[11];
        kernels.round_keys_of(seed_block, round_keys);
        kernels.expand(round_keys, first * server_count_, server_labels, count * server_count_);
        kernels.garble(compiled_.view(), job, chosen);
        pack_bools(colours.data(), colours.size(), server_labels + piece.server_bytes);
    }

    void evaluate_piece(const In<std::uint8_t, 1>& message, const In<std::uint8_t, 3>& client_labels, std::size_t first, std::size_t count,
                        const nb::bytes& start, const Writable<std::uint8_t, 2>& bits, const std::string& hash, const std::string& path) const {
        const Kernels& kernels = path_named(path);
        const Hash chosen = hash_named(hash);
        const Block start_block = block_of(start, "start");
        const std::size_t instances = check_client(client_labels, "client_labels"), outputs = compiled_.outputs.size();
        if (bits.shape(0) != outputs || bits.shape(1) != instances) refuse("bits: give an array (outputs, instances)");
        const Piece piece = piece_of(first, count, instances, message.shape(0));
        const std::uint8_t* const server_labels = message.data();
        const std::vector<InputWire> inputs =
            wires_of(server_labels, count, nullptr, client_labels.data() + first * sizeof(Block), instances);
        std::vector<std::uint8_t> colours(outputs * count);
        const EvaluateJob job{inputs.data(), count, static_cast<std::uint32_t>(first * compiled_.and_gates), start_block,
                              server_labels + piece.server_bytes + piece.colour_bytes, nullptr, colours.data()};
        std::uint8_t* const out = bits.data();
        nb::gil_scoped_release release;
        kernels.evaluate(compiled_.view(), job, chosen);
        const std::uint8_t* const packed = server_labels + piece.server_bytes;
        for (std::size_t k = 0; k < outputs; ++k) {
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t bit = k * count + i;
                out[k * instances + first + i] = static_cast<std::uint8_t>(colours[bit] ^ (packed[bit / 8] >> (bit % 8) & 1));
            }
        }
    }

private:
    static Block delta_of(const nb::bytes& delta) {
        const Block block = block_of(delta, "delta");
        if ((block.lo & 1) == 0) refuse("delta: its lowest bit is 0; point and permute needs 1");
        return block;
    }

    std::size_t check_labels(const In<std::uint8_t, 3>& labels) const {
        require_blocks(labels.shape(2), "input labels");
        if (labels.shape(0) != server_.size()) {
            refuse("input labels: " + std::to_string(labels.shape(0)) + " wires given; the circuit has " + std::to_string(server_.size()));
        }
        return labels.shape(1);
    }

    std::size_t check_client(const In<std::uint8_t, 3>& labels, const char* name) const {
        require_blocks(labels.shape(2), name);
        if (labels.shape(0) != server_.size() - server_count_) {
            refuse(std::string(name) + ": " + std::to_string(labels.shape(0)) + " wires given; the circuit has " +
                   std::to_string(server_.size() - server_count_) + " of the client");
        }
        check_rows(labels.shape(1), 0);
        return labels.shape(1);
    }

    std::size_t check_rows(std::size_t instances, std::size_t first_row) const {
        const std::size_t rows = product({compiled_.and_gates, instances});
        product({compiled_.places, kStripe, sizeof(Block)});
        if (rows > kMaxRows || first_row > kMaxRows - rows) {
            refuse("batch: " + std::to_string(compiled_.and_gates) + " AND gates times " + std::to_string(instances) +
                   " instances need more than 2^32 tweaks; use smaller batches, each with a fresh start");
        }
        return rows;
    }

    Piece piece_of(std::size_t first, std::size_t count, std::size_t instances, std::size_t given) const {
        if (first > instances || count > instances - first) refuse("piece: it ends after the last instance");
        // Rows follow from stripes, and the bits of a piece are whole bytes.
        if (first % kStripe != 0 || (count % kStripe != 0 && first + count != instances)) refuse("piece: give whole stripes of 64 instances");
        const Piece piece{first, count, product({server_count_, count, sizeof(Block)}), (product({compiled_.outputs.size(), count}) + 7) / 8,
                          product({compiled_.and_gates, count, kTableBytes})};
        if (given != piece.bytes()) {
            refuse("message: " + std::to_string(given) + " bytes given; " + std::to_string(count) + " instances take " + std::to_string(piece.bytes()));
        }
        return piece;
    }

    std::vector<InputWire> wires_of(const std::uint8_t* labels, std::size_t instances) const {
        std::vector<InputWire> wires;
        for (std::size_t w = 0; w < server_.size(); ++w) wires.push_back({labels + w * instances * sizeof(Block), nullptr});
        return wires;
    }

    // The server's `count` labels of each of its wires lie side by side, the client's in rows of `instances`.
    std::vector<InputWire> wires_of(const std::uint8_t* server, std::size_t count, const std::uint8_t* bits, const std::uint8_t* client,
                                    std::size_t instances) const {
        std::vector<InputWire> wires;
        for (const bool is_server : server_) {
            if (is_server) {
                wires.push_back({server, bits});
                server += count * sizeof(Block);
                if (bits != nullptr) bits += instances;
            } else {
                wires.push_back({client, nullptr});
                client += instances * sizeof(Block);
            }
        }
        return wires;
    }

    std::vector<bool> server_;
    std::size_t server_count_ = 0;
    CompiledProgram compiled_{};
};

}  // namespace

void bind_garbling(nb::module_& m) {
    m.attr("STRIPE") = kStripe;
    nb::class_<GarblingProgram>(m, "Program", "A circuit prepared for garbling and evaluation. `hash` is 'rekeyed' or 'tmmo'.")
        .def(nb::init<const In<std::int32_t, 2>&, const In<bool, 1>&, const In<std::int32_t, 1>&>(), "gates"_a.noconvert(),
             "server_inputs"_a.noconvert(), "outputs"_a.noconvert())
        .def_prop_ro("and_gates", &GarblingProgram::and_gates, "AND gates of one instance.")
        .def_prop_ro("scratch_labels", &GarblingProgram::scratch_labels, "Labels of one instance that are held at a time.")
        .def("garble", &GarblingProgram::garble, "input_zero_labels"_a.noconvert(), "delta"_a, "start"_a, "first_row"_a = 0, "hash"_a = "rekeyed",
             "path"_a = "best",
             nb::sig("def garble(self, input_zero_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', "
                     "device='cpu', writable=False)], delta: bytes, start: bytes, first_row: int = 0, hash: str = 'rekeyed', path: str = "
                     "'best') -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]"),
             "Tables (AND gates * instances, 32) and zero labels of the outputs (outputs, instances, 16). Row r takes the tweaks 2r and 2r + 1.")
        .def("evaluate", &GarblingProgram::evaluate, "input_labels"_a.noconvert(), "tables"_a.noconvert(), "start"_a, "first_row"_a = 0,
             "hash"_a = "rekeyed", "path"_a = "best", "Active labels of the outputs (outputs, instances, 16).")
        .def("garble_piece", &GarblingProgram::garble_piece, "message"_a.noconvert(), "client_zero_labels"_a.noconvert(), "server_bits"_a.noconvert(),
             "first"_a, "count"_a, "delta"_a, "start"_a, "seed"_a, "hash"_a = "rekeyed", "path"_a = "best",
             "Write the message of `count` instances from `first` on: the server's active labels (expanded from `seed`), colours, tables. Labels "
             "(client's inputs, instances, 16) and bits (server's inputs, instances), 0 and 1, are of the whole batch.")
        .def("evaluate_piece", &GarblingProgram::evaluate_piece, "message"_a.noconvert(), "client_labels"_a.noconvert(), "first"_a, "count"_a, "start"_a,
             "bits"_a.noconvert(), "hash"_a = "rekeyed", "path"_a = "best",
             "Evaluate such a message, and write what comes out into its columns of `bits` (outputs, instances).");
}

}  // namespace autoprivacy
