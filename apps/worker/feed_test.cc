// Many jobs on one stream: what a feed brings is what each job's own stream would, and its leaving is theirs.
#include <gtest/gtest.h>

#include "format/json.h"
#include "service/remote_feed.h"
#include "worker/test_served.h"

namespace llorch::worker {
namespace {

using service::FlowPtr;
using service::Procedure;
using service::RemoteFeed;

/// What one job has said, and how it ended.
struct Heard {
  std::string job_id, url, said;
  bool fed = false;
  RemoteFeed::PlacePtr place;
  std::optional<Status> end;
};
using HeardPtr = std::shared_ptr<Heard>;

/// A daemon that asks a worker, over real sockets.
struct Caller {
  explicit Caller(int port) : peer(*service::make_peer(fmt::format("http://127.0.0.1:{}", port))) {}
  ~Caller() {
    gate.close({ErrorCode::kShuttingDown, "the test ends"});
    bool over = false;
    gate.when_empty([&] { over = true, loop.stop(); });
    if (!over) loop.run();
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  void until(const std::function<bool()>& reached) {
    for (int i = 0; i < 2000 && !reached(); ++i) {
      const auto timer = loop.after(std::chrono::milliseconds(10), [this] { loop.stop(); });
      loop.run();
    }
    EXPECT_TRUE(reached());
  }
  std::shared_ptr<RemoteFeed> open() {
    auto feed = std::make_shared<RemoteFeed>(loop);
    feed->open(peer, {[this] { ++ended; }, [this](const std::string& id) { orphans += id + ";"; }});
    until([&] { return feed->ready() || ended > 0; });
    return feed;
  }
  static Procedure create(FlowPtr flow, Caller& c, HeardPtr h, std::string header, std::string body) {
    service::Asked asked("POST", "/v1/inference", std::move(body));
    if (!header.empty()) asked.headers.add(service::kFeedHeader, header);
    const auto made = co_await service::ask(flow, c.peer, asked);
    if (!made || made->status != 202) co_return void(h->end = fail(ErrorCode::kInternal, "no job"));
    const auto& o = made->body.get_object();
    h->fed = o.contains("fed"), h->url = *json::find_text(o, "sse_url"), h->job_id = *json::find_text(o, "job_id");
  }
  static Procedure follow(FlowPtr flow, Caller& c, HeardPtr h) {
    service::OnEvent on_event = [h](std::string_view type, const boost::json::object& data) {
      h->said += fmt::format("{} {};", type, json::find_text(data, "t").value_or(""));
    };
    const service::OnLine none;
    auto step = h->fed ? service::follow(flow, h->place, on_event, none)
                       : service::follow(flow, c.peer, h->url, on_event, none);
    const auto end = co_await step;
    h->end = end ? Status() : Status(std::unexpected(end.error()));
  }
  HeardPtr make(const std::string& header, int seed, int tokens = 20) {
    const auto h = std::make_shared<Heard>();
    create(
        gate.flow(), *this, h, header,
        fmt::format(R"({{"prompt":"x","max_tokens":{},"ignore_eos":true,"temperature":1,"seed":{}}})", tokens, seed));
    until([&] { return !h->url.empty() || h->end; });
    return h;
  }
  HeardPtr make(RemoteFeed& feed, int seed, int tokens = 20) {
    const auto place = feed.reserve();
    const auto h = make(place->header(), seed, tokens);
    h->place = place;
    return h;
  }
  void listen(const HeardPtr& h) { follow(gate.flow(), *this, h); }
  static Procedure look(FlowPtr flow, Caller& c, std::string id, std::string* state) {
    const service::Asked asked("GET", "/v1/inference/" + id);
    const auto answer = co_await service::ask(flow, c.peer, asked);
    if (answer && answer->body.is_object())
      *state = json::find_text(answer->body.get_object(), "status").value_or("unknown");
  }
  std::string state_of(const std::string& id) {
    std::string state;
    look(gate.flow(), *this, id, &state);
    until([&] { return !state.empty(); });
    return state;
  }

  net::EventLoop loop;
  service::Gate gate{loop};
  service::Peer peer;
  int ended = 0;
  std::string orphans;
};

TEST(Feed, brings_what_each_job_would_say_on_a_stream_of_its_own) {
  Served served(test_options());
  served.wait_ready();
  Caller c(served.port());
  const auto feed = c.open();
  std::vector<HeardPtr> fed, own;
  for (int seed = 1; seed <= 12; ++seed) fed.push_back(c.make(*feed, seed));
  for (const auto& h : fed) {
    EXPECT_TRUE(h->fed);
    c.listen(h);  // much has come before anybody listens
  }
  for (int seed = 1; seed <= 12; ++seed) own.push_back(c.make("", seed)), c.listen(own.back());
  c.until([&] { return std::ranges::all_of(fed, [](const auto& h) { return h->end.has_value(); }); });
  c.until([&] { return std::ranges::all_of(own, [](const auto& h) { return h->end.has_value(); }); });
  for (std::size_t i = 0; i < fed.size(); ++i) {
    ASSERT_TRUE(*fed[i]->end) << fed[i]->end->error().message;
    EXPECT_EQ(fed[i]->said, own[i]->said);
    EXPECT_TRUE(fed[i]->said.contains("started ;")) << fed[i]->said;
    EXPECT_TRUE(fed[i]->said.ends_with("end ;")) << fed[i]->said;
  }
  EXPECT_NE(fed[0]->said, fed[1]->said);
  EXPECT_EQ(feed->places(), 12U);
  fed.clear();
  EXPECT_EQ(feed->places(), 0U);
}

TEST(Feed, a_header_that_names_no_feed_of_the_caller_leaves_the_job_its_own_stream) {
  Served served(test_options());
  served.wait_ready();
  Caller c(served.port());
  const auto feed = c.open();
  const auto first = feed->reserve();
  const auto taken = c.make(first->header(), 1, 200);
  EXPECT_TRUE(taken->fed);
  const std::string id = first->header().substr(0, first->header().find('/'));
  for (const std::string& header :
       {first->header(), std::string("feed-x/1"), id, id + "/", id + "/-1", id + "/1x", id + "/99999999999"}) {
    const auto h = c.make(header, 1);
    EXPECT_FALSE(h->fed) << header;
    c.listen(h);
    c.until([&] { return h->end.has_value(); });
    EXPECT_TRUE(*h->end) << header;
  }
}

TEST(Feed, a_job_whose_maker_has_left_is_told_by_its_id) {
  Served served(test_options());
  served.wait_ready();
  Caller c(served.port());
  const auto feed = c.open();
  auto place = feed->reserve();
  const std::string header = place->header();
  place = nullptr;  // before the job is made: what it says finds nobody
  const auto late = c.make(header, 1, 200);
  c.until([&] { return c.orphans == late->job_id + ";"; });
  c.orphans.clear();
  // One that was over so soon needs no calling off; one may be told after the next was made.
  std::string made;
  for (int i = 0; i < 10 && c.orphans.empty(); ++i) {
    const auto early = c.make(*feed, 2, 240);
    made += early->job_id + ";";
    early->place = nullptr;  // before anybody listens
    (void)c.state_of(early->job_id);
  }
  c.until([&] { return !c.orphans.empty(); });
  const auto heard = c.make(*feed, 3, 4);
  c.listen(heard);
  c.until([&] { return heard->end.has_value(); });
  heard->place = nullptr;
  for (std::size_t at = 0, end; (end = c.orphans.find(';', at)) != std::string::npos; at = end + 1)
    EXPECT_TRUE(made.contains(c.orphans.substr(at, end - at))) << c.orphans << " of " << made;
}

TEST(Feed, one_key_opens_four_at_a_time) {
  Served served(test_options());
  served.wait_ready();
  Caller c(served.port());
  std::vector<std::shared_ptr<RemoteFeed>> open;
  for (int i = 0; i < 4; ++i) open.push_back(c.open());
  EXPECT_EQ(c.ended, 0);
  EXPECT_FALSE(c.open()->ready());
  EXPECT_EQ(c.ended, 1);
  open.pop_back();
  c.until([&] {  // when the worker has seen that one leave
    c.ended = 0;
    return c.open()->ready();
  });
}

TEST(Feed, its_leaving_cancels_what_it_carried) {
  Served served(test_options());
  served.wait_ready();
  Caller c(served.port());
  auto feed = c.open();
  const auto a = c.make(*feed, 1, 240), b = c.make(*feed, 2, 240);
  a->place = b->place = nullptr;
  feed.reset();
  for (const auto& h : {a, b}) {
    std::string state;
    c.until([&] { return (state = c.state_of(h->job_id)) != "running" && state != "queued"; });
    EXPECT_EQ(state, "cancelled");
  }
}

TEST(Feed, a_worker_that_drains_waits_for_no_feed) {
  ServeOptions o = test_options();
  o.shutdown_timeout_ms = 600'000;
  Served served(o);
  served.wait_ready();
  Caller c(served.port());
  const auto idle = c.open(), busy = c.open();
  const auto h = c.make(*busy, 1, 100);
  c.listen(h);
  served.shutdown();
  c.until([&] { return c.ended == 2; });
  c.until([&] { return h->end.has_value(); });
  EXPECT_TRUE(*h->end) << "what runs is carried to its end";
  EXPECT_TRUE(h->said.ends_with("end ;")) << h->said;
  EXPECT_EQ(served.wait_end(), 0);
}

TEST(Feed, who_follows_is_told_when_the_worker_ends) {
  auto served = std::make_unique<Served>(test_options());
  served->wait_ready();
  Caller c(served->port());
  const auto feed = c.open();
  const auto h = c.make(*feed, 1, 240);
  c.listen(h);
  served.reset();  // its loop stops, its sockets close
  c.until([&] { return h->end.has_value(); });
  EXPECT_EQ(c.ended, 1);
  EXPECT_FALSE(feed->ready());
}

}  // namespace
}  // namespace llorch::worker
