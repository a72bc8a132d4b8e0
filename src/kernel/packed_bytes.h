// What a tensor takes in panels of kernels, without any kernel: for those who foretell memory and load nothing.
#pragma once

#include <cstdint>

#include "kernel/layout.h"
#include "panel_formats.inc"  // includes every kernel/dot/<format>.h
#include "tensor/dtype.h"

namespace llorch::kernel {

/// Of a tensor with so many bytes in its file; rows that fill a panel up are left out.
constexpr std::int64_t packed_bytes(DType type, std::int64_t bytes) {
#define LLORCH_PANEL(format)                                                                         \
  if (format.type == type)                                                                           \
    return bytes / info(type).bytes * (static_cast<std::int64_t>(info(type).block) / format.block) * \
           block_bytes(format, 1);
#include "panel_table.inc"
#undef LLORCH_PANEL
  return bytes;
}

}  // namespace llorch::kernel
