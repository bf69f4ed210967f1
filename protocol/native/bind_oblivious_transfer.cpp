// Oblivious-transfer extension: seeds with their expanded keys, and where their streams are.
#include <limits>
#include <vector>

#include "bindings.h"
#include "bit_packing.h"
#include "ot_extension.h"

namespace autoprivacy {
namespace {

using namespace nb::literals;

std::vector<Block> expanded(const Kernels& kernels, const In<std::uint8_t, 2>& seeds, const char* name) {
    require_blocks(seeds.shape(1), name);
    if (seeds.shape(0) != kBaseTransfers) refuse(std::string(name) + ": " + std::to_string(seeds.shape(0)) + " seeds given; there are 128");
    std::vector<Block> keys(kBaseTransfers * kRoundKeys);
    for (std::size_t i = 0; i < kBaseTransfers; ++i) kernels.round_keys_of(load_block(seeds.data() + 16 * i), &keys[kRoundKeys * i]);
    return keys;
}

// Blocks of a stream, each used once.
struct Position {
    std::uint64_t next = 0;

    std::uint64_t take(std::size_t count) {
        const std::uint64_t first = next, blocks = (count + 127) / 128;
        if (blocks > std::numeric_limits<std::uint64_t>::max() - next) refuse("count: the streams would repeat; start a new session");
        next += blocks;
        return first;
    }
};

class OtReceiver {
public:
    OtReceiver(const In<std::uint8_t, 2>& zero_seeds, const In<std::uint8_t, 2>& one_seeds, const std::string& path)
        : kernels_(path_named(path)), zero_(expanded(kernels_, zero_seeds, "zero_seeds")), one_(expanded(kernels_, one_seeds, "one_seeds")) {}

    nb::tuple extend(const In<std::uint8_t, 1>& choices) {
        const std::size_t count = choices.shape(0), row_bytes = (count + 7) / 8;
        const std::uint8_t* const given = choices.data();
        std::uint8_t any = 0;
        for (std::size_t i = 0; i < count; ++i) any |= given[i];
        if (any > 1) refuse("choices: give a (count,) uint8 array of 0 and 1");
        std::vector<std::uint8_t> packed(row_bytes);
        pack_bools(given, count, packed.data());
        auto message = new_array<std::uint8_t, 1>({product({kBaseTransfers, row_bytes})});
        auto labels = new_array<std::uint8_t, 2>({count, sizeof(Block)});
        const std::uint64_t first = position_.take(count);
        std::uint8_t *message_bytes = message.data(), *label_bytes = labels.data();
        {
            nb::gil_scoped_release release;
            extend_receiver(kernels_, zero_.data(), one_.data(), first, packed.data(), count, message_bytes, label_bytes);
        }
        return nb::make_tuple(message, labels);
    }

private:
    const Kernels& kernels_;
    std::vector<Block> zero_, one_;
    Position position_;
};

class OtSender {
public:
    OtSender(const In<std::uint8_t, 2>& seeds, const nb::bytes& delta, const std::string& path)
        : kernels_(path_named(path)), keys_(expanded(kernels_, seeds, "seeds")), delta_(block_of(delta, "delta")) {}

    Out<std::uint8_t, 2> extend(const In<std::uint8_t, 1>& message, std::size_t count) {
        if (message.shape(0) != product({kBaseTransfers, (count + 7) / 8})) {
            refuse("message: " + std::to_string(message.shape(0)) + " bytes given for " + std::to_string(count) + " transfers");
        }
        auto labels = new_array<std::uint8_t, 2>({count, sizeof(Block)});
        const std::uint64_t first = position_.take(count);
        const std::uint8_t* message_bytes = message.data();
        std::uint8_t* label_bytes = labels.data();
        nb::gil_scoped_release release;
        extend_sender(kernels_, keys_.data(), first, delta_, message_bytes, count, label_bytes);
        return labels;
    }

private:
    const Kernels& kernels_;
    std::vector<Block> keys_;
    Block delta_;
    Position position_;
};

}  // namespace

void bind_oblivious_transfer(nb::module_& m) {
    nb::class_<OtReceiver>(m, "OtReceiver", "The receiver of transfers extended from 128 pairs of seeds (128, 16); it goes on where it ended.")
        .def(nb::init<const In<std::uint8_t, 2>&, const In<std::uint8_t, 2>&, const std::string&>(), "zero_seeds"_a.noconvert(),
             "one_seeds"_a.noconvert(), "path"_a = "best")
        .def("extend", &OtReceiver::extend, "choices"_a.noconvert(),
             nb::sig("def extend(self, choices: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', "
                     "writable=False)]) -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]"),
             "The message to the sender (128 * ceil(count / 8),) and the active labels (count, 16), for choices (count,) of 0 and 1.");
    nb::class_<OtSender>(m, "OtSender", "The sender: a seed of each pair, by the bits of Delta.")
        .def(nb::init<const In<std::uint8_t, 2>&, const nb::bytes&, const std::string&>(), "seeds"_a.noconvert(), "delta"_a, "path"_a = "best")
        .def("extend", &OtSender::extend, "message"_a.noconvert(), "count"_a, "The zero labels (count, 16).");
}

}  // namespace autoprivacy
