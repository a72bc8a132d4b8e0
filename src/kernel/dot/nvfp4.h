// NVFP4 in panels: nibbles that index twice the E2M1 numbers, as in MXFP4; per 16 columns a scale as f16, half of it
// over 128, which is exact.
#pragma once

#include "kernel/dot/mxfp4.h"
#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelNVFP4{.type = DType::kNVFP4,
                                  .block = 32,
                                  .sub = 16,
                                  .zero = 12,
                                  .wide = false,
                                  .nibbles = 1,
                                  .pairs = 0,
                                  .bits = 0,
                                  .bytes = 0,
                                  .scales = Scales::kTwoHalves,
                                  .indexed = true,
                                  .lookup = kLookupMXFP4,
                                  .unit = 0x1p7f};

}  // namespace llorch::kernel
