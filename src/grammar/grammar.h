// What generated text must look like: a JSON schema, a regular expression or a GBNF grammar, compiled.
//
// A Grammar is immutable and cheap to copy; threads may share it. grammar/matcher.h holds text to it. Sources: JSON
// Schema 2020-12 and its drafts from 4 on, ECMA-262 patterns, GBNF as the llama.cpp project describes it.
// What of JSON Schema is enforced and what is refused: docs/structure.md.
#pragma once

#include <cstdint>
#include <memory>
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

  explicit Grammar(std::shared_ptr<const Network> net) : net_(std::move(net)) {}
  [[nodiscard]] const std::shared_ptr<const Network>& network() const { return net_; }

 private:
  std::shared_ptr<const Network> net_;
};

}  // namespace llorch
