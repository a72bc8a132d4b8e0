#include "coord/etcd_json.h"

#include <gtest/gtest.h>

#include <thread>

#include "coord/test_client.h"

namespace llorch::coord {
namespace {

using namespace etcd;  // NOLINT(google-build-using-namespace)

TEST(EtcdJson, base64_is_read_strictly) {
  // RFC 4648, section 10.
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(to_base64(bytes), text);
    EXPECT_EQ(from_base64(text), bytes);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(from_base64(to_base64(all)), all);
  for (const char* bad : {"Z", "Zg", "Zg=", "Zg==\n", " Zg=", "Z===", "====", "Zg==Zg==", "Z-_v"})
    EXPECT_FALSE(from_base64(bad)) << bad;
}

TEST(EtcdJson, a_refusal_is_cut_between_two_characters) {
  const std::string most(299, 'x');
  EXPECT_EQ(read_refusal(500, R"({"message":")" + most + "\u00e4\u00e4\"}").message, most + "\u00e4");
}

bj::object object(std::string_view text) { return bj::parse({text.data(), text.size()}).as_object(); }
constexpr std::string_view kHeader = R"("header":{"cluster_id":"18446744073709551615","revision":"9"})";

TEST(EtcdJson, pages_are_read_field_by_field) {
  const auto page = [](std::string_view kvs) {
    return read_page(object(fmt::format("{{{},{}}}", kHeader, kvs)), {"a", "b"}, 2);
  };
  const auto good = page(R"("kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"3","lease":"7","value":"YmFy"},
                                   {"key":"YWE=","create_revision":"4","mod_revision":"4"}],"more":true,"count":"5")");
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->entries.at(0), (Entry{"a", "bar", 2, 3, 7}));
  EXPECT_EQ(good->entries.at(1), (Entry{"aa", "", 4, 4, 0}));
  EXPECT_TRUE(good->more);
  EXPECT_EQ(good->revision, 9);
  const std::string entry = R"({"key":"YQ==","create_revision":"2","mod_revision":"3"})";
  for (const auto& [bad, word] : std::initializer_list<std::pair<std::string, std::string>>{
           {R"("kvs":{})", "kvs"},
           {R"("kvs":[1])", "kvs"},
           {R"("more":"true")", "more"},
           {R"("kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"1"}])", "mod_revision"},
           {R"("kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"10"}])", "mod_revision"},
           {R"("kvs":[{"key":"YQ==","create_revision":2,"mod_revision":"3"}])", "create_revision"},
           {R"("kvs":[{"key":"YQ==","create_revision":"-2","mod_revision":"3"}])", "create_revision"},
           {R"("kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"99999999999999999999"}])", "mod_revision"},
           {R"("kvs":[{"key":"YQ","create_revision":"2","mod_revision":"3"}])", "key"},
           {R"("kvs":[{"create_revision":"2","mod_revision":"3"}])", "key"},
           {R"("kvs":[{"key":"Yg==","create_revision":"2","mod_revision":"3"}])", "not asked for"},
           {fmt::format(R"("kvs":[{},{}])", entry, entry), "order"},
           {fmt::format(R"("kvs":[{},{},{}])", entry, entry, entry), "more entries"}}) {
    const auto read = page(bad);
    ASSERT_FALSE(read) << bad;
    EXPECT_NE(read.error().message.find(word), std::string::npos) << bad << ": " << read.error().message;
  }
  EXPECT_FALSE(read_page(object("{}"), {"a", "b"}, 2));
  EXPECT_FALSE(read_page(object(R"({"header":{"revision":"0"}})"), {"a", "b"}, 2));
}

