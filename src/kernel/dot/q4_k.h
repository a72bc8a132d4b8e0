// Q4_K in panels: nibbles; per 32 columns a byte of scale and one of minimum under f16 d and dmin.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ4_K{.type = DType::kQ4_K,
                                 .block = 256,
                                 .sub = 32,
                                 .zero = 0,
                                 .wide = false,
                                 .nibbles = 1,
                                 .pairs = 0,
                                 .bits = 0,
                                 .bytes = 0,
                                 .scales = Scales::kSuperPair,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
