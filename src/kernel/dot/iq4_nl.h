// IQ4_NL in panels: nibbles that index 16 levels (offset by 128) and an f16 scale per 32 columns.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr std::uint8_t kLookupIQ4_NL[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
constexpr PanelFormat kPanelIQ4_NL{.type = DType::kIQ4_NL,
                                   .block = 32,
                                   .sub = 32,
                                   .zero = 128,
                                   .wide = true,
                                   .nibbles = 1,
                                   .pairs = 0,
                                   .bits = 0,
                                   .bytes = 0,
                                   .scales = Scales::kHalf,
                                   .indexed = true,
                                   .lookup = kLookupIQ4_NL};

}  // namespace llorch::kernel