TEST(EtcdJson, commits_and_watches_are_read_field_by_field) {
  const auto commit = [](std::string_view rest) {
    return read_commit(object(fmt::format("{{{}{}}}", kHeader, rest)), 1, 2);
  };
  EXPECT_TRUE(commit(R"(,"succeeded":true,"responses":[{},{}])")->succeeded);
  EXPECT_EQ(commit(R"(,"responses":[{"response_range":{}}])")->modified, std::vector<Revision>{0});
  for (const char* bad :
       {R"(,"succeeded":true)", R"(,"succeeded":true,"responses":[{}])", R"(,"responses":[])", R"(,"responses":[{}])",
        R"(,"succeeded":1,"responses":[{},{}])", R"(,"responses":[{"response_range":{"kvs":[1]}}])"})
    EXPECT_FALSE(commit(bad)) << bad;
  const auto watch = [](std::string_view rest) {
    return read_watch(fmt::format(R"({{"result":{{{},"watch_id":"1"{}}}}})", kHeader, rest));
  };
  const auto events = watch(R"(,"events":[{"kv":{"key":"YQ==","create_revision":"2","mod_revision":"2"}},
                                          {"type":"DELETE","kv":{"key":"YQ==","mod_revision":"3"}}])");
  ASSERT_TRUE(events) << events.error().message;
  EXPECT_EQ(events->events, (std::vector<Event>{{{"a", "", 2, 2, 0}, false}, {{"a", "", 0, 3, 0}, true}}));
  for (const char* bad : {R"(,"events":[{}])", R"(,"events":[{"type":"MOVE","kv":{"key":"YQ==","mod_revision":"3"}}])",
                          R"(,"events":[{"type":"DELETE","kv":{"key":"YQ=="}}])", R"(,"created":"yes")",
                          R"(,"events":[{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"3"}},
                                        {"type":"DELETE","kv":{"key":"YQ==","mod_revision":"2"}}])"})
    EXPECT_FALSE(watch(bad)) << bad;
  for (const char* bad : {"", "{}", "[]", R"({"result":{}})", R"({"error":{"message":"gone"}})", "{"})
    EXPECT_FALSE(read_watch(bad)) << bad;
}

