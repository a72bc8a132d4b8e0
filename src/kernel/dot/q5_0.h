// Q5_0 in panels: nibbles, fifth bits and an f16 scale per 32 columns.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ5_0{.type = DType::kQ5_0,
                                 .block = 32,
                                 .sub = 32,
                                 .zero = 16,
                                 .wide = false,
                                 .nibbles = 1,
                                 .pairs = 0,
                                 .bits = 1,
                                 .bytes = 0,
                                 .scales = Scales::kHalf,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
