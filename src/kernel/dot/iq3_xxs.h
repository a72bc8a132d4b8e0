// IQ3_XXS in panels: nibbles that index the 16 whole numbers (offset by 62) which its codebook and signs stand for; per
// 32 columns a scale under a quarter of f16 d.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr std::uint8_t kLookupIQ3_XXS[16] = {0, 10, 18, 26, 34, 42, 50, 58, 66, 74, 82, 90, 98, 106, 114, 124};
constexpr PanelFormat kPanelIQ3_XXS{.type = DType::kIQ3_XXS,
                                    .block = 256,
                                    .sub = 32,
                                    .zero = 62,
                                    .wide = false,
                                    .nibbles = 1,
                                    .pairs = 0,
                                    .bits = 0,
                                    .bytes = 0,
                                    .scales = Scales::kSuperSigned,
                                    .indexed = true,
                                    .lookup = kLookupIQ3_XXS,
                                    .unit = 0.25f};

}  // namespace llorch::kernel
