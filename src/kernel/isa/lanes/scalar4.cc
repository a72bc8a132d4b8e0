// The scalar kernels with 4 lanes, for tests: results do not depend on their number.
#define LLORCH_SCALAR_LANES 4
#define LLORCH_SCALAR_NAME "scalar4"
#include "kernel/isa/scalar_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(scalar4)
