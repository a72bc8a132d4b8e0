// The adapters of a model that is being loaded: read and checked before its weights, which take longer.
#pragma once

#include <span>
#include <vector>

#include "arch/adapter.h"

namespace llorch {

/// Each with its identity: a SHA-256 over tensors, shapes, scales and values, so that the same adapter has the same one
/// in whatever form it was stored. Errors: of arch::read_adapter; kInvalidRequest for two of one name, or too many.
[[nodiscard]] Result<std::vector<Adapter>> read_adapters(std::span<const arch::AdapterRef> refs,
                                                         const WeightSource& base, const Graph& graph);

}  // namespace llorch
