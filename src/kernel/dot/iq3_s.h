// IQ3_S in panels: nibbles that index the 16 odd numbers from -15 to 15 (offset by 15), which its codebook and signs
// stand for; per 32 columns a scale under f16 d.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr std::uint8_t kLookupIQ3_S[16] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
constexpr PanelFormat kPanelIQ3_S{.type = DType::kIQ3_S,
                                  .block = 256,
                                  .sub = 32,
                                  .zero = 15,
                                  .wide = false,
                                  .nibbles = 1,
                                  .pairs = 0,
                                  .bits = 0,
                                  .bytes = 0,
                                  .scales = Scales::kSuperSigned,
                                  .indexed = true,
                                  .lookup = kLookupIQ3_S};

}  // namespace llorch::kernel
