// docs/api.md against the code's own routes and fields; every route declares a scope (S-03).
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "worker/worker.h"

namespace llorch::worker {
namespace {

std::string read(const std::string& path) {
  std::ifstream in(std::string(LLORCH_SOURCE_DIR "/") + path);
  std::ostringstream out;
  out << in.rdbuf();
  EXPECT_GT(out.str().size(), 1000u) << path;
  return out.str();
}

std::set<std::string> matches(const std::string& text, const char* pattern) {
  std::set<std::string> out;
  const std::regex expression(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), expression), end; it != end; ++it)
    out.insert((*it)[1].str() + ((*it).size() > 2 ? " " + (*it)[2].str() + " " + (*it)[3].str() : ""));
  return out;
}

TEST(Api, the_document_lists_the_routes_with_their_scopes) {
  net::EventLoop loop;
  ServeOptions o;
  o.local_mode = true;
  o.engine.model.path = "builtin:haiku";
  Worker worker(loop, o);
  ASSERT_TRUE(worker.start());
  std::set<std::string> routes;
  for (const service::RouteInfo& r : worker.router().inventory())
    routes.insert(r.method + " " + r.pattern + " " + std::string(security::name(r.scope)));
  EXPECT_EQ(matches(read("docs/api.md"), R"(\| (GET|POST|DELETE) \| `([^`]+)` \| (\w+) \|)"), routes);
}

TEST(Api, the_document_names_the_fields) {
  const std::string code = read("src/wire/requests.cc"), document = read("docs/api.md");
  const auto fields = matches(code, R"re((?:f\.\w+|only)\((?:f, )?"(\w+)")re");
  EXPECT_GT(fields.size(), 35u);
  const std::size_t begin = document.find("## Fields"), end = document.find("## Tools");
  ASSERT_LT(begin, end);
  const auto named = matches(document.substr(begin, end - begin), "`([a-z_]+)`");
  for (const std::string& field : fields) EXPECT_TRUE(named.contains(field)) << field << " is not in docs/api.md";
  // And what the document names is known: an unknown field would be told as ignored.
  const wire::Bounds bounds{100, 100, "m"};
  for (const std::string& field : named) {
    // Values, and what answers have.
    static const std::set<std::string> kValues = {"auto",
                                                  "started",
                                                  "float",
                                                  "base64",
                                                  "reasoning_content",
                                                  "content",
                                                  "count",
                                                  "total",
                                                  "processed",
                                                  "cache",
                                                  "max_model_len",
                                                  "token_strs",
                                                  "token_logprobs",
                                                  "text_offset",
                                                  "prompt_progress",
                                                  "piece",
                                                  "unsupported_value",
                                                  "index",
                                                  "relevance_score",
                                                  "results",
                                                  "system_fingerprint",
                                                  "sampling",
                                                  "source",
                                                  "settings",
                                                  "default",
                                                  "temp",
                                                  "penalty_repeat",
                                                  "end",
                                                  "params"};
    if (kValues.contains(field)) continue;
    const boost::json::object body{{"model", "m"}, {"prompt", "a"}, {field, nullptr}};
    const boost::json::object chat{{"messages", {{{"role", "user"}, {"content", "a"}}}}, {field, nullptr}};
    boost::json::object with = chat;
    const auto a = wire::read_inference({{"prompt", "a"}, {field + "", nullptr}}, bounds);
    const auto b = wire::read_completion(body, bounds);
    const auto c = wire::read_chat(with, bounds);
    const auto d = wire::read_embedding({{"input", "a"}, {field + "", nullptr}}, bounds);
    const auto e = wire::read_tokenize({{"prompt", "a"}, {field + "", nullptr}}, bounds);
    const auto g = wire::read_detokenize({{"tokens", {1}}, {field + "", nullptr}}, bounds);
    const auto h = wire::read_rerank({{"query", "a"}, {"documents", {"b"}}, {field + "", nullptr}}, bounds);
    const auto knows = [&](const auto& r) { return !r || std::ranges::find(r->ignored, field) == r->ignored.end(); };
    EXPECT_TRUE(knows(a) || knows(b) || knows(c) || knows(d) || knows(e) || knows(g) || knows(h))
        << field << " is in docs/api.md and nowhere else";
  }
}

}  // namespace
}  // namespace llorch::worker
