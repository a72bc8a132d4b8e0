// Hostile variables: the input is JSON for the published shapes of chat templates and for expressions that walk over
// values. Work is bounded in units, so that a unit that libFuzzer finds slow is a step that nobody charged.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "format/json.h"
#include "jinja/template.h"

namespace {
using namespace llorch;
using namespace llorch::jinja;

constexpr std::uint64_t kUnits = 10'000'000;  // some 50 ms; several times that under sanitizers

const std::vector<Template>& templates() {
  static const auto all = [] {
    std::vector<Template> list;
    for (const std::string_view source :
         {"{{ x }}{{ x | tojson }}{{ x | tojson(indent=2) }}{{ x == y }}{{ [x, y] | unique | list }}",
          "{{ x in y }}{{ [x] | map('string') | map('upper') | join(y | string) }}{{ {x: y}[x] }}",
          "{% for a in x %}{{ loop.index }}{{ a }}{% for b in a %}{{ b }}{{ loop.previtem }}{% endfor %}{% endfor %}",
          "{{ x | sort }}{{ x | max }}{{ x | first }}{{ x | last }}{{ x | length }}{{ x[1:-1] }}{{ x[::-1] }}",
          "{{ x.split() }}{{ x.rsplit(y, 2) }}{{ x.replace(y, x) }}{{ x.find(y) }}{{ x.strip(y) }}{{ x.count(y) }}",
          "{{ x | trim | title | capitalize | indent(3, true) }}{{ x | reverse }}{{ x[0] }}{{ x[-1] }}", "{{ x + y }}",
          "{{ x - y }}{{ x * y }}", "{{ x // y }}{{ x % y }}", "{{ x ** y }}{{ -x }}{{ x | abs }}",
          "{{ x | int }}{{ x | float }}{{ x is divisibleby(y) }}{{ range(x, y, x) | list }}", "{{ x * y }}",
          "{{ x < y }}", "{{ x | dictsort }}{{ x.items() | list }}{{ x.get(y) }}{{ x | items | list }}",
          "{% set ns = namespace(v=x) %}{% for i in range(40) %}{% set ns.v = [ns.v, ns.v] %}{% endfor %}{{ ns.v }}",
          "{{ x | selectattr('a', 'eq', y) | list }}{{ x | map(attribute='a.b') | list }}{{ x | rejectattr('a') | list "
          "}}",
          "{% macro m(v) %}{% if v is mapping %}{% for k in v %}{{ k }}{{ m(v[k]) }}{% endfor %}{% elif v is string "
          "%}{{ v }}{% elif v is iterable %}{% for i in v %}{{ m(i) }}{% endfor %}{% endif %}{% endmacro %}{{ m(x) }}",
          "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content | trim }}{% elif m.tool_calls %}{% for "
          "t in m.tool_calls %}{{ t.function.name }}{{ t.function.arguments | tojson }}{% endfor %}{% else %}{{ "
          "m.content.split('</think>')[-1].lstrip('\\n') }}{% endif %}{% endfor %}{{ tools | tojson(indent=4) }}"})
      list.push_back(Template::parse(source).value());
    return list;
  }();
  return all;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  WorkLimit parsing(kUnits);
  const auto json = json::parse({reinterpret_cast<const char*>(data) + 1, size - 1}, "x", &parsing);
  if (!json || !json->is_object()) return 0;
  WorkLimit limit(kUnits);
  const auto text = templates()[data[0] % templates().size()].render(json->get_object(),
                                                                     {{"bos_token", Value("<s>", true)}}, 0, limit);
  if (limit.used() > kUnits) __builtin_trap();
  if (text && text->bytes.size() != text->trust.size()) __builtin_trap();
  return 0;
}
