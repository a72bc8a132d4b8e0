// What generated text must look like: a JSON schema, a regular expression or a GBNF grammar, compiled.
//
// A Grammar is immutable and cheap to copy; threads may share it. grammar/matcher.h holds text to it. Sources: JSON
// Schema 2020-12 and its drafts from 4 on, ECMA-262 patterns, GBNF as the llama.cpp project describes it.
// What of JSON Schema is enforced and what is refused: docs/structure.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "grammar/network.h"
#include "grammar/refusal.h"

namespace llorch {

enum class JsonWhitespace : std::uint8_t {
  kBounded,  // between tokens: nothing, one space or tab, or a line break with up to 64 spaces or tabs of indent
  kCompact,  // none at all
  kSpaced    // one space behind each comma and colon, none elsewhere
};

struct SchemaOptions {
  JsonWhitespace whitespace = JsonWhitespace::kBounded;
};

class Grammar {
 public:
  /// JSON text that `schema` (itself JSON text) accepts, each object's properties in the schema's order.
  [[nodiscard]] static Compiled<Grammar> from_json_schema(std::string_view schema, const SchemaOptions& options = {});
  /// Any JSON object.
  [[nodiscard]] static Compiled<Grammar> any_json_object(const SchemaOptions& options = {});
  /// Text that the pattern matches as a whole.
  [[nodiscard]] static Compiled<Grammar> from_regex(std::string_view pattern);
  /// Text of the rule `root`.
  [[nodiscard]] static Compiled<Grammar> from_gbnf(std::string_view text);

  /// This text alone: UTF-8, or control tokens (control_mark() of grammar/vocabulary.h).
  [[nodiscard]] static Compiled<Grammar> from_text(std::string_view text);
  /// Any text up to the first `mark`, and the mark: UTF-8, or one control token. No other control token is text.
  [[nodiscard]] static Compiled<Grammar> until(std::string_view mark);
  /// One behind the other. What is put together is copied; the budgets of grammar/limits.h hold for the whole.
  [[nodiscard]] static Compiled<Grammar> sequence(std::span<const Grammar> parts);
  /// One of them.
  [[nodiscard]] static Compiled<Grammar> choice(std::span<const Grammar> parts);
  /// `least` to `most` times (kNone: no limit).
  [[nodiscard]] static Compiled<Grammar> repeat(const Grammar& part, std::uint32_t least, std::uint32_t most);

  explicit Grammar(std::shared_ptr<const Network> net) : net_(std::move(net)) {}
  [[nodiscard]] const std::shared_ptr<const Network>& network() const { return net_; }

 private:
  std::shared_ptr<const Network> net_;
};

}  // namespace llorch
