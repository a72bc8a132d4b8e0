#include "keeper/suggestions.h"

#include <string_view>

#include "base/integer.h"

namespace llorch::keeper {
namespace {

constexpr std::string_view kData =
#include "suggested_models.inc"
    ;

/// Takes what stands in front of `mark` off a text, and the mark.
std::string_view take_until(std::string_view& text, char mark) {
  const std::string_view part = text.substr(0, text.find(mark));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

}  // namespace

std::vector<Suggestion> suggestions() {
  std::vector<Suggestion> out;
  for (std::string_view rest = kData; !rest.empty();) {
    std::string_view line = take_until(rest, '\n');
    if (line.empty() || line.starts_with('#')) continue;
    Suggestion s;
    s.model = take_until(line, '\t');
    s.file_bytes = parse_integer<std::int64_t>(take_until(line, '\t')).value_or(0);
    s.licence = take_until(line, '\t'), s.checked = take_until(line, '\t'), s.good_for = line;
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace llorch::keeper
