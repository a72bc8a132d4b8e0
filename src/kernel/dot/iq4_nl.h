// IQ4_NL in panels: nibbles that index 16 levels (offset by 127) and an f16 scale per 32 columns.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr std::uint8_t kLookupIQ4_NL[16] = {0, 23, 44, 62, 78, 92, 105, 117, 128, 140, 152, 165, 180, 196, 216, 240};
constexpr PanelFormat kPanelIQ4_NL{.type = DType::kIQ4_NL,
                                   .block = 32,
                                   .sub = 32,
                                   .zero = 127,
                                   .wide = true,
                                   .nibbles = 1,
                                   .pairs = 0,
                                   .bits = 0,
                                   .bytes = 0,
                                   .scales = Scales::kHalf,
                                   .indexed = true,
                                   .lookup = kLookupIQ4_NL};

}  // namespace llorch::kernel
