// AES-128 [FIPS 197] on 128 blocks at once, in bit planes, each block under its own key. Constant time: no table, no branch
// on data. Plain C++ with the vector extension of GCC and Clang, so it compiles on any 64-bit machine.
#pragma once

#include "sbox.h"
#include "transpose.h"

namespace autoprivacy::portable {

constexpr std::size_t kLanes = 128;
typedef std::uint64_t Plane __attribute__((vector_size(16)));  // one bit of every lane

// Plane 8 * i + j is bit j of byte i of the block in every lane.
struct State {
    alignas(16) Plane planes[128];
};

static inline void load(State& state, const Block blocks[kLanes]) {
    Block copy[kLanes];
    std::memcpy(copy, blocks, sizeof copy);
    transpose_128(copy);
    std::memcpy(state.planes, copy, sizeof copy);
}

static inline void store(const State& state, Block blocks[kLanes]) {
    std::memcpy(blocks, state.planes, sizeof state.planes);
    transpose_128(blocks);
}

static inline void add_round_key(State& state, const State& key) {
    for (int i = 0; i < 128; ++i) state.planes[i] ^= key.planes[i];
}

static inline void substitute_and_shift_rows(State& state) {
    State from = state;
    for (int byte = 0; byte < 16; ++byte) sbox::substitute_planes(from.planes + 8 * byte);
    for (int column = 0; column < 4; ++column) {
        for (int row = 0; row < 4; ++row) {
            const int source = 4 * ((column + row) % 4) + row;
            std::memcpy(state.planes + 8 * (4 * column + row), from.planes + 8 * source, 8 * sizeof(Plane));
        }
    }
}

static inline void mix_columns(State& state) {
    for (int column = 0; column < 4; ++column) {
        Plane* bytes = state.planes + 32 * column;
        Plane sum[8], first[8];
        for (int j = 0; j < 8; ++j) {
            first[j] = bytes[j];
            sum[j] = bytes[j] ^ bytes[8 + j] ^ bytes[16 + j] ^ bytes[24 + j];
        }
        for (int row = 0; row < 4; ++row) {
            Plane pair[8];  // this byte plus the next one, to be doubled in GF(256)
            for (int j = 0; j < 8; ++j) pair[j] = bytes[8 * row + j] ^ (row == 3 ? first[j] : bytes[8 * (row + 1) + j]);
            for (int j = 0; j < 8; ++j) {
                Plane doubled = pair[(j + 7) % 8];
                if (j == 1 || j == 3 || j == 4) doubled ^= pair[7];
                bytes[8 * row + j] ^= sum[j] ^ doubled;
            }
        }
    }
}

static inline void next_round_key(State& key, unsigned round_constant) {
    Plane word[32];  // SubWord(RotWord(last word))
    for (int row = 0; row < 4; ++row) {
        std::memcpy(word + 8 * row, key.planes + 8 * (12 + (row + 1) % 4), 8 * sizeof(Plane));
        sbox::substitute_planes(word + 8 * row);
    }
    for (int j = 0; j < 8; ++j) {
        if ((round_constant >> j) & 1) word[j] = ~word[j];
    }
    for (int column = 0; column < 4; ++column) {
        for (int i = 0; i < 32; ++i) key.planes[32 * column + i] = word[i] ^= key.planes[32 * column + i];
    }
}

constexpr unsigned kRoundConstants[10] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1B, 0x36};

// Encrypt `count` states in place; lane i of all of them under lane i of `key`, which is used up.
static inline void encrypt(State& key, State* states, int count) {
    for (int s = 0; s < count; ++s) add_round_key(states[s], key);
    for (int round = 0; round < 10; ++round) {
        next_round_key(key, kRoundConstants[round]);
        for (int s = 0; s < count; ++s) {
            substitute_and_shift_rows(states[s]);
            if (round != 9) mix_columns(states[s]);
            add_round_key(states[s], key);
        }
    }
}

// Block i of `in` under key i, 16 bytes each.
static inline void encrypt_each(const std::uint8_t* keys, const std::uint8_t* in, std::uint8_t* out, std::size_t count) {
    State key, state;
    for (std::size_t done = 0; done < count; done += kLanes) {
        const std::size_t here = count - done < kLanes ? count - done : kLanes;
        Block blocks[kLanes] = {};
        std::memcpy(blocks, keys + done * sizeof(Block), here * sizeof(Block));
        load(key, blocks);
        std::memcpy(blocks, in + done * sizeof(Block), here * sizeof(Block));
        load(state, blocks);
        encrypt(key, &state, 1);
        store(state, blocks);
        std::memcpy(out + done * sizeof(Block), blocks, here * sizeof(Block));
    }
}

// See kernels.h. Every lane runs the same key schedule; lane 0 is read.
static inline void round_keys_of(Block key, Block* out) {
    Block lanes[kLanes];
    State state;
    for (Block& lane : lanes) lane = key;
    load(state, lanes);
    for (int round = 0; round <= 10; ++round) {
        store(state, lanes);
        out[round] = lanes[0];
        if (round < 10) next_round_key(state, kRoundConstants[round]);
    }
}

// See kernels.h.
static inline void expand(const Block* round_keys, std::uint64_t first, std::uint8_t* out, std::size_t count) {
    Block blocks[kLanes];
    State key, state;
    for (std::size_t done = 0; done < count; done += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) blocks[lane] = round_keys[0];
        load(key, blocks);
        for (std::size_t lane = 0; lane < kLanes; ++lane) blocks[lane] = {first + done + lane, 0};
        load(state, blocks);
        encrypt(key, &state, 1);
        store(state, blocks);
        const std::size_t here = count - done < kLanes ? count - done : kLanes;
        std::memcpy(out + done * sizeof(Block), blocks, here * sizeof(Block));
    }
}

}  // namespace autoprivacy::portable
