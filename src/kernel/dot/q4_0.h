// Q4_0 in panels: nibbles and an f16 scale per 32 columns.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ4_0{.type = DType::kQ4_0,
                                 .block = 32,
                                 .sub = 32,
                                 .zero = 8,
                                 .wide = false,
                                 .nibbles = 1,
                                 .pairs = 0,
                                 .bits = 0,
                                 .bytes = 0,
                                 .scales = Scales::kHalf,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
