#define AUTOPRIVACY_WIDTH 2
#define AUTOPRIVACY_CHUNK 64
#include "path_x86.h"

namespace autoprivacy {
AUTOPRIVACY_KERNELS(kVaes256, "vaes256")
}
