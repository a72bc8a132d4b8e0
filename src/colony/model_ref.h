// What a person calls a model (H-20): builtin:name, file:/path or a path, hf:org/repo[@revision][:file-or-quant] with
// or without the prefix, or an alias.
//
// Threads: any. Errors: kInvalidRequest, which never repeats the text.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch::colony {

struct ModelRef {
  enum class Kind { kBuiltin, kFile, kHub, kAlias };
  Kind kind = Kind::kAlias;
  std::string name;                  // of a builtin or an alias
  std::string path;                  // of a file; absolute
  std::string repo, revision, file;  // of the hub: "org/name", "main" unless given, a file or a quantization

  /// The one spelling under which it is known: "builtin:haiku", "file:/m.gguf", "hf:org/repo@main:Q4_K_M".
  [[nodiscard]] std::string text() const;
  /// Short, for people and directories: the builtin's or file's name, the repository's.
  [[nodiscard]] std::string short_name() const;
};

[[nodiscard]] Result<ModelRef> parse_model_ref(std::string_view text);
/// The quantization that a file's name states, such as "Q4_K_M"; empty when it states none.
[[nodiscard]] std::string quant_in_name(std::string_view file);

}  // namespace llorch::colony
