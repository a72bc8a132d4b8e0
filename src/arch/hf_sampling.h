// How the makers of a model want it sampled: generation_config.json beside its weights, as the metadata that GGUF's
// converter makes of it (general.sampling.*).
//
// Threads: any. Errors: kModelLoadFailed where the file is no JSON object.
#pragma once

#include <string>

#include "format/metadata.h"

namespace llorch::arch {

/// Adds `general.sampling.` temp, top_k, top_p, min_p and penalty_repeat, each where the directory's file states a
/// number for it; nothing where there is no such file.
[[nodiscard]] Status hf_read_sampling(const std::string& directory, Metadata& out);

}  // namespace llorch::arch
