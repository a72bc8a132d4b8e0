// IQ4_XS in panels: nibbles that index 16 levels (offset by 128); per 32 columns a signed scale under f16 d.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr std::uint8_t kLookupIQ4_XS[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
constexpr PanelFormat kPanelIQ4_XS{.type = DType::kIQ4_XS,
                                   .block = 256,
                                   .sub = 32,
                                   .zero = 128,
                                   .wide = true,
                                   .nibbles = 1,
                                   .pairs = 0,
                                   .bits = 0,
                                   .bytes = 0,
                                   .scales = Scales::kSuperSigned,
                                   .indexed = true,
                                   .lookup = kLookupIQ4_XS};

}  // namespace llorch::kernel
