#define AUTOPRIVACY_RING_PATH avx512
#include "kernels.inc"
