// The avx512 kernels.
#include "kernel/isa/avx512_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(avx512)
