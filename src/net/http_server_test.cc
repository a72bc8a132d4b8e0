// The server from a raw socket: what is decided before a body is read, what stays open for whoever has a key, and
// answers that arrive whatever the peer does.
#include "net/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <set>
#include <stdexcept>
#include <thread>

#include "net/test_server.h"
#include "net/test_turns.h"

namespace llorch::net {
namespace {

TEST(HeadFirst, no_body_is_read_for_whoever_has_no_key) {
  Server server;
  Raw c(server.port);
  ASSERT_TRUE(c.send(post("Content-Length: 1000\r\n", "")));  // none of it comes
  EXPECT_TRUE(c.read("no key").starts_with("HTTP/1.1 401"));
  EXPECT_EQ(server.bodies, 0);
}

TEST(HeadFirst, expect_is_answered_after_the_key_in_any_spelling) {
  Server server;
  Raw stranger(server.port), known(server.port);
  ASSERT_TRUE(stranger.send(post("Content-Length: 3\r\nExpect: 100-Continue\r\n", "")));
  EXPECT_TRUE(stranger.read("no key").starts_with("HTTP/1.1 401"));
  ASSERT_TRUE(known.send(post(std::string(kKey) + "Content-Length: 3\r\nExpect: 100-Continue\r\n", "")));
  ASSERT_TRUE(known.read("\r\n\r\n").starts_with("HTTP/1.1 100"));
  ASSERT_TRUE(known.send("abc"));
  EXPECT_TRUE(known.read("\r\n\r\n3").contains("HTTP/1.1 200"));
}

TEST(HeadFirst, bodies_have_one_budget) {
  ServerOptions options;
  options.bodies_bytes_max = 1500;
  Server server(options);
  Raw first(server.port), second(server.port);
  ASSERT_TRUE(first.send(post(std::string(kKey) + "Content-Length: 1000\r\n", "a")));
  Raw probe(server.port);  // its answer says that the first one's head was read
  ASSERT_TRUE(probe.send(post(std::string(kKey) + "Content-Length: 0\r\n", "")));
  ASSERT_TRUE(probe.read("\r\n\r\n0").starts_with("HTTP/1.1 200"));
  ASSERT_TRUE(second.send(post(std::string(kKey) + "Content-Length: 1000\r\n", "b")));
  EXPECT_TRUE(second.read("\r\n\r\n").starts_with("HTTP/1.1 429"));
  ASSERT_TRUE(first.send(std::string(999, 'a')));
  EXPECT_TRUE(first.read("\r\n\r\n1000").starts_with("HTTP/1.1 200"));
}

TEST(HeadFirst, a_body_that_is_kept_counts_after_its_answer_and_in_the_middle_of_it) {
  ServerOptions options;
  options.bodies_bytes_max = 1500;
  Server server(options);
  const std::string length = std::string(kKey) + "Content-Length: 1000\r\n", body(1000, 'a');
  for (const char* path : {"/keep", "/stream"}) {
    Raw first(server.port), second(server.port), third(server.port);
    ASSERT_TRUE(first.send(post(length, body, path)));
    EXPECT_TRUE(first.read(path == std::string_view("/keep") ? "\r\n\r\n1000" : "begun").starts_with("HTTP/1.1 200"));
    ASSERT_TRUE(second.send(post(length, body)));
    EXPECT_TRUE(second.read("\r\n\r\n").starts_with("HTTP/1.1 429")) << path;
    server.on_loop([&](HttpServer& s) {
      EXPECT_EQ(s.bodies_bytes(), 1000u);
      server.kept.clear();
      EXPECT_EQ(s.bodies_bytes(), 0u);
    });
    ASSERT_TRUE(third.send(post(length, body)));
    EXPECT_TRUE(third.read("\r\n\r\n1000").starts_with("HTTP/1.1 200")) << path;
  }
}

TEST(Bodies, of_any_size_and_in_any_pieces_arrive_whole_and_what_follows_is_the_next_request) {
  Server server;
  for (const bool chunked : {false, true})
    for (const std::size_t size : {1u, 65'535u, 65'536u, 65'537u, 1u << 20, 8u << 20}) {
      const std::string body = numbers(size), last = numbers(7);
      const auto length = [&](std::size_t n) { return fmt::format("{}Content-Length: {}\r\n", kKey, n); };
      std::string all = post(length(size), body, "/whole");
      if (chunked) {
        all = post(fmt::format("{}Transfer-Encoding: chunked\r\n", kKey), "", "/whole");
        for (std::size_t at = 0; at < size; at += 50'000) {
          const std::string part = body.substr(at, 50'000);
          all += fmt::format("{:x}\r\n{}\r\n", part.size(), part);
        }
        all += "0\r\n\r\n";
      }
      all += post(length(last.size()), last, "/whole");
      for (const std::size_t piece : {std::size_t{70'001}, all.size()}) {
        Raw c(server.port);
        for (std::size_t at = 0; at < all.size(); at += piece)
          ASSERT_TRUE(c.send(std::string_view(all).substr(at, piece)));
        const std::string both = c.read(fmt::format("\r\n\r\n{} ", hash(last)));
        EXPECT_TRUE(both.contains(fmt::format("\r\n\r\n{} ", hash(body)))) << size << " in " << piece;
        EXPECT_TRUE(both.contains(fmt::format("\r\n\r\n{} ", hash(last)))) << size << " in " << piece;
      }
    }
}

TEST(Bodies, that_are_declared_and_do_not_come_keep_nobody_out) {
  ServerOptions options;
  options.bodies_bytes_max = 4u << 20;
  Server server(options);
  const std::string body = numbers(1u << 20);
  const std::string all = post(fmt::format("{}Content-Length: {}\r\n", kKey, body.size()), body, "/whole");
  std::vector<std::unique_ptr<Raw>> silent;
  for (int i = 0; i < 20; ++i) {
    silent.push_back(std::make_unique<Raw>(server.port));
    ASSERT_TRUE(silent.back()->send(post(fmt::format("{}Content-Length: {}\r\n", kKey, body.size()), "", "/whole")));
  }
  Raw honest(server.port);
  ASSERT_TRUE(honest.send(all));
  EXPECT_TRUE(honest.read(fmt::format("{} ", hash(body))).starts_with("HTTP/1.1 200"));
  for (const auto& c : silent) {  // and each of them may still go on
    ASSERT_TRUE(c->send(body));
    EXPECT_TRUE(c->read(fmt::format("{} ", hash(body))).starts_with("HTTP/1.1 200"));
  }
}

TEST(Bodies, that_are_short_have_some_memory_more) {
  ServerOptions options;
  options.bodies_bytes_max = 1500;
  Server server(options);
  const auto declares = [](int bytes) { return fmt::format("{}Content-Length: {}\r\n", kKey, bytes); };
  Raw first(server.port), second(server.port), third(server.port);
  ASSERT_TRUE(first.send(post(declares(1000), std::string(1000, 'a'), "/keep")));
  ASSERT_TRUE(first.read("\r\n\r\n1000").starts_with("HTTP/1.1 200"));
  ASSERT_TRUE(second.send(post(declares(1000), std::string(1000, 'a'))));
  EXPECT_TRUE(second.read("\r\n\r\n").starts_with("HTTP/1.1 429"));
  ASSERT_TRUE(third.send(post(declares(600), std::string(600, 'a'))));
  EXPECT_TRUE(third.read("\r\n\r\n600").starts_with("HTTP/1.1 200"));
}

/// Or clients that post megabytes one after the other would leave nothing of a small machine to anybody else.
TEST(Bodies, long_ones_of_all_connections_share_a_rate) {
  Server server;
  const std::string body = numbers(kWholeMax);
  const std::string all = post(fmt::format("{}Content-Length: {}\r\n", kKey, body.size()), body, "/whole");
  const auto start = Clock::now();
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i)
    clients.emplace_back([&] {
      Raw c(server.port);
      EXPECT_TRUE(c.send(all));
      EXPECT_TRUE(c.read("\r\n\r\n").starts_with("HTTP/1.1 200"));
    });
  for (std::thread& t : clients) t.join();
  EXPECT_GT(Clock::now() - start, std::chrono::milliseconds(3 * 8'000 / 128 - 20));  // never sooner: 128 MB a second
}

TEST(Places, a_peer_without_a_key_does_not_keep_others_out) {
  ServerOptions options;
  options.connections_max = 40, options.connections_per_peer_max = 30;
  options.strangers_max = 16, options.strangers_per_peer_max = 8;
  Server server(options);
  Raw known(server.port);
  ASSERT_TRUE(known.send(post(std::string(kKey) + "Content-Length: 0\r\n", "")));
  ASSERT_TRUE(known.read("\r\n\r\n0").starts_with("HTTP/1.1 200"));
  std::vector<std::unique_ptr<Raw>> strangers;
  for (int i = 0; i < 100; ++i) strangers.push_back(std::make_unique<Raw>(server.port));
  for (const char* from : {"127.0.0.1", "127.0.0.2"}) {
    Raw later(server.port, from);
    ASSERT_TRUE(later.send(post(std::string(kKey) + "Content-Length: 0\r\n", "")));
    EXPECT_TRUE(later.read("\r\n\r\n0").starts_with("HTTP/1.1 200")) << from;
  }
  ASSERT_TRUE(known.send(post(std::string(kKey) + "Content-Length: 1\r\n", "x")));
  EXPECT_TRUE(known.read("\r\n\r\n1").contains("\r\n\r\n1")) << "who has shown a key stays";
}

TEST(Answers, a_pipelined_request_does_not_cut_off_the_answer_before_it) {
  Server server;
  Raw c(server.port);
  const std::string ask = std::string(kKey) + "Content-Length: 0\r\n";
  ASSERT_TRUE(c.send(post(ask, "", "/long") + post(ask + "Connection: close\r\n", "")));
  const std::string all = c.read();
  const std::size_t body = all.find("\r\n\r\n");  // heads have letters of their own
  ASSERT_NE(body, std::string::npos);
  EXPECT_EQ(all.find_first_not_of('y', body + 4), body + 4 + (8u << 20));
  EXPECT_TRUE(all.ends_with("\r\n\r\n0")) << all.substr(all.size() - 200);
}

/// Who asks and asks and reads nothing fills the system's buffers, and then nobody reads what it asks.
TEST(Answers, requests_wait_while_their_peer_takes_no_answer) {
  ServerOptions options;
  options.send_buffer_bytes = options.receive_buffer_bytes = 16 << 10;
  Server server(options);
  Raw c(server.port);
  c.narrow();
  const std::string ask = post(std::string(kKey) + "Content-Length: 0\r\n", "", "/page");
  std::string all;
  constexpr int kRequests = 4000;  // their answers are 400 MB
  for (int i = 0; i < kRequests; ++i) all += ask;
  EXPECT_FALSE(c.send(all)) << "all was read";
  EXPECT_LT(server.bodies, 10);
}

TEST(Answers, of_requests_that_are_sent_together_all_arrive_while_they_are_read) {
  Server server;
  Raw c(server.port);
  constexpr int kRequests = 200;
  std::thread asks([&] {
    const std::string ask = post(std::string(kKey) + "Content-Length: 0\r\n", "", "/page");
    for (int i = 0; i < kRequests; ++i) ASSERT_TRUE(c.send(ask));
    ASSERT_TRUE(c.send(post(std::string(kKey) + "Connection: close\r\nContent-Length: 0\r\n", "")));
  });
  const std::string all = c.read();
  asks.join();
  EXPECT_FALSE(c.late());
  EXPECT_EQ(std::ranges::count(all, '#'), std::ptrdiff_t{kRequests} * 100'000);
  EXPECT_TRUE(all.ends_with("\r\n\r\n0"));
}

TEST(Answers, a_refusal_arrives_while_the_body_is_still_sent) {
  Server server;
  Raw c(server.port);
  EXPECT_TRUE(c.send(post(std::string(kKey) + "Content-Length: 8000000\r\n", std::string(8'000'000, 'x'))))
      << "the connection was reset under the body";
  EXPECT_TRUE(c.read().starts_with("HTTP/1.1 413"));
  Raw long_head(server.port);
  EXPECT_TRUE(long_head.send("GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(4'000'000, 'x') + "\r\n\r\n"));
  EXPECT_TRUE(long_head.read().starts_with("HTTP/1.1 431"));
}

TEST(Answers, who_closes_only_his_own_direction_is_answered_and_who_has_left_is_noticed) {
  Server server;
  const std::string ask = post(std::string(kKey) + "Content-Length: 0\r\n", "", "/slow");
  {
    Raw c(server.port);
    ASSERT_TRUE(c.send(ask));
    c.no_more();
    EXPECT_TRUE(c.read().ends_with("at last"));
  }
  EXPECT_EQ(server.gone, 0);
  { ASSERT_TRUE(Raw(server.port).send(ask)); }
  for (int i = 0; i < 100'000 && server.gone == 0; ++i) std::this_thread::yield();
  EXPECT_EQ(server.gone, 1);
}

TEST(Places, who_waits_for_the_last_connection_to_end_is_called_then) {
  EventLoop loop;
  std::vector<std::string> order;
  ExchangePtr open;
  std::unique_ptr<Raw> peer;
  const auto handler = [&](const Request&, const ExchangePtr& e) {
    open = e;
    loop.stop();
  };
  const auto server = HttpServer::make(loop, {}, handler, [](const Error&) { return Response{}; }).value();
  server->when_no_connections([&] {
    order.emplace_back("none yet");
    peer = std::make_unique<Raw>(server->port());
    ASSERT_TRUE(peer->send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  });
  loop.run();
  ASSERT_TRUE(open);
  server->when_no_connections([&] {
    order.emplace_back("the last has ended");
    loop.stop();
  });
  loop.post([&] {
    order.emplace_back("answered");
    open->send({200, "text/plain", "x", {}});
    open.reset();
  });
  loop.run();
  EXPECT_EQ(order, (std::vector<std::string>{"none yet", "answered", "the last has ended"}));
}

/// A loop that is watched; run() runs what was posted so far.
struct Watched {
  EventLoop loop;
  std::vector<std::string> slow;  // without the place
  std::vector<Turn> turns;
  explicit Watched(std::chrono::milliseconds limit) {
    loop.watch_turns(limit, [this](const Turn& turn, std::string_view what) {
      slow.emplace_back(what.substr(0, what.find(' ')));
      turns.push_back(turn);
    });
  }
  void run() {
    loop.post([this] { loop.stop(); });
    loop.run();
  }
};

/// What a handler must not do: it waits for a file descriptor that never gets ready.
void block_for(std::chrono::milliseconds time) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  pollfd never{pipe[0], POLLIN, 0};
  EXPECT_EQ(::poll(&never, 1, static_cast<int>(time.count())), 0);
  for (const int end : pipe) ::close(end);
}

TEST(Loop, a_turn_that_computes_long_is_reported_and_a_handler_that_throws_ends_alone) {
  Watched w(std::chrono::milliseconds(2));
  std::string fault;
  w.loop.on_fault = [&](const char* what) { fault = what; };
  w.loop.post([&] {
    w.loop.doing("counting");
    compute_for(std::chrono::milliseconds(3));
  });
  w.loop.post([] { throw std::runtime_error("broken"); });
  w.run();
  EXPECT_EQ(w.slow, std::vector<std::string>{"counting"});
  EXPECT_EQ(fault, "broken");
  EXPECT_GE(w.loop.turns().longest, std::chrono::milliseconds(2));
  EXPECT_EQ(w.loop.turns().slow, 1);
}

TEST(Loop, a_turn_that_says_nothing_is_known_by_where_it_was_begun) {
  Watched w(std::chrono::milliseconds(2));
  const auto slow = [] { compute_for(std::chrono::milliseconds(3)); };
  std::vector<unsigned> lines{__LINE__ + 1};
  w.loop.post(slow);
  lines.push_back(__LINE__ + 1);
  const auto timer = w.loop.after(std::chrono::milliseconds(0), slow);
  lines.push_back(__LINE__ + 1);
  EventLoop::ReservedPost reserved(w.loop, slow);
  reserved.post();
  const auto end = w.loop.after(std::chrono::milliseconds(50), [&] { w.loop.stop(); });
  w.loop.run();
  std::set<std::string> places;
  for (const unsigned line : lines) places.insert(fmt::format("http_server_test.cc:{}", line));
  EXPECT_EQ(std::set<std::string>(w.slow.begin(), w.slow.end()), places);
}

TEST(Loop, that_nobody_watches_knows_what_its_longest_turn_took_by_the_clock) {
  EventLoop loop;
  loop.post([] { block_for(std::chrono::milliseconds(25)); });
  loop.post([&] { loop.stop(); });
  loop.run();
  EXPECT_GE(loop.turns().longest, std::chrono::milliseconds(25));
  EXPECT_GE(loop.turns().slow, 1);
}

TEST(Loop, a_turn_that_blocks_is_reported_and_waiting_for_something_to_do_is_no_turn) {
  if (!std::filesystem::exists("/proc/thread-self/schedstat"))
    GTEST_SKIP() << "not run: this kernel does not say how long a thread waits for a processor";
  Watched w(std::chrono::milliseconds(20));
  const auto timer = w.loop.after(std::chrono::milliseconds(60), [&] {  // the loop is idle for longer than the limit
    w.loop.post([&] {
      w.loop.doing("blocking");
      block_for(std::chrono::milliseconds(40));
    });
    w.loop.post([&] { w.loop.stop(); });
  });
  w.loop.run();
  EXPECT_EQ(w.slow, std::vector<std::string>{"blocking"});
  EXPECT_LT(w.loop.turns().longest, std::chrono::milliseconds(60));
  ASSERT_EQ(w.turns.size(), 1u);
  const Turn& turn = w.turns[0];
  EXPECT_GE(turn.wall, std::chrono::milliseconds(40));
  EXPECT_LT(turn.computed, std::chrono::milliseconds(20));
  EXPECT_GE(turn.blocked, 1);
  EXPECT_STREQ(turn.operation, "execute");
  EXPECT_TRUE(turn.stolen) << "/proc/stat was not understood";
}

/// Others that want the same processor make no turn slow: a loop that shares one with a thread that never stops.
TEST(Loop, waiting_for_a_processor_is_no_part_of_a_turn) {
  cpu_set_t mine, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &mine)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  {
    std::vector<std::jthread> others(4);
    for (auto& t : others)
      t = std::jthread([](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
        }
      });
    Watched w(std::chrono::milliseconds(30));
    const auto start = std::chrono::steady_clock::now();
    w.loop.post([] { compute_for(std::chrono::milliseconds(25)); });
    w.run();
    EXPECT_GT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(60)) << "nobody was in the way";
    EXPECT_EQ(w.slow, std::vector<std::string>{});
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof mine, &mine), 0);
}

}  // namespace
}  // namespace llorch::net