/// A server that answers every request for a path with the same text.
class Liar {
 public:
  explicit Liar(std::map<std::string, std::string> answers) : answers_(std::move(answers)) {
    sockaddr_in at{};
    at.sin_family = AF_INET, at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    bind(listener_, reinterpret_cast<sockaddr*>(&at), size);
    listen(listener_, 16);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
    port = ntohs(at.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Liar() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  std::uint16_t port = 0;
  std::atomic<int> writes = 0;

 private:
  void serve() {
    for (int fd = 0; (fd = accept(listener_, nullptr, nullptr)) >= 0; close(fd)) {
      std::string in;
      char part[4096];
      // All bodies here are JSON objects.
      for (ssize_t n = 1; n > 0 && !(in.contains("\r\n\r\n") && in.ends_with("}"));)
        if ((n = recv(fd, part, sizeof part, 0)) > 0) in.append(part, static_cast<std::size_t>(n));
      for (const auto& [path, answer] : answers_)
        if (in.contains(path + " ")) {
          writes += path == "/v3/kv/txn";
          const std::string out = fmt::format("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                                              answer.size(), answer);
          (void)send(fd, out.data(), out.size(), MSG_NOSIGNAL);
        }
      shutdown(fd, SHUT_RDWR);
    }
  }
  std::map<std::string, std::string> answers_;
  int listener_ = socket(AF_INET, SOCK_STREAM, 0);
  std::thread thread_;
};

TEST(EtcdLiar, is_reported_with_what_is_wrong_and_where) {
  const std::string status = fmt::format("{{{}}}", kHeader);
  const auto ask = [&](const std::string& path, const std::string& answer, auto call, bool may_have_happened) {
    Liar liar({{path, answer}, {"/v3/maintenance/status", status}});
    TestClient client([&](net::EventLoop& loop) {
      return make_etcd_store(loop, {.endpoints = {{"127.0.0.1", liar.port}}, .answer_timeout = 500ms});
    });
    const auto outcome = call(client);
    ASSERT_FALSE(outcome) << answer;
    EXPECT_EQ(outcome.error().problem, Problem::kUnavailable) << answer;
    EXPECT_NE(outcome.error().message.find("malformed answer"), std::string::npos) << outcome.error().message;
    EXPECT_NE(outcome.error().message.find(std::to_string(liar.port)), std::string::npos) << outcome.error().message;
    EXPECT_EQ(outcome.error().may_have_happened, may_have_happened) << outcome.error().message;
    EXPECT_LE(liar.writes, 1) << "a write was sent again";
  };
  const auto get = [](TestClient& c) { return c.get("k"); };
  const auto put = [](TestClient& c) { return c.put("k", "v", 0); };
  for (const std::string answer : {"", "{", "[]", "{}", "null", R"({"header":{"revision":"x"}})"}) {
    ask("/v3/kv/range", answer, get, false);
    ask("/v3/kv/txn", answer, put, true);
    ask(
        "/v3/lease/grant", answer, [](TestClient& c) { return c.grant(5s); }, false);
    ask(
        "/v3/lease/keepalive", answer, [](TestClient& c) { return c.keep_alive(7); }, false);
  }
  ask("/v3/maintenance/status", "{}", get, false);
  // More than was asked for, and somebody else's lease.
  ask("/v3/kv/range",
      fmt::format(R"({{{},"kvs":[{{"key":"YQ==","create_revision":"2","mod_revision":"2"}}]}})", kHeader), get, false);
  ask(
      "/v3/lease/keepalive", R"({"result":{"ID":"8","TTL":"5"}})", [](TestClient& c) { return c.keep_alive(7); },
      false);
}

TEST(EtcdLiar, a_watch_that_ends_when_it_is_connected_brings_nothing_of_the_same_message) {
  const std::string answer = fmt::format(
      R"({{"result":{{{},"watch_id":"2","created":true}}}})"
      "\n"
      R"({{"result":{{{},"watch_id":"1","created":true,"events":[{{"kv":{{"key":"{}","create_revision":"5",)"
      R"("mod_revision":"5"}}}}]}}}})"
      "\n",
      kHeader, kHeader, to_base64("/llorch/data/k"));
  Liar liar({{"/v3/maintenance/status", fmt::format("{{{}}}", kHeader)}, {"/v3/watch", answer}});
  TestClient client([&](net::EventLoop& loop) {
    return make_etcd_store(loop, {.endpoints = {{"127.0.0.1", liar.port}}});
  });
  std::unique_ptr<Watch> watch;
  std::atomic<int> connected = 0, events = 0;
  client.on_loop([&] {
    watch = client.store->watch({"k", true, 5}, {[&](const std::vector<Event>&) { ++events; },
                                                 {},
                                                 [&](bool, const std::string&) {
                                                   ++connected;
                                                   watch.reset();
                                                 }});
  });
  ASSERT_TRUE(wait_until([&] { return connected > 0; }));
  client.on_loop([] {});
  EXPECT_EQ(connected, 1);
  EXPECT_EQ(events, 0);
}

std::string watch_event(std::string_view key, int revision, std::string_view more = "") {
  return fmt::format(R"({{"result":{{{},"watch_id":"1",{}"events":[{{"kv":{{"key":"{}","create_revision":"{}",)"
                     R"("mod_revision":"{}"}}}}]}}}})"
                     "\n",
                     kHeader, more, to_base64(key), revision, revision);
}
std::string watch_created() {
  std::string text;
  for (const int id : {1, 2})
    text += fmt::format(R"({{"result":{{{},"watch_id":"{}","created":true}}}})", kHeader, id) + "\n";
  return text;
}

TEST(EtcdLiar, parts_of_one_revision_come_together) {
  constexpr std::string_view kPart = R"("fragment":true,)";
  const std::string a = "/llorch/data/a", b = "/llorch/data/b", c = "/llorch/data/c";
  const auto groups = [&](const std::string& answer, const std::string& last) {
    Liar liar({{"/v3/maintenance/status", fmt::format("{{{}}}", kHeader)}, {"/v3/watch", watch_created() + answer}});
    TestClient client([&](net::EventLoop& loop) {
      return make_etcd_store(loop, {.endpoints = {{"127.0.0.1", liar.port}}});
    });
    std::string seen;
    std::atomic<bool> lost = false;
    client.on_loop([&] {
      client.own(client.store->watch({"", false, 5}, {[&](const std::vector<Event>& events) {
                                                        if (lost) return;
                                                        for (const Event& e : events) seen += e.entry.key;
                                                        seen += " ";
                                                      },
                                                      {},
                                                      [&](bool there, const std::string& why) {
                                                        if (there || lost.exchange(true)) return;
                                                        EXPECT_NE(why.find(last), std::string::npos) << why;
                                                      }}));
    });
    EXPECT_TRUE(wait_until([&] { return lost.load(); }));
    client.drop_owned();
    return seen;
  };
  EXPECT_EQ(groups(watch_event(a, 5, kPart) + watch_event(b, 5), "ended"), "ab ");
  EXPECT_EQ(groups(watch_event(a, 5, kPart) + watch_event(b, 5, kPart) + watch_event(c, 5), "ended"), "abc ");
  // What is whole is not held back.
  EXPECT_EQ(groups(watch_event(a, 5, kPart) + watch_event(b, 6, kPart) + watch_event(c, 6), "ended"), "a bc ");
  // A part whose rest never comes is not shown, and parts come in order.
  EXPECT_EQ(groups(watch_event(a, 5, kPart), "ended"), "");
  EXPECT_EQ(groups(watch_event(a, 6, kPart) + watch_event(b, 5), "malformed"), "");
}

TEST(EtcdLiar, a_long_message_of_a_watch_is_searched_once) {
  const auto time_of = [](const std::string& blanks) {
    Liar liar({{"/v3/maintenance/status", fmt::format("{{{}}}", kHeader)}, {"/v3/watch", blanks + watch_created()}});
    TestClient client([&](net::EventLoop& loop) {
      return make_etcd_store(loop, {.endpoints = {{"127.0.0.1", liar.port}}});
    });
    const auto begin = std::chrono::steady_clock::now();
    const auto seen = client.watch({"k", true, 5});
    EXPECT_TRUE(wait_until([&] { return seen->times_lost() > 0; }));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  constexpr std::size_t kBytes = 24u << 20, kLine = 1u << 10;
  std::string lines;
  while (lines.size() < kBytes) lines += std::string(kLine, ' ') + "\n";
  const double many = time_of(lines), one = time_of(std::string(kBytes, ' ') + "\n");
  EXPECT_LT(one, 3 * many + 0.1) << "one line; the same bytes in many: " << many << " s";
}

TEST(EtcdLiar, an_answer_that_is_too_long_says_so_and_is_not_asked_for_elsewhere) {
  const std::map<std::string, std::string> answers{{"/v3/maintenance/status", fmt::format("{{{}}}", kHeader)},
                                                   {"/v3/kv/range", std::string((64u << 20) + 1, ' ')},
                                                   {"/v3/kv/txn", std::string((64u << 20) + 1, ' ')}};
  Liar first(answers), second(answers);
  TestClient client([&](net::EventLoop& loop) {
    return make_etcd_store(loop, {.endpoints = {{"127.0.0.1", first.port}, {"127.0.0.1", second.port}}});
  });
  const auto page = client.range({.key = "k"});
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().problem, Problem::kTooLarge) << page.error().message;
  EXPECT_NE(page.error().message.find("ask for fewer"), std::string::npos) << page.error().message;
  EXPECT_EQ(page.error().message.find("no endpoint"), std::string::npos) << page.error().message;
  const auto put = client.put("k", "v");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().problem, Problem::kUnavailable) << put.error().message;
  EXPECT_TRUE(put.error().may_have_happened);
}

TEST(EtcdLiar, a_watch_does_not_believe_it) {
  const std::string right = "/llorch/data/k", wrong = "/llorch/data/x";
  for (const std::string& answer : {watch_event(wrong, 5), watch_event(right, 4), std::string("{\n"),
                                    std::string("{\"result\":{}}\n"), watch_event(right, 5) + watch_event(right, 5)}) {
    Liar liar({{"/v3/maintenance/status", fmt::format("{{{}}}", kHeader)}, {"/v3/watch", answer}});
    TestClient client([&](net::EventLoop& loop) {
      return make_etcd_store(loop, {.endpoints = {{"127.0.0.1", liar.port}}});
    });
    const auto seen = client.watch({"k", true, 5});
    ASSERT_TRUE(wait_until([&] { return seen->times_lost() > 0; }));
    EXPECT_LE(seen->all().size(), 1u) << answer;
    for (const Event& e : seen->all()) EXPECT_EQ(e.entry.modified, 5);
  }
}

}  // namespace
}  // namespace llorch::coord
