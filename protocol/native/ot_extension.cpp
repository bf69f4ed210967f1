#include "ot_extension.h"

namespace autoprivacy {
namespace {

constexpr std::size_t kTileBlocks = 16, kTileBytes = 16 * kTileBlocks, kTileColumns = 128 * kTileBlocks;

// Whole columns are transposed in place of the output; the last tile, which may not be whole, by way of memory of its own.
void write_labels(const Kernels& kernels, const std::uint8_t* rows, std::size_t columns, std::uint8_t* out) {
    if (columns == kTileColumns) return kernels.transpose(rows, kTileBytes, kTileBytes, out);
    std::uint8_t all[kTileColumns * sizeof(Block)];
    kernels.transpose(rows, kTileBytes, (columns + 127) / 128 * 16, all);
    std::memcpy(out, all, columns * sizeof(Block));
}

// xors `from` into `to`, whole words first.
void add(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes, std::uint64_t mask) {
    std::size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        std::uint64_t a, b;
        std::memcpy(&a, to + i, 8);
        std::memcpy(&b, from + i, 8);
        a ^= b & mask;
        std::memcpy(to + i, &a, 8);
    }
    for (; i < bytes; ++i) to[i] = static_cast<std::uint8_t>(to[i] ^ (from[i] & mask));
}

}  // namespace

void extend_receiver(const Kernels& kernels, const Block* zero, const Block* one, std::uint64_t first_block, const std::uint8_t* choices,
                     std::size_t count, std::uint8_t* message, std::uint8_t* labels) {
    alignas(64) std::uint8_t rows[kBaseTransfers * kTileBytes];
    const std::size_t row_bytes = (count + 7) / 8;
    for (std::size_t first = 0; first < count; first += kTileColumns) {
        const std::size_t columns = count - first < kTileColumns ? count - first : kTileColumns;
        const std::size_t bytes = (columns + 7) / 8, blocks = (columns + 127) / 128;
        const std::uint64_t block = first_block + first / 128;
        for (std::size_t i = 0; i < kBaseTransfers; ++i) {
            alignas(64) std::uint8_t other[kTileBytes];
            kernels.expand(zero + kRoundKeys * i, block, rows + kTileBytes * i, blocks);
            kernels.expand(one + kRoundKeys * i, block, other, blocks);
            add(other, rows + kTileBytes * i, bytes, ~std::uint64_t{0});
            add(other, choices + first / 8, bytes, ~std::uint64_t{0});
            std::memcpy(message + row_bytes * i + first / 8, other, bytes);
        }
        write_labels(kernels, rows, columns, labels + first * sizeof(Block));
    }
}

void extend_sender(const Kernels& kernels, const Block* round_keys, std::uint64_t first_block, Block delta, const std::uint8_t* message,
                   std::size_t count, std::uint8_t* labels) {
    alignas(64) std::uint8_t rows[kBaseTransfers * kTileBytes];
    const std::size_t row_bytes = (count + 7) / 8;
    for (std::size_t first = 0; first < count; first += kTileColumns) {
        const std::size_t columns = count - first < kTileColumns ? count - first : kTileColumns;
        const std::uint64_t block = first_block + first / 128;
        for (std::size_t i = 0; i < kBaseTransfers; ++i) {
            const std::uint64_t choice = (i < 64 ? delta.lo >> i : delta.hi >> (i - 64)) & 1;
            kernels.expand(round_keys + kRoundKeys * i, block, rows + kTileBytes * i, (columns + 127) / 128);
            add(rows + kTileBytes * i, message + row_bytes * i + first / 8, (columns + 7) / 8, std::uint64_t{0} - choice);
        }
        write_labels(kernels, rows, columns, labels + first * sizeof(Block));
    }
}

}  // namespace autoprivacy
