// The name of a model's quantization, as people know it: Q4_K_M, Q8_0, BF16.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "format/weight_source.h"

namespace llorch {

/// What the file itself states (general.file_type), where its tensors have that type; else the type that has the most
/// bytes: a large embedding in another type than the matrices may have more bytes than these.
[[nodiscard]] std::string quantization_name(const WeightSource& source);

/// The number that GGUF's general.file_type has for a type or a mix of types; nothing where it has none.
[[nodiscard]] std::optional<std::uint32_t> file_type_number(std::string_view name);

}  // namespace llorch
