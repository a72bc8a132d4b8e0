// Shapes of published models, as their config.json states them: for models with random weights (arch/synth.h).
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "format/json.h"

namespace llorch::arch {

struct PublishedShape {
  std::string_view name;    // of the model
  std::string_view layers;  // kinds of layers (layer_types), repeated as often as needed; empty: not stated
  std::string_view config;  // the other fields
};

[[nodiscard]] std::span<const PublishedShape> published_shapes();

/// The shape's config.json with `fields` over its own. Errors: kInvalidRequest for fields that are no JSON object.
[[nodiscard]] Result<json::object> config_of(const PublishedShape& shape, std::string_view fields = {});

}  // namespace llorch::arch
