// A model of a known shape with random weights that lies in no file: to measure a machine with a model that it does not
// have, as fast as its weights can be packed.
#pragma once

#include <memory>
#include <string_view>

#include "format/weight_source.h"

namespace llorch::arch {

inline constexpr std::string_view kRandomPrefix = "random:";

/// `what`: SHAPE:TYPE, a name of arch/synth.h's shape_names() (or the path of a config.json) and a type or mix, such as
/// qwen3-0.6b:Q4_K_M. Rows of matrices with more than a megabyte repeat: what is computed says nothing.
/// Errors: kInvalidRequest for another form, an unknown shape or type.
[[nodiscard]] Result<std::unique_ptr<WeightSource>> open_random(std::string_view what);

}  // namespace llorch::arch
