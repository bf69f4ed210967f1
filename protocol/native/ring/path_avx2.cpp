#define AUTOPRIVACY_RING_PATH avx2
#include "kernels.inc"
