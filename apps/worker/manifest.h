// What a model must be, byte for byte, before it is loaded (S-57).
#pragma once

#include "base/result.h"
#include "builtin/builtin.h"
#include "security/digest.h"
#include "security/manifest.h"

namespace llorch::worker {

/// security::manifest_of(), for models that are part of the program too.
[[nodiscard]] inline Result<std::string> model_manifest(const std::string& path, const std::stop_token& stop = {}) {
  if (!path.starts_with("builtin:")) return security::manifest_of(path, stop);
  const auto bytes = builtin::find(path.substr(8));
  if (bytes.empty()) return fail(ErrorCode::kModelNotFound, "there is no {}", path);
  return security::sha256_hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// `expected` may be empty: anything is right then. Errors: kModelLoadFailed when the manifest is another one; those of
/// manifest_of().
[[nodiscard]] inline Status check_manifest(const std::string& path, const std::string& expected,
                                           const std::stop_token& stop = {}) {
  if (expected.empty()) return {};
  LLORCH_TRY(const std::string found, model_manifest(path, stop));
  if (found == expected) return {};
  return bad_model("{} is not what it should be: its manifest is {}, not {}", path, found, expected);
}

}  // namespace llorch::worker
