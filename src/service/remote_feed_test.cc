// What a feed keeps of a daemon that says much before anybody listens.
#include "service/remote_feed.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "net/http_server.h"

namespace llorch::service {
namespace {

constexpr std::size_t kOfOneBytes = 512u << 10, kOfAllBytes = 8u << 20;  // see remote_feed.cc

struct Daemon {
  Daemon() {
    const auto handle = [this](const net::Request&, const net::ExchangePtr& e) {
      e->start({200, "text/event-stream", "", {}});
      e->write("event: feed\ndata: {\"feed_id\":\"feed-x\"}\n\n");
      stream = e;
    };
    server = net::HttpServer::make(loop, {}, handle, [](const Error&) { return net::Response{}; }).value();
    feed->open(*make_peer(fmt::format("http://127.0.0.1:{}", server->port())), {});
    until([&] { return feed->ready(); });
  }
  void until(const std::function<bool()>& reached) {
    for (int i = 0; i < 1000 && !reached(); ++i) {
      const auto timer = loop.after(std::chrono::milliseconds(5), [this] { loop.stop(); });
      loop.run();
    }
    EXPECT_TRUE(reached());
  }
  /// `events` of 100,000 bytes for each place from the first on.
  void say(int places, int events) {
    const std::string pad(100'000, 'x');
    for (int e = 0; e < events; ++e)
      for (int p = 1; p <= places; ++p)
        stream->write(fmt::format("id: {}/{}\nevent: token\ndata: {{\"t\":\"{}\"}}\n\n", p, e + 1, pad));
    stream->write(fmt::format("id: {}/1\nevent: done\ndata: {{}}\n\n", places + 1));  // all before has been read
  }
  struct Heard {
    std::size_t bytes = 0;
    std::optional<Status> end;
    std::shared_ptr<void> listening;
  };
  static std::shared_ptr<Heard> listen(const RemoteFeed::PlacePtr& place) {
    const auto h = std::make_shared<Heard>();
    h->listening =
        place->listen([h = h.get()](const std::string&, const std::string& json) { h->bytes += json.size(); },
                      [h = h.get()](Status s) { h->end = std::move(s); });
    return h;
  }
  void until_all_is_read(int places) {
    const auto last = listen(all[static_cast<std::size_t>(places)]);
    until([&] { return last->end.has_value(); });
  }
  net::EventLoop loop;
  net::ExchangePtr stream;
  std::shared_ptr<RemoteFeed> feed = std::make_shared<RemoteFeed>(loop);
  std::unique_ptr<net::HttpServer> server;
  std::vector<RemoteFeed::PlacePtr> all;
};

TEST(RemoteFeed, what_comes_before_anybody_listens_is_kept_up_to_a_bound) {
  Daemon d;
  for (int i = 0; i < 3; ++i) d.all.push_back(d.feed->reserve());
  d.say(2, 4);
  d.until_all_is_read(2);
  const auto first = Daemon::listen(d.all[0]);
  EXPECT_GT(first->bytes, 400'000U) << "an honest one loses nothing";
  EXPECT_FALSE(first->end);
}

TEST(RemoteFeed, one_job_that_says_too_much_ends_with_an_error) {
  Daemon d;
  for (int i = 0; i < 2; ++i) d.all.push_back(d.feed->reserve());
  d.say(1, 20);
  d.until_all_is_read(1);
  const auto heard = Daemon::listen(d.all[0]);
  ASSERT_TRUE(heard->end);
  EXPECT_FALSE(*heard->end);
  EXPECT_LE(heard->bytes, kOfOneBytes);
}

TEST(RemoteFeed, all_jobs_of_a_feed_have_one_bound) {
  Daemon d;
  constexpr int kPlaces = 40;
  for (int i = 0; i <= kPlaces; ++i) d.all.push_back(d.feed->reserve());
  d.say(kPlaces, 4);  // 16 MB
  d.until_all_is_read(kPlaces);
  std::size_t bytes = 0, failed = 0;
  for (int i = 0; i < kPlaces; ++i) {
    const auto heard = Daemon::listen(d.all[static_cast<std::size_t>(i)]);
    bytes += heard->bytes, failed += heard->end.has_value();
  }
  EXPECT_LE(bytes, kOfAllBytes);
  EXPECT_GT(failed, 0U);
  // What was given back is there for others.
  d.all.clear();
  d.all.push_back(d.feed->reserve());
  d.stream->write(fmt::format("id: {}/1\nevent: token\ndata: {}\n\n", kPlaces + 2, std::string(400'000, 'x')));
  d.stream->write(fmt::format("id: {}/2\nevent: done\ndata: {{}}\n\n", kPlaces + 2));
  const auto timer = d.loop.after(std::chrono::milliseconds(200), [&] { d.loop.stop(); });
  d.loop.run();
  const auto heard = Daemon::listen(d.all[0]);
  EXPECT_EQ(heard->bytes, 400'000U);
  EXPECT_TRUE(heard->end && *heard->end);
}

}  // namespace
}  // namespace llorch::service
