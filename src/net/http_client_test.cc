// The client against servers that say what a test writes: whole answers, broken ones, none.
#include "net/http_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <functional>
#include <mutex>
#include <thread>

#include "base/descriptor.h"
#include "net/http_server.h"

namespace llorch::net {
namespace {

using namespace std::chrono_literals;

/// Binds and listens; the port that the system chose.
std::uint16_t listen_on_loopback(const Descriptor& socket, int backlog) {
  sockaddr_in a{};
  a.sin_family = AF_INET, a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(socket.number(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
  EXPECT_EQ(listen(socket.number(), backlog), 0);
  socklen_t size = sizeof a;
  getsockname(socket.number(), reinterpret_cast<sockaddr*>(&a), &size);
  return ntohs(a.sin_port);
}

/// Accepts connections one after another, and on each answers requests with the pieces given until it is closed.
/// An empty piece closes the connection; no pieces: it reads and says nothing. After `answers` of them, when that is
/// not 0, a connection is closed upon its next request.
class Scripted {
 public:
  explicit Scripted(std::vector<std::string> pieces, int answers = 0)
      : pieces_(std::move(pieces)), answers_(answers), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    port_ = listen_on_loopback(listener_, 16);
    thread_ = std::thread([this] { serve(); });
  }
  ~Scripted() {
    shutdown(listener_.number(), SHUT_RDWR);
    thread_.join();
  }
  [[nodiscard]] ClientRequest request(const std::string& path = "/") const {
    ClientRequest r;
    r.url = {"127.0.0.1", port_, path};
    r.connect_timeout = r.idle_timeout = 5s;
    return r;
  }
  [[nodiscard]] int connections() const { return connections_; }
  [[nodiscard]] std::string received() const {
    const std::lock_guard lock(mutex_);
    return received_;
  }

 private:
  void serve() {
    while (true) {
      const Descriptor peer(accept(listener_.number(), nullptr, nullptr));
      if (peer.number() < 0) return;
      ++connections_;
      for (int n = 0; read_head(peer.number()) && (answers_ == 0 || n < answers_) && answer(peer.number());) ++n;
    }
  }
  bool read_head(int fd) {
    std::string head;
    for (char c = 0; !head.ends_with("\r\n\r\n"); head += c) {
      pollfd both[] = {{fd, POLLIN, 0}, {listener_.number(), POLLRDHUP, 0}};
      poll(both, 2, -1);
      if ((both[1].revents & (POLLHUP | POLLRDHUP)) != 0 || recv(fd, &c, 1, 0) != 1) return false;
    }
    const std::size_t length = head.find("Content-Length: ");
    std::string body(length == std::string::npos ? 0 : std::stoul(head.substr(length + 16)), '\0');
    if (!body.empty() && recv(fd, body.data(), body.size(), MSG_WAITALL) < 0) return false;
    const std::lock_guard lock(mutex_);
    received_ += head;
    return true;
  }
  [[nodiscard]] bool answer(int fd) const {
    for (const std::string& piece : pieces_) {
      if (piece.empty()) return false;
      if (send(fd, piece.data(), piece.size(), MSG_NOSIGNAL) < 0) return false;
    }
    return true;
  }
  std::vector<std::string> pieces_;
  int answers_;
  Descriptor listener_;
  std::uint16_t port_ = 0;
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;
  std::string received_;
  std::thread thread_;
};

/// Answers one request with a byte every 20 ms, until the client leaves.
class Dripping {
 public:
  Dripping() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    port_ = listen_on_loopback(listener_, 1);
    thread_ = std::thread([this] {
      const Descriptor peer(accept(listener_.number(), nullptr, nullptr));
      const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + std::string(500, 'x');
      for (std::size_t i = 0; i < head.size(); ++i) {
        if (send(peer.number(), &head[i], 1, MSG_NOSIGNAL) != 1) return;
        pollfd client{peer.number(), POLLRDHUP, 0};
        if (poll(&client, 1, 20) != 0) return;
      }
    });
  }
  ~Dripping() {
    shutdown(listener_.number(), SHUT_RDWR);
    thread_.join();
  }
  Dripping(const Dripping&) = delete;
  Dripping& operator=(const Dripping&) = delete;
  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  Descriptor listener_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

/// A place whose queue of connections is full: whoever connects there waits.
class Unreachable {
 public:
  Unreachable() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), port_(listen_on_loopback(listener_, 0)) {
    sockaddr_in a{};
    a.sin_family = AF_INET, a.sin_addr.s_addr = htonl(INADDR_LOOPBACK), a.sin_port = htons(port_);
    for (const Descriptor& d : inside_) (void)connect(d.number(), reinterpret_cast<sockaddr*>(&a), sizeof a);
  }
  [[nodiscard]] ClientRequest request() const {
    ClientRequest r;
    r.url = {"127.0.0.1", port_, "/"};
    return r;
  }

 private:
  static Descriptor stranger() { return Descriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }
  Descriptor listener_;
  std::uint16_t port_;
  std::array<Descriptor, 3> inside_{stranger(), stranger(), stranger()};
};

// curl closes the sockets of such calls without a word: their numbers are others' from then on.
TEST(Client, a_call_that_is_dropped_while_it_connects_harms_nobody) {
  const Unreachable dead;
  const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""});
  EventLoop loop;
  const auto turn = [&](std::chrono::milliseconds time) {
    const auto timer = loop.after(time, [&] { loop.stop(); });
    loop.run();
  };
  int good = 0;
  std::string faults;
  for (int round = 0; round < 5; ++round) {
    std::vector<Call> calls;
    for (int i = 0; i < 5; ++i)
      calls.push_back(start_call(loop, dead.request(), {.on_head = {}, .on_data = {}, .on_end = [](const Status&) {}}));
    turn(30ms);
    calls.clear();
    turn(1ms);
    for (int i = 0; i < 6; ++i)
      calls.push_back(start_call(loop, server.request(),
                                 {.on_head = {}, .on_data = {}, .on_end = [&](const Status& s) {
                                    s ? void(++good) : void(faults += s.error().message + "\n");
                                    if ((good + static_cast<int>(std::ranges::count(faults, '\n'))) % 6 == 0)
                                      loop.stop();
                                  }}));
    turn(5s);
  }
  EXPECT_EQ(good, 30) << faults;
}

