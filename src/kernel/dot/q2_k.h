// Q2_K in panels: bit pairs; per 16 columns a nibble of scale and one of minimum under f16 d and dmin.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ2_K{.type = DType::kQ2_K,
                                 .block = 256,
                                 .sub = 16,
                                 .zero = 0,
                                 .wide = false,
                                 .nibbles = 0,
                                 .pairs = 1,
                                 .bits = 0,
                                 .bytes = 0,
                                 .scales = Scales::kSuperNibble,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
