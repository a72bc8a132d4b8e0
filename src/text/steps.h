// The steps that tokenizer.json composes: text to text before cutting, words to words while cutting. Each is charged to
// the limit by what it reads and writes, and what it makes is bounded by the size of its input.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/work_limit.h"
#include "text/regex.h"

namespace llorch {

using TextStep = std::function<Result<std::string>(std::string, WorkLimit&)>;
using CutStep = std::function<Status(std::vector<std::string>&, WorkLimit&)>;

/// A Unicode normalisation form: utf8proc's options. Cuts the text where that changes nothing.
[[nodiscard]] TextStep unicode_form_step(int options);
[[nodiscard]] TextStep lower_case_step();
[[nodiscard]] TextStep replace_step(Regex regex, std::string content);

enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
/// Cuts by a pattern; `invert`: what does not match counts as the match.
[[nodiscard]] CutStep split_step(Regex regex, SplitBehavior behavior, bool invert);
/// Spaces become `mark`, and words that do not begin with it get one where `prepend` says so.
[[nodiscard]] CutStep metaspace_step(std::string mark, bool prepend);
[[nodiscard]] CutStep space_prefix_step();

/// Errors: kInvalidRequest where a text of `before` bytes became one of `after`.
[[nodiscard]] Status check_growth(std::size_t before, std::size_t after);

}  // namespace llorch
