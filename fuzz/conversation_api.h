// What the fuzz targets of the APIs of conversations hold a read request to.
#pragma once

#include <boost/json.hpp>
#include <cstdlib>
#include <string_view>

#include "tools/conversation.h"
#include "tools/learn.h"
#include "wire/requests.h"

namespace llorch {

inline const wire::Bounds& fuzzed_bounds() {
  static const wire::Bounds kBounds{.vocab = 1000, .model = "m", .adapters = {"a"}};
  return kBounds;
}

/// A request that is taken has messages whose roles and contents a template can rely on; one that is refused says where
/// and why.
template<class Request>
void check_conversation(const std::expected<Request, wire::Refused>& read) {
  if (!read) {
    if (read.error().violations.empty()) __builtin_trap();
    for (const wire::Violation& v : read.error().violations)
      if (v.field.empty() || v.message.empty()) __builtin_trap();
    return;
  }
  for (const auto& v : read->messages) {
    const auto* m = v.if_object();
    const auto* role = m ? m->if_contains("role") : nullptr;
    const auto* content = m ? m->if_contains("content") : nullptr;
    if (!role || !role->is_string() || !content || !content->is_string()) __builtin_trap();
    if (const auto* calls = m->if_contains("tool_calls"); calls && !calls->is_array()) __builtin_trap();
  }
  static const tools::ToolFormat kFormat =
      tools::learn_tool_format(
          "{% for m in messages %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}<c>{\"name\": "
          "\"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}</c>{% endfor "
          "%}</s>{% endfor %}")
          .value();
  if (const auto history = tools::prepare_history(kFormat, read->messages); !history && history.error().message.empty())
    __builtin_trap();
}

}  // namespace llorch
