// MXFP4 in panels: nibbles that index twice the E2M1 numbers (offset by 12) and a power of two per 32 columns.
#pragma once

#include "kernel/layout.h"

namespace llorch::kernel {

constexpr std::uint8_t kLookupMXFP4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
constexpr PanelFormat kPanelMXFP4{.type = DType::kMXFP4,
                                  .block = 32,
                                  .sub = 32,
                                  .zero = 12,
                                  .wide = false,
                                  .nibbles = 1,
                                  .pairs = 0,
                                  .bits = 0,
                                  .bytes = 0,
                                  .scales = Scales::kE8M0,
                                  .indexed = true,
                                  .lookup = kLookupMXFP4};

}  // namespace llorch::kernel
