// What the JSON library accepts silently: a key that stands twice in one object.
//
// Threads: any. Errors: those of `limit`.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/work_limit.h"

namespace llorch::json {

/// The place of the first such key in a text that was parsed before, as "[0].function.name". `limit`, where there is
/// one, is charged for every portion of the text.
[[nodiscard]] Result<std::optional<std::string>> doubled_key(std::string_view text, WorkLimit* limit = nullptr);

}  // namespace llorch::json