TEST(Client, reads_answers_of_every_framing) {
  for (const auto& [head, body] :
       {std::pair{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA:  b \r\n\r\n", "hello"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n", "hello"}}) {
    const Scripted server({std::string(head) + body, ""});
    const auto answer = fetch(server.request());
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->body, "hello");
    EXPECT_EQ(answer->headers.get("a"), "b");
  }
}

TEST(Client, what_is_cut_off_or_no_http_is_an_error_and_says_which) {
  for (const auto& [bytes, words] : {std::pair{"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "cut off"},
                                     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "cut off"},
                                     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "cut off"},
                                     {"SSH-2.0-OpenSSH\r\n\r\n", "malformed"},
                                     {"HTTP/1.1 200 OK\r\nContent-Le", "cut off"}}) {
    const Scripted server({bytes, ""});
    const auto answer = fetch(server.request());
    ASSERT_FALSE(answer) << bytes;
    EXPECT_EQ(answer.error().code, ErrorCode::kIo);
    EXPECT_NE(answer.error().message.find(words), std::string::npos) << answer.error().message;
    EXPECT_NE(answer.error().message.find("127.0.0.1"), std::string::npos) << answer.error().message;
  }
  const Scripted endless({"HTTP/1.1 200 OK\r\n" + std::string(1u << 20, 'a') + ": b\r\n\r\n", ""});
  EXPECT_FALSE(fetch(endless.request()));
}

