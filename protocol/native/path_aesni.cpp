#define AUTOPRIVACY_WIDTH 1
#define AUTOPRIVACY_CHUNK 32
#include "path_x86.h"

namespace autoprivacy {
AUTOPRIVACY_KERNELS(kAesNi, "aesni")
}
