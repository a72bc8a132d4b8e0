// The scalar kernels.
#include "kernel/isa/scalar_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(scalar)