TEST(Client, a_silent_server_is_given_up_after_the_idle_time) {
  for (const std::string said : {"", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"}) {
    const Scripted server(said.empty() ? std::vector<std::string>{} : std::vector<std::string>{said});
    ClientRequest r = server.request();
    r.idle_timeout = 50ms;
    const auto answer = fetch(r);
    ASSERT_FALSE(answer);
    EXPECT_NE(answer.error().message.find("timed out"), std::string::npos) << answer.error().message;
  }
}

/// One that sends a byte now and then never falls silent.
TEST(Client, a_server_that_drips_is_given_up_after_the_whole_time) {
  const Dripping server;
  ClientRequest r;
  r.url = {"127.0.0.1", server.port(), "/"};
  r.idle_timeout = 5s, r.total_timeout = 200ms;
  const auto began = Clock::now();
  const auto answer = fetch(r);
  ASSERT_FALSE(answer);
  EXPECT_LT(Clock::now() - began, 3s);
  EXPECT_NE(answer.error().message.find("cut off by 127.0.0.1"), std::string::npos) << answer.error().message;
  EXPECT_NE(answer.error().message.find("timed out"), std::string::npos) << answer.error().message;
}

TEST(Client, connections_are_kept_for_the_next_request) {
  const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"});
  EventLoop loop;
  int done = 0;
  Call call;
  std::function<void()> next = [&] {
    call = start_call(loop, server.request("/" + std::to_string(done)),
                      {.on_head = {}, .on_data = {}, .on_end = [&](const Status& s) {
                         EXPECT_TRUE(s);
                         if (++done == 5) return loop.stop();
                         next();  // starts another where one has just ended
                       }});
  };
  next();
  loop.run();
  EXPECT_EQ(server.connections(), 1);
  EXPECT_NE(server.received().find("GET /4 HTTP/1.1\r\nHost: 127.0.0.1:"), std::string::npos) << server.received();
}

TEST(Client, a_kept_connection_that_was_closed_meanwhile_is_no_error) {
  const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""});
  EventLoop loop;
  int done = 0;
  Call call;
  std::function<void()> next = [&] {
    call = start_call(loop, server.request(), {.on_head = {}, .on_data = {}, .on_end = [&](const Status& s) {
                                                 EXPECT_TRUE(s) << s.error().message;
                                                 if (++done == 3) return loop.stop();
                                                 next();
                                               }});
  };
  next();
  loop.run();
  EXPECT_EQ(server.connections(), 3);
}

/// A kept connection that the server closes without an answer: what may have been carried out is not sent again.
TEST(Client, only_what_asks_is_sent_again_when_a_kept_connection_breaks) {
  for (const auto& [method, body] : {std::pair{"GET", ""}, {"POST", "order"}, {"POST", ""}, {"DELETE", ""}}) {
    const bool asks = std::string_view(method) == "GET";
    const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}, 1);
    EventLoop loop;
    std::vector<Status> outcomes;
    Call call;
    std::function<void()> next = [&] {
      ClientRequest r = server.request("/" + std::to_string(outcomes.size()));
      r.method = method, r.body = body;
      call = start_call(loop, r, {.on_head = {}, .on_data = {}, .on_end = [&](const Status& s) {
                                    outcomes.push_back(s);
                                    if (outcomes.size() == 2) return loop.stop();
                                    next();
                                  }});
    };
    next();
    loop.run();
    ASSERT_TRUE(outcomes[0]) << outcomes[0].error().message;
    const std::string all = server.received(), second = std::string(method) + " /1 ";
    std::size_t times = 0;
    for (std::size_t at = all.find(second); at != std::string::npos; at = all.find(second, at + 1)) ++times;
    EXPECT_EQ(times, asks ? 2u : 1u) << method << " with \"" << body << "\"";
    EXPECT_EQ(outcomes[1].has_value(), asks) << method << " with \"" << body << "\"";
    const std::string said = outcomes[1] ? "" : outcomes[1].error().message;
    EXPECT_EQ(said.find("not sent again") == std::string::npos, asks) << said;
  }
}

/// Dropped in each of its callbacks, and by another call's: nothing is told any more, and the loop goes on.
TEST(Client, a_call_may_be_dropped_anywhere) {
  const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok"});
  for (const int where : {0, 1, 2}) {
    EventLoop loop;
    Call call;
    int told = 0;
    const auto at = [&](int place) {
      EXPECT_LE(place, where);
      ++told;
      if (place == where) call = {}, loop.post([&] { loop.stop(); });
    };
    call = start_call(loop, server.request(),
                      {.on_head = [&](int, const Headers&) { at(0); },
                       .on_data = [&](std::string_view) { at(1); },
                       .on_end = [&](const Status&) { at(2); }});
    loop.run();
    EXPECT_EQ(told, where + 1);
  }
  EventLoop loop;
  {
    const Call never = start_call(loop, server.request(),
                                  {.on_head = {}, .on_data = {}, .on_end = [](const Status&) { ADD_FAILURE(); }});
  }
  const auto timer = loop.after(1ms, [&] { loop.stop(); });
  loop.run();
}

