// Short names of models, which only the queen resolves (H-20): kept over restarts, listed, and taken back.
//
// A name of a builtin model means that one for ever. Threads: the event loop's.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace llorch::queen {

class Queen;

/// Errors: kInvalidRequest for a name that is none, and for a builtin's.
[[nodiscard]] Status check_alias(const std::string& name);
/// `name` passed check_alias(), `ref` is a reference's one spelling. In force at once; `then` is called when it is
/// kept, with what is told of it: what the name meant before, if anything. Errors: of the database; the name then means
/// what it meant before, unless another change came meanwhile.
void set_alias(Queen& q, const std::string& name, const std::string& ref,
               std::function<void(const Result<std::string>&)> then);
/// As set_alias(), unasked: only a name that is free and can be one. A failure is logged.
void give_alias(Queen& q, const std::string& name, const std::string& ref);
/// As set_alias(). Errors, returned at once, and `then` is not called: kModelNotFound, with the nearest name;
/// kInvalidRequest for a builtin's.
[[nodiscard]] Status remove_alias(Queen& q, const std::string& name, std::function<void(const Status&)> then);

}  // namespace llorch::queen
