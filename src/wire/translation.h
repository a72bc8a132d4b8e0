// What readers of other APIs share: they write a request of Chat Completions, which is then read as such.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wire/requests.h"

namespace llorch::wire {

class Translation {
 public:
  explicit Translation(const boost::json::object& body) : fields(body) {}

  Fields fields;             // of the API's own body
  boost::json::object chat;  // what it means

  /// Hands a field over as it is, under another name.
  void pass(std::string_view name, std::string_view as);
  void pass(std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names) pass(name, name);
  }
  /// Our own fields of Chat Completions, on every route under the same names.
  void pass_own() {
    pass({"top_k", "min_p", "repetition_penalty", "repeat_penalty", "presence_penalty", "frequency_penalty",
          "logit_bias", "ignore_eos", "cache_salt", "chat_template_kwargs", "thinking_budget", "reasoning_budget",
          "thinking_budget_tokens"});
  }
  /// A field that is an object; null where it is absent, or, with a violation, something else.
  const boost::json::object* object(std::string_view name);
  /// A text inside of an object; nothing, with a violation, where it is not there.
  std::optional<std::string> text(const boost::json::object& o, std::string_view key, std::string_view where);
  /// A message of Chat Completions that what stands at `where` means.
  void add(boost::json::object message, std::string where);
  [[nodiscard]] boost::json::array& messages() { return messages_; }
  void refuse(std::string_view field, std::string_view what, ErrorCode code = ErrorCode::kUnsupportedValue) {
    fields.violation(field, "not supported", fmt::format("{}: {}", field, what), code);
  }
  /// Reads what was written. `names`: fields of Chat Completions, and what the client called them.
  [[nodiscard]] std::expected<CompletionRequest, Refused> read(
      const Bounds& bounds, std::initializer_list<std::pair<std::string_view, std::string_view>> names);

 private:
  void name_as_written(Violation& v, std::initializer_list<std::pair<std::string_view, std::string_view>> names) const;

  boost::json::array messages_;
  std::vector<std::string> places_;  // of the messages
};

/// Tools of an API, as functions of Chat Completions. `type`: of those that are taken, and of one that states none
/// where `by_default`; `schema`: the field with the schema of its arguments. Violations name the place.
struct ToolSpelling {
  std::string_view type, schema;
  bool by_default = false;
};
void pass_tools(Translation& t, const boost::json::value* tools, const ToolSpelling& spelling);

/// Text of a string, or of a list of blocks of type `type` (or "text"); nothing, and a violation, for others.
[[nodiscard]] std::optional<std::string> text_of_blocks(Translation& t, const std::string& where,
                                                        const boost::json::value& v);

}  // namespace llorch::wire