TEST(Client, a_callback_that_throws_ends_its_call_alone) {
  const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""});
  EventLoop loop;
  std::string failed;
  bool fine = false;
  const Call bad = start_call(loop, server.request(),
                              {.on_head = [](int, const Headers&) { throw std::runtime_error("a test's"); },
                               .on_data = {},
                               .on_end =
                                   [&](const Status& s) {
                                     failed = s ? "" : s.error().message;
                                     if (fine) loop.stop();
                                   }});
  const Call good = start_call(loop, server.request(), {.on_head = {}, .on_data = {}, .on_end = [&](const Status& s) {
                                                          fine = s.has_value();
                                                          if (!failed.empty()) loop.stop();
                                                        }});
  loop.run();
  EXPECT_NE(failed.find("a test's"), std::string::npos) << failed;
  EXPECT_TRUE(fine);
}

TEST(Client, names_are_looked_up_and_unknown_ones_are_errors) {
  const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""});
  ClientRequest r = server.request();
  r.url.host = "localhost";
  const auto answer = fetch(r);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_NE(server.received().find("Host: localhost:"), std::string::npos);
  r.url.host = "no-such-name.invalid";
  r.connect_timeout = 10s;
  const auto unknown = fetch(r);
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("cannot resolve no-such-name.invalid"), std::string::npos)
      << unknown.error().message;
}

