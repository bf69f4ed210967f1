#define AUTOPRIVACY_RING_PATH portable
#include "kernels.inc"
