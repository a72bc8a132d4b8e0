// Words that a worker says of a model that is asked for text and has none, and by which a client knows that error.
#pragma once

#include <string_view>

namespace llorch {

inline constexpr std::string_view kGivesNoText = "gives embeddings and no text";

}  // namespace llorch
