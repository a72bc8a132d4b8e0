// Q3_K in panels: bit pairs and third bits; per 16 columns a signed scale under f16 d.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr PanelFormat kPanelQ3_K{.type = DType::kQ3_K,
                                 .block = 256,
                                 .sub = 16,
                                 .zero = 4,
                                 .wide = false,
                                 .nibbles = 0,
                                 .pairs = 1,
                                 .bits = 1,
                                 .bytes = 0,
                                 .scales = Scales::kSuper,
                                 .indexed = false,
                                 .lookup = nullptr};

}  // namespace llorch::kernel
