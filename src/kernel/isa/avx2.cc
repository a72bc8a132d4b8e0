// The avx2 kernels.
#include "kernel/isa/avx2_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(avx2)
