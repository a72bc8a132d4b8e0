// Pre-tokenizers of the GGUF ecosystem by name: the patterns that cut text into words before byte-pair merging.
#pragma once

#include <string_view>
#include <vector>

#include "text/regex.h"

namespace llorch {

using Pieces = std::vector<std::string_view>;

/// Cuts each piece at the matches of one pattern: matches and the gaps between them become pieces of their own.
[[nodiscard]] Status split_isolated(const Regex& regex, Pieces& pieces, WorkLimit& limit);

class PreTokenizer {
 public:
  /// Errors: kModelLoadFailed naming a name that is not known: it is never guessed (E-30).
  [[nodiscard]] static Result<PreTokenizer> by_name(std::string_view name);

  [[nodiscard]] Result<Pieces> split(std::string_view text, WorkLimit& limit) const;
  /// A word that is in the vocabulary as a whole is taken as it is, without merging.
  [[nodiscard]] bool ignore_merges() const { return ignore_merges_; }

 private:
  std::vector<Regex> patterns_;
  bool ignore_merges_ = false;
};

/// All names that by_name() knows.
[[nodiscard]] std::vector<std::string_view> pretokenizer_names();
/// One of the patterns behind the names.
[[nodiscard]] bool known_pattern(std::string_view pattern);
/// The GGUF name whose patterns are exactly these, or empty.
[[nodiscard]] std::string_view pretokenizer_name(const std::vector<std::string>& patterns);

}  // namespace llorch
