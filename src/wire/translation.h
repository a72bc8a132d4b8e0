// What readers of other APIs share: they write a request of Chat Completions, which is then read as such.
#pragma once

#include <initializer_list>
#include <string_view>
#include <utility>

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
  void refuse(std::string_view field, std::string_view what, ErrorCode code = ErrorCode::kUnsupportedValue) {
    fields.violation(field, "not supported", fmt::format("{}: {}", field, what), code);
  }
  /// Reads what was written. `names`: fields of Chat Completions, and what the client called them.
  [[nodiscard]] std::expected<CompletionRequest, Refused> read(
      const Bounds& bounds, std::initializer_list<std::pair<std::string_view, std::string_view>> names);
};

/// Text of a string, or of a list of blocks of type `type` (or "text"); nothing, and a violation, for others.
[[nodiscard]] std::optional<std::string> text_of_blocks(Translation& t, const std::string& where,
                                                        const boost::json::value& v);

}  // namespace llorch::wire
