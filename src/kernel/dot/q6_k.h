// Q6_K in panels: nibbles and upper bit pairs; per 16 columns a signed scale under f16 d.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ6_K{.type = DType::kQ6_K,
                                 .block = 256,
                                 .sub = 16,
                                 .zero = 32,
                                 .wide = false,
                                 .nibbles = 1,
                                 .pairs = 1,
                                 .bits = 0,
                                 .bytes = 0,
                                 .scales = Scales::kSuper,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
