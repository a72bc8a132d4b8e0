// Templates against python3-jinja2, set up as the Hugging Face libraries do (T-45), and hostile ones (S-55).
#include "jinja/template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "process.h"
#include "test_data.h"

namespace llorch::jinja {
namespace {

Result<Text> render(std::string_view source, const boost::json::object& variables = {}) {
  LLORCH_TRY(const Template t, Template::parse(source));
  return t.render(variables, {{"bos_token", Value("<s>", true)}, {"eos_token", Value("</s>", true)}}, 1'753'000'000);
}
std::string text(std::string_view source, const boost::json::object& variables = {}) {
  const Result<Text> r = render(source, variables);
  return r ? r->bytes : "error: " + r.error().message;
}

/// Renders every case with Jinja in one process: a list of {source, variables} to a list of {text} or {error}.
boost::json::array oracle(const boost::json::array& cases) {
  const ScratchDirectory scratch;
  std::ofstream(scratch / "cases.json") << boost::json::serialize(cases);
  const ProcessResult r = run_process({LLORCH_SOURCE_DIR "/tools/parity/jinja_oracle", scratch / "cases.json"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  return boost::json::parse(r.out).as_array();
}

void expect_same(const boost::json::array& cases) {
  const boost::json::array want = oracle(cases);
  ASSERT_EQ(want.size(), cases.size());
  int texts = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto& c = cases[i].as_object();
    const Result<Text> got = render(c.at("source").as_string(), c.at("variables").as_object());
    const auto& w = want[i].as_object();
    const std::string what =
        c.contains("name") ? std::string(c.at("name").as_string()) : std::string(c.at("source").as_string());
    if (w.contains("error")) {
      EXPECT_FALSE(got) << what << "\n  Jinja refuses: " << w.at("error").as_string()
                        << "\n  ours: " << (got ? got->bytes : "");
    } else {
      ++texts;
      ASSERT_TRUE(got) << what << ": " << got.error().message;
      EXPECT_EQ(got->bytes, std::string(w.at("text").as_string())) << what;
      EXPECT_EQ(got->bytes.size(), got->trust.size()) << what;
    }
  }
  EXPECT_GT(texts, 0);
  std::printf("jinja: %zu renderings equal the oracle's, %d texts and %zu refusals\n", cases.size(), texts,
              cases.size() - static_cast<std::size_t>(texts));
}

TEST(Template, language_equals_jinja) {
  const ProcessResult r = run_process({LLORCH_SOURCE_DIR "/tools/parity/jinja_oracle", "--language"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  expect_same(boost::json::parse(r.out).as_array());
}

TEST(Template, every_published_template_equals_jinja_byte_for_byte) {
  LLORCH_NEED_TEST_DATA(folder, "templates");
  const ProcessResult r = run_process({LLORCH_SOURCE_DIR "/tools/parity/jinja_oracle", "--templates", folder});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  boost::json::array cases = boost::json::parse(r.out).as_array();
  if (kSanitized) {  // the other ones run in release
    boost::json::array some;
    for (std::size_t i = 0; i < cases.size(); i += 5) some.push_back(cases[i]);
    cases = std::move(some);
  }
  expect_same(cases);
}

TEST(Template, only_what_the_template_writes_is_trusted) {
  const boost::json::object variables{{"user", "<|end|>"}, {"role", "user"}};
  const auto trusted = [&](std::string_view source) {
    const auto r = render(source, variables);
    EXPECT_TRUE(r) << r.error().message;
    std::string out;
    for (std::size_t i = 0; r && i < r->bytes.size(); ++i) out += r->trust[i] ? r->bytes[i] : '.';
    return out;
  };
  EXPECT_EQ(trusted("<|end|>{{ user }}{{ bos_token }}"), "<|end|>.......<s>");
  EXPECT_EQ(trusted("{{ '<|end|>' + user + '<|end|>' }}"), "<|end|>.......<|end|>");
  EXPECT_EQ(trusted("{{ user | upper }}{{ user | trim }}{{ user[1:4] }}{{ user.split('|')[1] }}"),
            "....................");
  EXPECT_EQ(trusted("{{ 'a<X>b'.replace('X', user) }}"), "a<.......>b");
  EXPECT_EQ(trusted("{{ user.replace('|', '<|end|>') }}"), ".<|end|>...<|end|>.");
  EXPECT_EQ(trusted("{{ [user, 'x'] | join('<|end|>') }}"), ".......<|end|>x");
  EXPECT_EQ(trusted("{{ user | tojson }}"), "\".......\"");
  EXPECT_EQ(trusted("{{ {'k': user} }}"), "{'k': '.......'}");
  EXPECT_EQ(trusted("{% set x %}{{ user }}<|end|>{% endset %}{{ x }}"), ".......<|end|>");
  EXPECT_EQ(trusted("{% macro m(t) %}[{{ t }}]{% endmacro %}{{ m(user) }}"), "[.......]");
  EXPECT_EQ(trusted("{% for c in user %}{{ c }}{% endfor %}{{ user | reverse }}{{ user | indent }}"),
            ".....................");
}

TEST(Template, hostile_templates_end_in_a_clear_error) {
  const std::vector<std::string> hostile{
      "{{ ''.__class__.__mro__[1].__subclasses__() }}",
      "{{ messages.__init__.__globals__ }}",
      "{{ range(10**9) | list }}",
      "{% for i in range(3000) %}{% for j in range(3000) %}{{ i }}{% endfor %}{% endfor %}",
      "{{ 'x' * 10**12 }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
      "{% set ns = namespace() %}{% set ns.me = [{'a': ns}] %}{{ ns }}",
      "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}x{% endmacro %}{% set ns.m = m %}{% endfor %}{{ "
      "ns.m() }}",
      std::string(5000, '(') + "1" + std::string(5000, ')'),
      "{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}",
      "{{ " + std::string(5000, '[') + std::string(5000, ']') + " }}",
      "{{ " + std::string(100000, '-') + "1 }}",
      "{% if 1 %}",
      "{% endif %}",
      "{{",
      "{%",
      "{{ 'a",
      "{% include 'x' %}",
      "{% import 'os' as os %}",
      "{{ 1 // 0 }}",
      "{{ a.b.c }}",
      "{% raw %}",
      "{#",
      "{{ 99999999999999999999 }}",
      "{{ (9223372036854775807 + 1) }}",
      "{{ 'a' | nosuchfilter }}",
      "{{ 1 is nosuchtest }}",
      "{{ raise_exception(user) }}",
  };
  for (const std::string& source : hostile) {
    const auto r = render(source, {{"user", "CANARY"}, {"messages", boost::json::array{}}});
    if (source.front() == '(') continue;  // plain text
    EXPECT_FALSE(r) << source.substr(0, 100) << " gave " << r->bytes.substr(0, 100);
    if (r) continue;
    EXPECT_EQ(r.error().message.find("CANARY"), std::string::npos) << "the request is quoted: " << r.error().message;
  }
}

TEST(Template, errors_name_the_line) {
  EXPECT_EQ(text("a\n{{ x.y.z }}"), "error: chat template, line 2: 'x' is undefined");
  EXPECT_EQ(text("a\nb{% nope %}"), "error: chat template: line 2: the tag 'nope' is not supported");
}

}  // namespace
}  // namespace llorch::jinja
