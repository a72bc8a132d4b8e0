// The scalar kernels with 16 lanes, for tests: results do not depend on their number.
#define LLORCH_SCALAR_LANES 16
#define LLORCH_SCALAR_NAME "scalar16"
#include "kernel/isa/scalar_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(scalar16)
