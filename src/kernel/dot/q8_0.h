// Q8_0 in panels: bytes offset by 128 and an f16 scale per 32 columns.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ8_0{.type = DType::kQ8_0,
                                 .block = 32,
                                 .sub = 32,
                                 .zero = 128,
                                 .wide = true,
                                 .nibbles = 0,
                                 .pairs = 0,
                                 .bits = 0,
                                 .bytes = 1,
                                 .scales = Scales::kHalf,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
