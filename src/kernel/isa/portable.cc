// The scalar kernels for processors without a fused multiply-add.
#include "kernel/isa/scalar_vec.h"

#include "kernel/body.h"

LLORCH_DEFINE_KERNELS(portable)
