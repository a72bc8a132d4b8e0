// A Hugging Face directory seen as a GGUF-named source: config.json becomes metadata, tensors get GGUF's names, layouts
// are turned where they differ, so that everything after it is the same for both formats and gives the same bits.
#pragma once

#include <memory>
#include <string>

#include "arch/architecture.h"
#include "base/work_limit.h"
#include "format/weight_source.h"

namespace llorch::arch {

/// The metadata and the hyper-parameters that a config.json stands for. Errors: kModelLoadFailed for an unknown
/// model_type, and for a field that is missing, mistyped or asks for what is not computed.
struct HfModel {
  const Architecture* family;
  Metadata metadata;
  Hyper hyper;
};
[[nodiscard]] Result<HfModel> read_hf(const json::object& config);

/// Errors: kModelLoadFailed for an unknown model_type, a missing tensor, one that nothing uses, or a shape that does
/// not fit. kCancelled.
[[nodiscard]] Result<std::unique_ptr<WeightSource>> open_hf(const std::string& directory,
                                                            CancelFlag cancelled = nullptr);

/// A GGUF file (or the first of a split), or a SafeTensors directory.
[[nodiscard]] Result<std::unique_ptr<WeightSource>> open_source(const std::string& path,
                                                                CancelFlag cancelled = nullptr);

}  // namespace llorch::arch
