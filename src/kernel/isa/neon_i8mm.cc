// The neon_i8mm kernels.
#define LLORCH_NEON_I8MM 1
#include "kernel/isa/neon_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(neon_i8mm)
