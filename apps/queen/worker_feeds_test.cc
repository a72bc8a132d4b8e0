// A worker that lies on its feed: what it fills, and what it makes the queen call off.
#include "queen/worker_feeds.h"

#include <gtest/gtest.h>

#include "net/http_server.h"
#include "net/sse.h"

namespace llorch::queen {
namespace {

constexpr int kCallOffsMax = 256;  // see worker_feeds.cc

/// A queen's side, and a worker whose feed says what a test writes and who answers no DELETE.
struct Lies {
  Lies() {
    const auto handle = [this](const net::Request& r, const net::ExchangePtr& e) {
      if (r.method == "DELETE" && hangs) return ++deletes, held.push_back(e);
      if (r.method == "DELETE") return ++deletes, e->send({200, "application/json", "{}", {}});
      e->start({200, "text/event-stream", "", {}});
      feed = e;
      say(0, "feed", R"({"feed_id":"feed-x"})");
    };
    server = net::HttpServer::make(loop, {}, handle, [](const Error&) { return net::Response{}; }).value();
    worker = *service::make_peer(fmt::format("http://127.0.0.1:{}", server->port()));
    for (int i = 0; i < 4; ++i) tickets.push_back(feeds.enter(worker));
    until([&] { return (tickets.emplace_back(feeds.enter(worker))).place != nullptr; });
  }
  ~Lies() {
    tickets.clear();
    hangs = false;
    for (const auto& e : held) e->send({200, "application/json", "{}", {}});
    gate.close({ErrorCode::kShuttingDown, "the test ends"});
    bool over = false;
    gate.when_empty([&] { over = true, loop.stop(); });
    if (!over) loop.run();
  }
  Lies(const Lies&) = delete;
  Lies& operator=(const Lies&) = delete;
  void say(std::uint64_t number, std::string_view type, const std::string& json) const {
    feed->write(fmt::format("id: {}/1\nevent: {}\ndata: {}\n\n", number, type, json));
  }
  void run_for(std::chrono::milliseconds time) {
    const auto timer = loop.after(time, [this] { loop.stop(); });
    loop.run();
  }
  void until(const std::function<bool()>& reached) {
    for (int i = 0; i < 500 && !reached(); ++i) run_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(reached());
  }
  static std::string started(std::uint64_t number) {
    return fmt::format(R"({{"type":"started","seq":1,"job_id":"job-{}"}})", number);
  }
  std::uint64_t number_of(const WorkerFeeds::Ticket& t) const {
    const std::string header = t.place->header();
    return std::stoull(header.substr(header.find('/') + 1));
  }
  net::EventLoop loop;
  service::Gate gate{loop};
  WorkerFeeds feeds{gate};
  service::Peer worker;
  net::ExchangePtr feed;
  std::vector<net::ExchangePtr> held;
  int deletes = 0;
  bool hangs = true;
  std::unique_ptr<net::HttpServer> server;
  std::vector<WorkerFeeds::Ticket> tickets;
};

TEST(Lies, jobs_that_nobody_asked_for_are_not_called_off) {
  Lies l;
  const auto last = l.number_of(l.tickets.back());
  for (std::uint64_t n = 0; n < 2000; ++n) l.say(last + n + 1, "started", Lies::started(n));
  l.run_for(std::chrono::milliseconds(300));
  EXPECT_EQ(l.deletes, 0);
  // One that was is, once.
  const auto given_up = l.feeds.enter(l.worker);
  ASSERT_TRUE(given_up.place);
  const auto number = l.number_of(given_up);
  const_cast<WorkerFeeds::Ticket&>(given_up).place = nullptr;
  for (int i = 0; i < 10; ++i) l.say(number, "started", Lies::started(number));
  l.until([&] { return l.deletes > 0; });
  l.run_for(std::chrono::milliseconds(50));
  EXPECT_EQ(l.deletes, 1);
}

TEST(Lies, a_worker_that_answers_no_call_off_loses_its_feed) {
  Lies l;
  for (int i = 0; i < 2 * kCallOffsMax; ++i) {
    const auto number = l.number_of(l.feeds.enter(l.worker));  // given up at once
    l.say(number, "started", Lies::started(number));
  }
  l.until([&] { return l.feeds.enter(l.worker).place == nullptr; });
  l.until([&] { return l.deletes >= 1; });
  l.run_for(std::chrono::milliseconds(200));
  EXPECT_LE(l.deletes, kCallOffsMax);
}

}  // namespace
}  // namespace llorch::queen
