// Repacks weight rows from a file's layout into the panels of an ISA (kernel/layout.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/kernels.h"
#include "tensor/dtype.h"

namespace llorch::kernel {

/// True when the type has a panel layout (every weight type that has a file in kernel/dot/, and the plain types).
[[nodiscard]] bool can_pack(DType type);

/// Bytes of one panel of `isa.panel` rows with `k` columns.
[[nodiscard]] std::int64_t panel_bytes(const Kernels& isa, DType type, std::int64_t k);

/// Packs one panel. `rows` (1..isa.panel) rows start at `source`, row_bytes apart; missing rows become zeros.
void pack_panel(const Kernels& isa, DType type, std::int64_t k, const std::byte* source, int rows, std::uint8_t* out);

}  // namespace llorch::kernel
