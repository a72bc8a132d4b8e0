// What an answer must look like, as requests say it: OpenAI's response_format, and the spellings of other servers.
//
// One request may say it once. What it means is grammar/grammar.h's to decide; here is read who says what where.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "wire/fields.h"

namespace llorch::wire {

struct Structure {
  enum class Kind : std::uint8_t { kNone, kJsonSchema, kJsonObject, kRegex, kGbnf, kChoice };
  Kind kind = Kind::kNone;
  std::string text;                  // the schema (JSON), the pattern or the grammar
  std::vector<std::string> choices;  // of kChoice: the answer is one of these texts
  bool compact = false;              // JSON without blanks between its tokens
  std::string field;                 // which field said so
};
[[nodiscard]] std::string_view name(Structure::Kind kind);  // "json_schema"

/// Top-level fields that say what an answer must look like.
inline constexpr std::string_view kStructureFields[] = {
    "response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar",  "json_schema",        "regex",       "grammar",      "ebnf"};

/// Takes all of these fields. Violations: a field of the wrong form, two fields that say something, a way to say it
/// that is not known.
[[nodiscard]] Structure read_structure(Fields& f);

}  // namespace llorch::wire
