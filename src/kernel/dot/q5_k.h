// Q5_K in panels: nibbles and fifth bits; scales as in Q4_K.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ5_K{.type = DType::kQ5_K,
                                 .block = 256,
                                 .sub = 32,
                                 .zero = 0,
                                 .wide = false,
                                 .nibbles = 1,
                                 .pairs = 0,
                                 .bits = 1,
                                 .bytes = 0,
                                 .scales = Scales::kSuperPair,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
