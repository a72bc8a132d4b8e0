// What may be done to get a model for a caller: opening files of the machine, fetching from a hub.
//
// The queen decides it from the caller's key, once, and says it in every order: field "allow" of an order to a hive,
// parameter "allow" of a memory check. A hive allows what both the order and the key that it was shown allow. An order
// without the field is one that a person gave: the key alone decides. Threads: any.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "colony/model_ref.h"

namespace llorch::colony {

struct ModelAccess {
  bool file = false;   // any path of the hive's machine may be opened
  bool fetch = false;  // what is not there may be fetched from a hub

  [[nodiscard]] static ModelAccess all() { return {true, true}; }
  [[nodiscard]] ModelAccess operator&(ModelAccess other) const { return {file && other.file, fetch && other.fetch}; }
  /// Whether the model may be used: `here` says that the hive has it already.
  [[nodiscard]] bool allows(const ModelRef& ref, bool here) const;
  /// Comma-separated words, "file,fetch"; "none" when nothing is allowed.
  [[nodiscard]] std::string text() const;
};

/// Errors: kInvalidRequest for a word that is not known.
[[nodiscard]] Result<ModelAccess> parse_model_access(std::string_view text);

/// The one answer to every reference that a caller may not use, whether it names something or not.
[[nodiscard]] inline Error no_such_model() {
  return {ErrorCode::kModelNotFound, "there is no such model, or this API key may not use it"};
}

}  // namespace llorch::colony
