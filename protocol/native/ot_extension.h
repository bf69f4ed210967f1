// IKNP extension [IKNP03] correlated with Delta, a tile of columns at a time so that everything stays in the cache.
#pragma once

#include "kernels.h"

namespace autoprivacy {

constexpr std::size_t kBaseTransfers = 128;
constexpr std::size_t kRoundKeys = 11;

// Both sides start at column 128 * first_block of their streams. A message has 128 rows of `row_bytes` = (count + 7) / 8 bytes.
// round_keys: 11 a seed, 128 seeds (`zero`, `one`: those of the receiver's two sets).

// choices: one bit a transfer, packed, row_bytes long; the bits behind the last are zero. labels: (count, 16), the receiver's active labels.
void extend_receiver(const Kernels& kernels, const Block* zero, const Block* one, std::uint64_t first_block, const std::uint8_t* choices,
                     std::size_t count, std::uint8_t* message, std::uint8_t* labels);

// labels: (count, 16), the sender's zero labels; the receiver's are these, xored with choice * delta.
void extend_sender(const Kernels& kernels, const Block* round_keys, std::uint64_t first_block, Block delta, const std::uint8_t* message,
                   std::size_t count, std::uint8_t* labels);

}  // namespace autoprivacy
