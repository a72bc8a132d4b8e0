// TQ2_0 in panels: bit pairs under one f16 d.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelTQ2_0{.type = DType::kTQ2_0,
                                  .block = 256,
                                  .sub = 32,
                                  .zero = 1,
                                  .wide = false,
                                  .nibbles = 0,
                                  .pairs = 1,
                                  .bits = 0,
                                  .bytes = 0,
                                  .scales = Scales::kHalf,
                                  .indexed = false,
                                  .lookup = nullptr};

}  // namespace llorch::kernel
