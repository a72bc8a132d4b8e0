// Which model a request means, and what may be done to get it: the one place where a key's scopes meet a model.
//
// A key with scope `infer` may use what is there: builtins, what a hive has fetched or a worker holds, what an alias of
// the operator's names. Opening files needs `admin`; fetching needs `admin`, or --infer-may-fetch. A reference that may
// not be used gets the same answer whether it names something or not. Threads: the event loop's.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "colony/model_access.h"
#include "security/auth.h"

namespace llorch::queen {

/// Names that every colony has.
[[nodiscard]] const std::map<std::string, std::string>& builtin_aliases();
/// What a client of OpenAI's API is told where a name does not resolve: what is no reference is no model either.
[[nodiscard]] Error not_found_of(const Error& error);

struct ResolvedModel {
  colony::ModelRef ref;        // never an alias
  colony::ModelAccess access;  // what a hive may do for it
};

class ModelResolver {
 public:
  enum class Presence { kHere, kAbsent, kUnknown };  // kUnknown: not every hive has said what it has
  using Lookup = std::function<Presence(const std::string& ref)>;
  ModelResolver(const std::map<std::string, std::string>& aliases, Lookup presence, bool infer_may_fetch)
      : aliases_(aliases), presence_(std::move(presence)), infer_may_fetch_(infer_may_fetch) {}

  /// Errors: kInvalidRequest for what is no reference; kModelNotFound, to an administrator with the nearest name.
  [[nodiscard]] Result<ResolvedModel> resolve(std::string_view model, const security::Principal& who) const;

 private:
  [[nodiscard]] std::unexpected<Error> unknown(std::string_view model, bool admin) const;
  const std::map<std::string, std::string>& aliases_;
  Lookup presence_;
  bool infer_may_fetch_;
};

}  // namespace llorch::queen