/// What goes out is what was asked for: no field of curl's own, bodies whole, methods as given.
TEST(Client, a_call_whose_end_nobody_asks_for_is_made) {
  const Scripted server({"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""});
  EventLoop loop;
  ClientRequest request = server.request("/cancelled");
  request.method = "DELETE";
  const Call call = start_call(loop, std::move(request), {});
  const auto limit = loop.after(10s, [&] { loop.stop(); });
  std::function<void()> look;
  EventLoop::Timer again;
  look = [&] { server.received().empty() ? void(again = loop.after(1ms, look)) : loop.stop(); };
  look();
  loop.run();
  EXPECT_TRUE(server.received().starts_with("DELETE /cancelled ")) << server.received();
}

TEST(Client, sends_what_it_was_given) {
  EventLoop loop;
  std::string seen;
  const auto server =
      HttpServer::make(
          loop, {},
          [&](const Request& q, const ExchangePtr& e) {
            for (const auto& [name, value] : q.headers.fields()) seen += name + "=" + value + ";";
            e->send({200, "text/plain", q.method + std::to_string(std::hash<std::string>{}(q.body)), {}});
          },
          [](const Error& e) {
            return Response{500, "text/plain", e.message, {}};
          })
          .value();
  for (const auto& [method, body] : {std::pair{"GET", std::string()},
                                     {"DELETE", ""},
                                     {"POST", ""},
                                     {"POST", "small"},
                                     {"PUT", "x"},
                                     {"POST", std::string(7'000'000, 'b') + "end"}}) {
    ClientRequest r;
    r.method = method, r.body = body, r.url = {"127.0.0.1", server->port(), "/a%20b?c=d"};
    r.headers.add("X-Empty", "");
    seen.clear();
    std::string answer;
    const Call call = start_call(loop, r,
                                 {.on_head = {},
                                  .on_data = [&](std::string_view b) { answer += b; },
                                  .on_end =
                                      [&](const Status& s) {
                                        EXPECT_TRUE(s) << s.error().message;
                                        loop.stop();
                                      }});
    loop.run();
    EXPECT_EQ(answer, method + std::to_string(std::hash<std::string>{}(body)));
    EXPECT_NE(seen.find("X-Empty=;"), std::string::npos) << seen;
    EXPECT_EQ(seen.find("Content-Type"), std::string::npos) << seen;
    EXPECT_EQ(seen.find("Accept"), std::string::npos) << seen;
    const std::string length = "Content-Length=" + std::to_string(body.size());
    EXPECT_EQ(seen.find(length) != std::string::npos, std::string_view(method) == "POST" || !body.empty()) << seen;
  }
}

/// A server that accepts and says nothing; who connects is counted on the loop.
TEST(Client, few_handshakes_with_one_server_are_under_way_at_a_time_and_the_next_begins_when_one_ends) {
  EventLoop loop;
  const Descriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const std::uint16_t port = listen_on_loopback(listener, 200);
  std::vector<Descriptor> peers;
  EventLoop::Timer look, late;
  std::size_t wanted = 64;
  bool too_late = false;
  const std::function<void()> accept_all = [&] {
    while (true) {
      Descriptor peer(accept(listener.number(), nullptr, nullptr));
      if (!peer) break;
      peers.push_back(std::move(peer));
    }
    if (peers.size() >= wanted) return loop.stop();
    look = loop.after(1ms, accept_all);
  };
  late = loop.after(20s, [&] { too_late = true, loop.stop(); });
  const auto run_until = [&](std::size_t connections) {
    wanted = connections;
    accept_all();
    loop.run();
    return peers.size();
  };
  std::vector<Call> calls;
  int ended = 0;
  const auto call = [&] {
    ClientRequest r;
    r.url = {"127.0.0.1", port, "/"};
    r.url.tls = true;
    r.connect_timeout = 30s;
    calls.push_back(
        start_call(loop, std::move(r), {.on_head = {}, .on_data = {}, .on_end = [&](const Status&) { ++ended; }}));
  };
  call();
  ASSERT_EQ(run_until(1), 1u) << "the system's certificates are read; from here on calls begin in order";
  while (calls.size() < 100) call();
  ASSERT_EQ(run_until(64), 64u);
  const auto pause = loop.after(50ms, [&] { loop.stop(); });
  loop.run();
  wanted = 1000;
  accept_all();
  EXPECT_EQ(peers.size(), 64u) << "more began while none had ended";
  peers[3] = Descriptor();  // its handshake has failed
  EXPECT_EQ(run_until(65), 65u);
  EXPECT_EQ(ended, 1);
  calls[0] = {}, calls[1] = {};  // nobody waits for these; one of them may have ended just now
  EXPECT_GE(run_until(66), 66u);
  EXPECT_FALSE(too_late);
}

TEST(Client, hundreds_at_once_end_once_each) {
  EventLoop loop;
  const auto server = HttpServer::make(
                          loop, {},
                          [&](const Request& q, const ExchangePtr& e) {
                            e->send({200, "text/plain", q.target.path, {}});
                          },
                          [](const Error& e) {
                            return Response{500, "text/plain", e.message, {}};
                          })
                          .value();
  constexpr int kCalls = 400;
  std::vector<Call> calls(kCalls);
  std::vector<int> ends(kCalls);
  int left = kCalls;
  for (int i = 0; i < kCalls; ++i) {
    ClientRequest r;
    r.url = {"127.0.0.1", server->port(), "/" + std::to_string(i)};
    const bool dropped = i % 3 == 2;
    calls[static_cast<std::size_t>(i)] = start_call(loop, r,
                                                    {.on_head = {},
                                                     .on_data =
                                                         [&, i, dropped](std::string_view b) {
                                                           EXPECT_EQ(b, "/" + std::to_string(i));
                                                           if (dropped) calls[static_cast<std::size_t>(i)] = {}, --left;
                                                           if (left == 0) loop.stop();
                                                         },
                                                     .on_end =
                                                         [&, i, dropped](const Status& s) {
                                                           EXPECT_TRUE(s && !dropped);
                                                           ++ends[static_cast<std::size_t>(i)];
                                                           if (--left == 0) loop.stop();
                                                         }});
  }
  loop.run();
  for (int i = 0; i < kCalls; ++i) EXPECT_EQ(ends[static_cast<std::size_t>(i)], i % 3 == 2 ? 0 : 1) << i;
}

}  // namespace
}  // namespace llorch::net
