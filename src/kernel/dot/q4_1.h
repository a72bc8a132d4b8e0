// Q4_1 in panels: nibbles, an f16 scale and an f16 minimum per 32 columns.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ4_1{.type = DType::kQ4_1,
                                 .block = 32,
                                 .sub = 32,
                                 .zero = 0,
                                 .wide = false,
                                 .nibbles = 1,
                                 .pairs = 0,
                                 .bits = 0,
                                 .bytes = 0,
                                 .scales = Scales::kHalfMin,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
