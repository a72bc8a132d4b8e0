// Whether the GPU's worker computes on a GPU of this machine: it is started, with the model that is part of it.
#pragma once

#include <string>

#include "base/result.h"

namespace llorch::keeper {

/// Starts `worker` (the path of llorch-worker-cuda) on GPU `index` of those that NVML counts, for one token. Gives what
/// the program says of it. Blocks, at most a minute. Errors: the program's last words, or that it took too long.
[[nodiscard]] Result<std::string> try_gpu(const std::string& worker, int index);

}  // namespace llorch::keeper
