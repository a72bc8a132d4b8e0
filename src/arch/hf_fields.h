// What may stand in a config.json, whatever its family reads of it: a field of another type than it should have is
// refused by its name, and so is one that asks for other maths than the family computes and that it does not read.
//
// Fields that are in no table here are not looked at: hundreds exist that say nothing of the maths (training, tokens,
// names).
#pragma once

#include <string_view>

#include "base/result.h"
#include "format/json.h"

namespace llorch::arch {

/// Errors: kModelLoadFailed with the field and its value.
[[nodiscard]] Status hf_check_fields(const json::object& config, std::string_view family);

/// The name of each field whose type is checked, of `config` itself: for tests.
[[nodiscard]] bool hf_field_is_typed(std::string_view name);

}  // namespace llorch::arch
