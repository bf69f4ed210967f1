#define AUTOPRIVACY_WIDTH 4
#define AUTOPRIVACY_CHUNK 64
#include "path_x86.h"

namespace autoprivacy {
AUTOPRIVACY_KERNELS(kVaes512, "vaes512")
}
