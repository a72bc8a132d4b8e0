// What hostile templates and hostile values may cost (issue 15, numbers 3 and 25): each attack ends with an error,
// within units that are counted, so that no test looks at a clock. A unit takes some nanoseconds.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "jinja/template.h"

namespace llorch::jinja {
namespace {

constexpr std::uint64_t kUnits = 5'000'000;

Result<Text> render(std::string_view source, const boost::json::object& variables, WorkLimit& limit) {
  LLORCH_TRY(const Template t, Template::parse(source));
  return t.render(variables, {{"bos_token", Value("<s>", true)}}, 1'753'000'000, limit);
}
std::string text(std::string_view source, const boost::json::object& variables = {}) {
  WorkLimit limit(kUnits);
  const Result<Text> r = render(source, variables, limit);
  return r ? r->bytes : "error: " + r.error().message;
}
boost::json::array numbers(int count) {
  boost::json::array list;
  for (int i = 0; i < count; ++i) list.emplace_back(i);
  return list;
}

/// a and b share their structure but are not the same value: 2^60 leaves each.
std::string shared(const std::string& leaf, const std::string& use) {
  std::string source;
  for (const std::string name : {"a", "b"}) {
    source += "{% set " + name + " = " + leaf + " %}";
    for (int i = 0; i < 60; ++i) source += "{% set " + name + " = [" + name + "," + name + "] %}";
  }
  return source + use;
}

TEST(Limits, walks_over_shared_values_are_charged_by_what_they_visit) {
  for (const std::string use : {"{{ a == b }}",
                                "{{ a != b }}",
                                "{{ a < b }}",
                                "{{ a }}",
                                "{{ a ~ 'x' }}",
                                "{{ a | string | length }}",
                                "{{ a | tojson }}",
                                "{{ a | join }}",
                                "{{ [b, a] | unique | list }}",
                                "{{ a in [b] }}",
                                "{{ [a, b] | sort }}",
                                "{{ [a, b] | max }}",
                                "{{ {'k': a} == {'k': b} }}",
                                "{{ a | trim }}",
                                "{{ a | upper }}",
                                "{{ a is eq(b) }}",
                                "{{ [a] | select('eq', b) | list }}",
                                "{{ [[a]] | map('join') | list }}",
                                "{{ ({}).get(a) }}{{ {b: 1}[a] }}",
                                "{{ raise_exception(a) }}",
                                "{{ a | replace('x', 'y') }}",
                                "{{ a | indent }}",
                                "{{ {a: 1} | dictsort }}"}) {
    WorkLimit limit(kUnits);
    const auto r = render(shared("'x'", use), {}, limit);
    EXPECT_FALSE(r) << use;
    EXPECT_LE(limit.used(), kUnits) << use;
  }
}

TEST(Limits, what_is_quadratic_is_charged_as_such) {
  const boost::json::object variables{{"l", numbers(100'000)}, {"s", std::string(400'000, 'a')}};
  for (const std::string source :
       {"{{ l | map('string') | map('int') | unique | list | length }}", "{% for x in l %}{{ -1 in l }}{% endfor %}",
        "{% for x in l %}{{ s.find('b') }}{% endfor %}", "{% for x in l %}{{ 'b' in s }}{% endfor %}",
        "{% for x in l %}{{ s.count('b') }}{% endfor %}", "{% for x in l %}{{ s | length }}{% endfor %}",
        "{% for x in l %}{{ s[-1] }}{% endfor %}", "{% for x in l %}{{ s[-1:] }}{% endfor %}",
        "{% for x in l %}{{ s.startswith(s) }}{% endfor %}", "{% for x in l %}{{ s == s ~ '' }}{% endfor %}",
        "{% for x in l %}{{ s.strip('a') }}{% endfor %}", "{% for x in l %}{{ s.split('b') | length }}{% endfor %}",
        "{% for x in l %}{{ s | first }}{{ s | last }}{% endfor %}",
        "{% for x in l %}{{ l | sort | first }}{% endfor %}", "{% for x in l %}{{ l | max }}{% endfor %}",
        "{% for x in l %}{{ l[:] | length }}{% endfor %}",
        "{% set ns = namespace(s='') %}{% for x in l %}{% set ns.s = ns.s ~ s[:1000] %}{% endfor %}"}) {
    WorkLimit limit(kUnits);
    const auto r = render(source, variables, limit);
    EXPECT_FALSE(r) << source;
    EXPECT_LE(limit.used(), kUnits) << source;
  }
}

TEST(Limits, large_dictionaries_are_charged_for_each_entry_that_is_looked_at) {
  boost::json::object large;
  for (int i = 0; i < 20'000; ++i) large[std::to_string(i)] = i;
  const boost::json::object variables{{"d", large}, {"e", large}};
  for (const std::string source :
       {"{{ d == e }}", "{% for k in d %}{{ d[k] }}{% endfor %}", "{% for k in d %}{{ d.get(k) }}{% endfor %}",
        "{% for k in d %}{{ k in d }}{% endfor %}", "{% for k in d %}{{ d.nothing }}{% endfor %}",
        "{% for k in d %}{{ dict(d).x }}{% endfor %}", "{% for k in d %}{{ d | dictsort | length }}{% endfor %}"}) {
    WorkLimit limit(kUnits);
    EXPECT_FALSE(render(source, variables, limit)) << source;
    EXPECT_LE(limit.used(), kUnits) << source;
  }
}

TEST(Limits, a_long_message_is_split_stripped_and_searched_in_linear_time) {
  std::string words, spaces(2'000'000, ' ');
  while (words.size() < 2'000'000) words += "hello\xC3\xA4 ";
  const boost::json::object variables{{"content", words}, {"spaces", spaces}, {"a", std::string(1'000'000, 'a')}};
  for (const std::string source :
       {"{{ content.split() | length }}", "{{ content.split(none, 3) | length }}", "{{ content.rsplit() | length }}",
        "{{ content | trim | length }}", "{{ spaces | trim }}", "{{ spaces.split() | length }}",
        "{{ content | upper | length }}", "{{ content[-1] }}{{ content[1000000:1000001] }}",
        "{{ content.replace('o', '') | length }}", "{{ content.split(' ')[-1] }}", "{{ content | tojson | length }}",
        "{{ (a ~ 'b').find(a[:500000] ~ 'b') }}", "{{ a.find(a[:500000] ~ 'c') }}",
        "{{ a.rsplit(a[:500000] ~ 'c') | length }}", "{{ a.split('a') | length if false else 1 }}"}) {
    WorkLimit limit(150'000'000);
    const auto r = render(source, variables, limit);
    EXPECT_TRUE(r) << source << ": " << r.error().message;
  }
}

TEST(Limits, what_grows_ends_at_the_bytes_that_a_rendering_may_make) {
  const boost::json::object variables{{"s", std::string(1'000'000, 'a')}, {"l", numbers(100'000)}};
  for (const std::string source :
       {"{{ (s ~ s).split('a') | length }}", "{{ s | list | length }}{{ s | list | length }}", "{{ s * 1000 }}",
        "{{ s.replace('a', s) }}", "{{ s.replace('', s) }}", "{{ (s.replace('a', '\n')) | indent(1000, false, true) }}",
        "{{ l | join(s) }}", "{{ s.join(l | map('string')) }}",
        "{{ [[[[[[[[[[l,l,l,l,l]]]]]]]]]] | tojson(indent=64) }}", "{{ s | upper | lower * 40 }}",
        "{% filter replace('a', s) %}{{ s }}{% endfilter %}",
        "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{{ m(m(m(m(m(m(m(s))))))) }}"}) {
    WorkLimit limit(1'000'000'000);
    const auto r = render(source, variables, limit);
    EXPECT_FALSE(r) << source;
    const std::string message = r ? "" : r.error().message;
    EXPECT_NE(message.find("makes too much text"), std::string::npos) << source << message;
  }
}

TEST(Limits, depth_is_bounded_where_a_tree_is_built_walked_and_destroyed) {
  const auto chain = [](const std::string& first, const std::string& more) {
    std::string source = "{{ " + first;
    while (source.size() < 100'000) source += more;
    return source + " }}";
  };
  for (const std::string& source :
       {chain("1", "+1"), chain("1", " ~ 1"), chain("x", ".x"), chain("x", "|e"), chain("x", "()"), chain("x", "[0]"),
        chain("1", " or 1"), chain("1", " and 1"), chain("1", "*1"), chain("1", "**1"), chain("1", " is odd"),
        chain("1", " if 1"), chain("1", " if 1 else 1")})
    EXPECT_FALSE(Template::parse(source)) << source.substr(0, 40);
  std::string calls = "{{ 'a' | map('map'";
  for (int i = 0; i < 50'000; ++i) calls += ",'map'";
  EXPECT_EQ(text(calls + ") | list }}").substr(0, 6), "error:");
}

TEST(Limits, the_least_integer_has_no_negative_and_no_quotient_by_minus_one) {
  const boost::json::object v{{"least", std::numeric_limits<std::int64_t>::min()},
                              {"most", std::numeric_limits<std::int64_t>::max()}};
  const std::string range = "error: chat template, line 1: a number is out of range";
  for (const std::string source : {"{{ -least }}", "{{ least | abs }}", "{{ least // -1 }}", "{{ least - 1 }}",
                                   "{{ least * -1 }}", "{{ most + 1 }}", "{{ 0 - least }}"})
    EXPECT_EQ(text(source, v), range) << source;
  // What Python gives.
  for (const auto& [source, want] : std::vector<std::pair<std::string, std::string>>{
           {"{{ least % -1 }}", "0"},
           {"{{ least is divisibleby(-1) }}", "True"},
           {"{{ -5 % least }}", "-5"},
           {"{{ 5 % least }}", "-9223372036854775803"},
           {"{{ (most - 1) % most }}", "9223372036854775806"},
           {"{{ least % 10 }}", "2"},
           {"{{ least // 10 }}", "-922337203685477581"},
           {"{{ most // least }}", "-1"},
           {"{{ -7 // 2 }},{{ -7 % 2 }},{{ 7 // -2 }},{{ 7 % -2 }}", "-4,1,-4,-1"},
           {"{{ 'aa'.replace('a', 'b', least) }}", "bb"},
           {"{{ 'a b'.split(' ', least) | length }}", "2"},
           {"{{ 'abc'[::least] }},{{ 'abc'[least:most] }},{{ [1, 2][most:least:least] }}", "c,abc,[2]"},
           {"{{ 'abc'[least] is undefined }}", "True"},
           {"{{ range(most, least, least) | list | length }}", "2"},
           {"{{ least == -9223372036854775807 }},{{ most == 9223372036854775806 }}", "False,False"},
           {"{{ 1e308 * 10 }},{{ -1e308 * 10 }},{{ [1e308 * 10] | tojson }}", "inf,-inf,[Infinity]"}})
    EXPECT_EQ(text(source, v), want) << source;
  EXPECT_EQ(text("{{ 0 ** -1 }}", v), "error: chat template, line 1: division by zero");
}

TEST(Limits, another_thread_ends_whatever_runs) {
  const boost::json::object variables{{"l", numbers(1000)}, {"s", std::string(400'000, 'a')}};
  for (const std::string& source :
       {shared("'x'", "{{ a == b }}"),
        std::string("{% for x in l %}{% for y in l %}{{ 'b' in s }}{% endfor %}{% endfor %}"),
        std::string("{% for x in l %}{{ s.strip('ab') }}{{ l | sort | length }}{% endfor %}")}) {
    const auto stop = std::make_shared<std::atomic<bool>>(false);
    std::atomic<bool> begun = false;
    Result<Text> r;
    std::thread renders([&] {
      WorkLimit limit(~std::uint64_t{0}, WorkLimit::Clock::time_point::max(), stop);
      begun = true;
      r = render(source, variables, limit);
    });
    while (!begun) std::this_thread::yield();
    *stop = true;
    renders.join();  // without the flag it runs for hours
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ErrorCode::kCancelled) << r.error().message;
  }
  WorkLimit late(~std::uint64_t{0}, WorkLimit::Clock::now());
  EXPECT_EQ(render("{{ 1 }}", variables, late).error().code, ErrorCode::kOperationTimeout);
}

TEST(Limits, a_format_that_a_request_wrote_stays_untrusted) {
  WorkLimit limit(kUnits);
  const auto r = render("{{ strftime_now(f) }}", {{"f", "<|end|>"}}, limit);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->trust, std::string(7, '\0'));
}

}  // namespace
}  // namespace llorch::jinja
