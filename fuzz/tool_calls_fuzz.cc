// Calls of tools: the first byte chooses a format, the second where the text is cut. What comes out must not depend on
// the cut, must not lose text where no call is, and calls must begin and end in turn.
#include <cstdint>

#include "tools/learn.h"
#include "tools/parser.h"

namespace {

using namespace llorch::tools;

std::string chat(const std::string& call) {
  return "{% for m in messages %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}" + call +
         "{% endfor %}</s>{% endfor %}";
}

/// Like those of published templates, with markers of one or two letters, so that a fuzzer finds them.
const std::vector<ToolFormat>& formats() {
  static const std::vector<ToolFormat> kFormats = [] {
    std::vector<ToolFormat> out;
    for (const char* call :
         {"<c>{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}</c>",
          "{\"name\": \"{{ c.function.name }}\", \"parameters\": {{ c.function.arguments | tojson }}}",
          "{{ 'T[' if loop.first }}{\"n\": \"{{ c.function.name }}\", \"a\": {{ c.function.arguments | tojson }}, "
          "\"id\": \"{{ c.id }}\"}"
          "{{ ', ' if not loop.last else ']' }}",
          "<c>{{ c.function.name }}\n{% for k, v in c.function.arguments | items %}<p={{ k }}>\n{{ v if v is string "
          "else v | tojson }}"
          "\n</p>\n{% endfor %}</c>",
          "<c>{{ c.function.name }}({% for k, v in c.function.arguments | items %}{{ k }}={{ v | tojson }}"
          "{{ '' if loop.last else ',' }}{% endfor %})",
          "<c>{{ c.function.name }}{{ '{' }}{% for k, v in c.function.arguments | items %}{{ k }}:"
          "{% if v is string %}<q>{{ v }}<q>{% else %}{{ v }}{% endif %}{{ '' if loop.last else ',' }}{% endfor %}{{ "
          "'}' }}</c>",
          "<c>{{ c.function.name }} {{ (c.function.arguments + '') | tojson }};"}) {
      auto format = learn_tool_format(chat(call));
      if (!format || format->none()) __builtin_trap();
      out.push_back(*std::move(format));
    }
    return out;
  }();
  return kFormats;
}

void check_order(const Items& items) {
  int open = -1, calls = 0;
  for (const Item& item : items) {
    const bool inside = open >= 0;
    switch (item.kind) {
      case Item::Kind::kText:
      case Item::Kind::kControl:
        if (inside) __builtin_trap();
        break;
      case Item::Kind::kCallBegin:
        if (inside || item.index != calls) __builtin_trap();
        open = calls++;
        break;
      case Item::Kind::kArguments:
        if (item.index != open) __builtin_trap();
        break;
      case Item::Kind::kCallEnd:
        if (item.index != open || open < 0) __builtin_trap();
        open = -1;
    }
  }
  if (open >= 0) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const ToolFormat& format = formats()[data[0] % formats().size()];
  static const std::vector<DeclaredTool> kTools = {
      {"f", boost::json::parse(R"({"properties": {"s": {"type": "string"}, "n": {"type": "number"}}})").as_object()},
      {"fg", {}}};
  const std::vector<DeclaredTool> tools = data[1] & 1 ? kTools : std::vector<DeclaredTool>();
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  ToolCallParser whole(format, tools), cut(format, tools);
  Items want = whole.push(text);
  append(want, whole.finish());
  const std::size_t at = text.empty() ? 0 : data[1] % text.size();
  Items got = cut.push(text.substr(0, at));
  append(got, cut.push(text.substr(at)));
  append(got, cut.finish());
  if (got != want) __builtin_trap();
  check_order(want);
  if (want.size() == 1 && want[0].kind == Item::Kind::kText && want[0].text != text) __builtin_trap();
  return 0;
}
