// The neon kernels.
#include "kernel/isa/neon_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(neon)
