// The name that a person probably meant.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace llorch {

/// Of `known` the name that `typed` is nearest to: letters left out, added, replaced, or two exchanged, at most a third
/// of them; empty: none is near. Upper and lower case are alike.
[[nodiscard]] std::string nearest(std::string_view typed, std::span<const std::string> known);

/// ": did you mean 'NAME'?", or nothing.
[[nodiscard]] std::string did_you_mean(std::string_view typed, std::span<const std::string> known);

}  // namespace llorch
