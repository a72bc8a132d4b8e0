// Short names of models, which only the queen resolves (H-20): kept over restarts, listed, and taken back.
//
// A name of a builtin model means that one for ever. Threads: the event loop's.
#pragma once

#include <string>

#include "base/result.h"

namespace llorch::queen {

class Queen;

/// `ref` is a reference's one spelling. What is told of it: what the name meant before, if anything. Errors:
/// kInvalidRequest for a name that is none, and for a builtin's.
[[nodiscard]] Result<std::string> set_alias(Queen& q, const std::string& name, const std::string& ref);
/// Errors: kModelNotFound, with the nearest name; kInvalidRequest for a builtin's.
[[nodiscard]] Status remove_alias(Queen& q, const std::string& name);

}  // namespace llorch::queen
