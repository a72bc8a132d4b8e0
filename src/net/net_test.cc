// The net level on real sockets: every split, every failing read and write, hostile targets and heads, streams.
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "net/http_client.h"
#include "net/http_server.h"
#include "net/sse.h"

namespace llorch::net {
namespace {

TEST(Target, plain_ones_are_taken_apart) {
  const auto t = parse_target("/v1/models/a:b%20c?x=1&y=a+b%26").value();
  EXPECT_EQ(t.path, "/v1/models/a:b c");
  EXPECT_EQ(t.parameter("x"), "1");
  EXPECT_EQ(t.parameter("y"), "a b&");
  EXPECT_EQ(t.parameter("z"), std::nullopt);
  EXPECT_EQ(parse_target("/").value().path, "/");
}

TEST(Target, second_spellings_are_refused) {
  for (const char* text : {"",          "*",           "health",       "ftp://x/health",
                           "//health",  "/v1//",       "/v1//models",  "/./a",
                           "http://",   "http:///a",   "http://u@x/a", "http://x\\y/a",
                           "http:/x",   "http://x//a", "localhost:1",  "/a/..",
                           "/%2e%2e/a", "/a%2f..",     "/a%2F%2fb",    "/a%2f",
                           "/a%5cb",    "/%68ealth",   "/a%00",        "/a%0a",
                           "/a%",       "/a%2",        "/a#b",         "/a b",
                           "/a\\b",     "/\x7f",       "/\xc3\xa4",    "/a?b=%zz",
                           "/%c3",      "/a?b=%ff",    "/%c0%af",      "/a?b=%ed%a0%80",
                           "/a?b=%00"})
    EXPECT_FALSE(parse_target(text)) << text;
}

TEST(Target, the_absolute_form_names_its_host_and_a_slash_at_the_end_says_nothing) {
  for (const char* text : {"http://a.b:81/v1/models?x=1", "HTTPS://a.b:81/v1/models/?x=1"}) {
    const auto t = parse_target(text).value();
    EXPECT_EQ(t.host + "|" + t.path + "|" + t.parameter("x").value(), "a.b:81|/v1/models|1") << text;
  }
  EXPECT_EQ(parse_target("http://[::1]:9").value().path, "/");
  EXPECT_EQ(parse_target("http://x?a=b").value().path, "/");
  for (const char* text : {"http://x:0/", "http://x:65536/", "http://x:8o/", "http://x:1:2/", "http://[::1/",
                           "http://[]/", "http://[::1]9/", "http:///", "http://:80/", "http://x[y]/"})
    EXPECT_FALSE(parse_target(text)) << text;
  EXPECT_EQ(parse_target("http://[::1]:65535/").value().host, "[::1]:65535");
  EXPECT_EQ(parse_target("/v1/models/").value().path, "/v1/models");
  EXPECT_TRUE(parse_target("/v1/models/").value().host.empty());
}

TEST(Target, an_escaped_slash_is_told) {
  EXPECT_EQ(parse_target("/a/b%2fc/d%2Fe").value().path, "/a/b/c/d/e");
  EXPECT_EQ(parse_target("/a/b%2fc/d%2Fe").value().escaped_slash, 4u);
  EXPECT_EQ(parse_target("/a/b/c").value().escaped_slash, std::string::npos);
}

TEST(Target, escapes_are_decoded_once) {
  EXPECT_EQ(parse_target("/%2541").value().path, "/%41");
  EXPECT_EQ(parse_target("/a?b=%252B+%2B%23%2F").value().parameter("b"), "%2B +#/");
  EXPECT_EQ(parse_target("/a?b=%C3%A4%e2%82%ac%f0%9f%90%9d").value().parameter("b"), "ä€🐝");
}

TEST(Url, what_is_put_into_a_path_or_a_query_comes_back) {
  for (const std::string text :
       {"plain", "a b", "a+b", "100%", "%41", "#1", "a&b=c", "?", "ä€🐝", "/x/y z.gguf", "\"\\<>^`{|}", ""}) {
    const auto query = parse_target(url_path("/v1").query("x y", text).query("z", "1").text());
    ASSERT_TRUE(query) << text << ": " << query.error().message;
    EXPECT_EQ(query->parameter("x y"), text);
    EXPECT_EQ(query->parameter("z"), "1");
    if (text.empty() || text.find_first_of("/\\") != std::string::npos) continue;
    EXPECT_EQ(parse_target(url_path("/v1").segment(text).fixed("/end").text()).value().path, "/v1/" + text + "/end");
  }
  EXPECT_EQ(url_path("").segments("a/b c").fixed("/x").segment("d/e").text(), "/a/b%20c/x/d%2Fe");
  EXPECT_EQ(parse_url("http://h/base/").value().below("/v1").path, "/base/v1");
}

TEST(Head, what_lenient_parsers_pass_is_refused) {
  const std::string line = "GET / HTTP/1.1\r\n", host = "Host: x\r\n";
  EXPECT_TRUE(check_head(line + host + "A: b\r\n\r\n"));
  EXPECT_TRUE(check_head(line + host + "Transfer-Encoding: chunked\r\n\r\n"));
  for (const std::string& bad :
       {line + "\r\n", line + host + host + "\r\n", line + host + "A: b\r\n c: d\r\n\r\n",
        line + host + "A : b\r\n\r\n", line + host + "A: b\n\r\n", line + host + "A\r\n\r\n",
        line + host + ": b\r\n\r\n", line + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        line + host + "Content-Length: 1, 1\r\n\r\n", line + host + "Content-Length: +1\r\n\r\n",
        line + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        line + host + "Transfer-Encoding: gzip\r\n\r\n",
        line + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        line + host + "A: b\x01\r\n\r\n", "GET / HTTP/1.1\n" + host + "\r\n"})
    EXPECT_FALSE(check_head(bad)) << bad;
}

TEST(Url, parts_and_refusals) {
  const Url u = parse_url("http://a.b:81/c?d").value();
  EXPECT_EQ(u.host + "|" + std::to_string(u.port) + "|" + u.path, "a.b|81|/c?d");
  EXPECT_EQ(parse_url("http://[::1]:9").value().host, "::1");
  const Url secure = parse_url("https://a.b/c").value();
  EXPECT_TRUE(secure.tls && !u.tls);
  EXPECT_EQ(secure.port, 443);
  for (const char* text : {"", "ftp://x", "http://", "https://", "http://u@x", "http://x:0", "http://x:99999",
                           "http://x:a", "http://x y/", "http://x/\n", "file:///x"})
    EXPECT_FALSE(parse_url(text)) << text;
}

std::vector<SseEvent> parsed(const std::string& text, std::size_t cut, std::size_t second) {
  std::vector<SseEvent> out;
  SseParser parser([&](const SseEvent& e) { out.push_back(e); });
  EXPECT_TRUE(parser.push(text.substr(0, cut)));
  EXPECT_TRUE(parser.push(text.substr(cut, second - cut)));
  EXPECT_TRUE(parser.push(text.substr(second)));
  return out;
}

TEST(Sse, any_chunk_boundary_gives_the_same_events) {
  const std::string text =
      "\xEF\xBB\xBFid: 1\nevent: token\ndata: {\"t\":\"ä\"}\n\n: ping\n\nretry: 5\r\ndata: "
      "a\r\ndata:b\r\ndata\r\n\r\nevent: x\n\nunknown: y\rdata: last\r\rdata: [DONE]\n\n";
  const auto whole = parsed(text, 0, 0);
  ASSERT_EQ(whole.size(), 4u);
  EXPECT_EQ(whole[0].id + whole[0].type + whole[0].data, "1token{\"t\":\"ä\"}");
  EXPECT_EQ(whole[1].type + "|" + whole[1].data, "message|a\nb\n");
  EXPECT_EQ(whole[2].data, "last");
  for (std::size_t i = 0; i <= text.size(); ++i)
    for (std::size_t k = i; k <= text.size(); k += 7) {
      const auto cut = parsed(text, i, k);
      ASSERT_EQ(cut.size(), whole.size()) << i << " " << k;
      for (std::size_t e = 0; e < cut.size(); ++e)
        EXPECT_EQ(cut[e].id + cut[e].type + cut[e].data, whole[e].id + whole[e].type + whole[e].data);
    }
}

TEST(Sse, what_is_framed_is_read_back) {
  std::vector<SseEvent> out;
  SseParser parser([&](const SseEvent& e) { out.push_back(e); });
  EXPECT_TRUE(parser.push(sse_frame(7, "token", "{}") + sse_frame(0, "", "x")));
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].id + out[0].type + out[0].data, "7token{}");
  EXPECT_EQ(out[1].type + out[1].data, "messagex");
  EXPECT_FALSE(parser.push(std::string((16u << 20) + 1, 'x'))) << "a line without end is kept for ever";
}

