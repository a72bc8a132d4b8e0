// The block formats of kernel/dot/ for kernels: by type, so that names of kernels stay short.
#pragma once

#include "kernel/layout.h"
#include "panel_formats.inc"  // includes every kernel/dot/<format>.h
#include "tensor/dtype.h"

namespace llorch::cuda {

constexpr kernel::PanelFormat panel_format(DType type) {
  using namespace kernel;
#define LLORCH_PANEL(format) \
  if (format.type == type) return format;
#include "panel_table.inc"
#undef LLORCH_PANEL
  return {};
}

}  // namespace llorch::cuda
