// What the source file of each x86-64 path holds; it sets AUTOPRIVACY_WIDTH and AUTOPRIVACY_CHUNK before.
#pragma once

#include "transpose.h"
#include "x86_half_gates.h"

#define AUTOPRIVACY_KERNELS(constant, name) \
    const Kernels constant = {name, encrypt_each, round_keys_of, expand, transpose_rows, garble, evaluate};