/// A server that echoes: "/stream" in pieces, everything else whole.
class Echo {
 public:
  explicit Echo(ServerOptions options) {
    auto made = HttpServer::make(
        loop_, std::move(options), [this](Request r, ExchangePtr e) { handle(std::move(r), std::move(e)); },
        [](const Error& e) {
          return Response{kind(e.code).http_status, "text/plain", e.message, {}};
        });
    EXPECT_TRUE(made) << made.error().message;
    server_ = *std::move(made);
    port_ = server_->port();
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Echo() {
    loop_.post([this] { server_.reset(), loop_.post([this] { loop_.stop(); }); });
    thread_.join();
  }
  [[nodiscard]] Result<Answer> ask(const std::string& path, const std::string& body) const {
    ClientRequest r;
    r.method = "POST";
    r.url = {"127.0.0.1", port_, path};
    r.body = body;
    r.idle_timeout = std::chrono::seconds(5);
    return fetch(std::move(r));
  }
  [[nodiscard]] int connections() {
    std::promise<int> count;
    loop_.post([&] { count.set_value(server_->connections()); });
    return count.get_future().get();
  }

 private:
  void handle(Request r, const ExchangePtr& e) {
    if (r.target.path != "/stream") return e->send({200, "text/plain", r.body, {}});
    e->start({200, "text/plain", "", {}});
    for (std::size_t i = 0; i < r.body.size(); i += 9'999) e->write(r.body.substr(i, 9'999));
    e->finish();
  }
  EventLoop loop_;
  std::unique_ptr<HttpServer> server_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

TEST(Server, every_read_and_write_may_fail_and_nothing_hangs_or_stays) {
  const std::string body(100'000, 'x');
  for (const char* path : {"/whole", "/stream"}) {
    int complete = 0, cut = 0;
    for (int fail_at = 0; fail_at < 60; ++fail_at) {
      std::atomic<int> count{0};
      ServerOptions options;
      options.fault = [&] { return count++ == fail_at; };
      Echo echo(options);
      const auto answer = echo.ask(path, body);
      if (answer) {
        EXPECT_EQ(answer->body, body) << path << " " << fail_at << ": a wrong answer that looks complete";
        ++complete;
      } else {
        ++cut;
      }
      const auto again = echo.ask("/whole", "hello");  // the server goes on
      EXPECT_TRUE(count <= fail_at + 1 || (again && again->body == "hello")) << path << " " << fail_at;
      for (int i = 0; i < 1000 && echo.connections() > 0; ++i) std::this_thread::yield();
      EXPECT_EQ(echo.connections(), 0);
      if (complete > 3) break;
    }
    EXPECT_GT(cut, 0) << "no fault was met";
    EXPECT_GT(complete, 0);
  }
}

TEST(Server, limits_end_what_is_too_large_or_too_slow) {
  ServerOptions options;
  options.body_bytes_max = 1000;
  options.head_timeout = std::chrono::milliseconds(100);
  options.idle_timeout = std::chrono::milliseconds(100);
  Echo echo(options);
  EXPECT_EQ(echo.ask("/whole", std::string(1001, 'x')).value().status, 413);
  EXPECT_EQ(echo.ask("/whole", std::string(1000, 'x')).value().status, 200);
}

TEST(Client, a_refused_connection_and_a_broken_answer_are_errors) {
  ClientRequest r;
  r.url = {"127.0.0.1", 1, "/"};
  const auto refused = fetch(r);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
  r.url.path = "/a HTTP/1.1\r\nX: y";  // from another daemon's "sse_url"
  EXPECT_EQ(fetch(r).error().code, ErrorCode::kInvalidRequest);
  r.url.path = "/";
  r.headers.add("X-Correlation-Id", "a\r\nX: y");
  EXPECT_EQ(fetch(r).error().code, ErrorCode::kInvalidRequest);
}

TEST(Client, an_answer_that_is_too_long_is_an_error_and_not_cut) {
  EventLoop serving;
  const auto answer = [](const Request&, const ExchangePtr& e) {
    e->start({200, "application/json", "", {}});
    for (std::size_t i = 0; i <= kFetchedBytesMax >> 20; ++i) e->write(std::string(1u << 20, 'x'));
    e->finish();
  };
  const auto server = HttpServer::make(serving, {}, answer, [](const Error&) { return Response{}; }).value();
  ClientRequest r;
  r.url = {"127.0.0.1", server->port(), "/"};
  std::thread thread([&] { serving.run(); });
  const auto got = fetch(r);
  serving.post([&] { serving.stop(); });
  thread.join();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().message, "the answer is longer than 64 MiB");
}

}  // namespace
}  // namespace llorch::net
