#define AUTOPRIVACY_WIDTH 1
#define AUTOPRIVACY_CHUNK 64
#include "path_x86.h"

namespace autoprivacy {
AUTOPRIVACY_KERNELS(kAesNi, "aesni")
}
