// Where requests are placed in a table of real entries: hives answer over real sockets, their workers are entries
// alone.
#include "queen/placer.h"

#include <gtest/gtest.h>

#include <csignal>

#include "net/http_server.h"
#include "net/sse.h"

namespace llorch::queen {
namespace {

using service::FlowPtr;
using service::Procedure;

constexpr auto kModel = "builtin:m";

colony::WorkerFacts worker(const std::string& id) {
  colony::WorkerFacts w;
  w.worker_id = id, w.model_ref = kModel, w.device = "cpu", w.kind = "cpu", w.state = "ready", w.port = 9;
  return w;
}

/// A hive that has room and the model. It starts a worker as soon as the test lets it.
struct Hive {
  Hive(net::EventLoop& loop, std::string name) : id(std::move(name)) {
    const auto handle = [this](const net::Request& r, const net::ExchangePtr& e) {
      if (r.target.path == "/health" || r.target.path == "/v1/memory-check")
        return e->send({200, "application/json", R"({"status":"ok"})", {}});
      if (r.method == "POST") {
        ++spawns;
        return e->send({202, "application/json", R"({"job_id":"j1","sse_url":"/v1/jobs/j1/stream"})", {}});
      }
      if (r.method == "DELETE") return ++called_off, e->send({200, "application/json", "{}", {}});
      e->start({200, "text/event-stream", "", {}});
      starting = e;
      if (on_spawn) on_spawn();
    };
    server = net::HttpServer::make(loop, {}, handle, [](const Error&) { return net::Response{}; }).value();
  }
  /// The worker is there, and says so.
  void started() const {
    starting->write(net::sse_frame(1, "result", fmt::format(R"({{"result":{{"worker_id":"{}1"}}}})", id)) +
                    net::sse_frame(0, "", "[DONE]"));
    starting->finish();
  }
  std::string id;
  std::unique_ptr<net::HttpServer> server;
  net::ExchangePtr starting;
  std::function<void()> on_spawn;
  int spawns = 0, called_off = 0;
};

struct PlacedColony {
  explicit PlacedColony(int seats) : hives{{std::chrono::seconds(90), seats, [] { return net::Clock::now(); }}} {}
  ~PlacedColony() {
    gate.close({ErrorCode::kShuttingDown, "the test ends"});
    bool over = false;
    gate.when_empty([&] { over = true, loop.stop(); });
    if (!over) loop.run();
  }
  PlacedColony(const PlacedColony&) = delete;
  PlacedColony& operator=(const PlacedColony&) = delete;

  void beat(const std::string& id, std::vector<colony::WorkerFacts> workers, std::int64_t free_mb = 1000) {
    auto& server = servers[id];
    if (!server) server = std::make_unique<Hive>(loop, id);
    colony::HiveBeat b;
    b.hive_id = id, b.url = fmt::format("http://127.0.0.1:{}", server->server->port()), b.version = "1";
    for (auto& w : workers) w.uri = b.url;
    b.workers = std::move(workers);
    auto peer = service::make_peer(b.url);
    HiveEntry& h = *hives.beat(std::move(b), *std::move(peer))->hive;
    h.known = true;
    h.capabilities.devices = {{.id = "cpu", .type = "cpu", .memory_free = free_mb << 20}};
    h.capabilities.models = {{.ref = kModel, .status = "Available"}};
    h.capabilities.workers = {{.kind = "cpu"}};
    hives.update(h);
    changed.notify();
  }

  struct Request {
    FlowPtr flow;
    std::optional<Result<Placed>> placed;
    std::string told;
    [[nodiscard]] std::string hive() const { return placed && *placed ? (*placed)->hive_id : "none"; }
    void finish() { placed->value().seat.reset(); }
  };
  using RequestPtr = std::shared_ptr<Request>;
  static Procedure place(FlowPtr flow, Placer& placer, PlacementPtr p, RequestPtr r) {
    auto placing = placer.place(flow, p);
    r->placed.emplace(co_await placing);
  }
  RequestPtr request(bool batch = false, Requirements wanted = {kModel, "", "", ""}) {
    const auto r = std::make_shared<Request>();
    const auto p = std::make_shared<Placement>();
    p->wanted = std::move(wanted), p->batch = batch;
    p->ref = *colony::parse_model_ref(kModel), p->access = colony::ModelAccess::all();
    p->report = [weak = std::weak_ptr(r)](std::string_view action, const std::string& human) {
      if (const auto alive = weak.lock()) alive->told += std::string(action) + ": " + human + "\n";
    };
    r->flow = gate.flow();
    place(r->flow, placer, p, r);
    return r;
  }
  static Procedure start(FlowPtr flow, LocalHive& hive, bool& started) {
    started = (co_await hive.start(flow)).has_value();
  }
  void start_local() {
    bool started = false;
    start(gate.flow(), local, started);
    run_until([&] { return started; });
  }
  void run_until(const std::function<bool()>& reached) {
    for (int i = 0; i < 500 && !reached(); ++i) run_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(reached());
  }
  /// So long nothing happens that would have to come at once.
  void run_for(std::chrono::milliseconds time) {
    const auto timer = loop.after(time, [this] { loop.stop(); });
    loop.run();
  }

  net::EventLoop loop;
  service::Gate gate{loop};
  service::Signal changed;
  HiveTable hives;
  HiveCalls calls{gate, hives, changed};
  LocalHive local{loop,
                  "local",
                  {[] {
                     service::ProcessOptions o;
                     o.arguments = {"/bin/sleep", "1000"};
                     return o;
                   },
                   [](int) {}}};
  Metrics metrics;
  bool own_wanted = false;
  Placer placer{{calls, local, metrics, [] { return std::vector<std::string>(); }, [this] { return own_wanted; },
                 [](const std::string&) {}, [](const std::string& hive) { return "the hive " + hive + " is offline"; }},
                {}};
  std::map<std::string, std::unique_ptr<Hive>> servers;
};

TEST(Placer, a_request_outlives_the_hive_of_this_machine) {
  PlacedColony c(1);
  c.start_local();
  c.beat("local", {});
  c.servers.clear();  // it has died, and its end is not known yet: connections are refused
  const auto r = c.request();
  c.run_until([&] { return r->told.contains("hive_unknown"); });
  EXPECT_FALSE(r->placed) << r->placed->error().message;
  c.hives.erase("local");  // now it is
  c.beat("local", {worker("w")});
  c.run_until([&] { return r->placed.has_value(); });
  EXPECT_EQ(r->hive(), "local");
  c.local.signal(SIGKILL);
}

TEST(Placer, a_hive_elsewhere_that_cannot_be_reached_is_told_at_once) {
  PlacedColony c(1);
  c.beat("a", {});
  c.servers.clear();
  const auto r = c.request();
  c.run_until([&] { return r->placed.has_value(); });
  ASSERT_FALSE(*r->placed);
  EXPECT_EQ(r->placed->error().code, ErrorCode::kNoWorkersAvailable);
}

TEST(Placer, requests_that_come_together_take_a_seat_each) {
  PlacedColony c(1);
  for (const char* id : {"a", "b", "c"}) c.beat(id, {worker("w")});
  const std::vector<PlacedColony::RequestPtr> three{c.request(), c.request(), c.request()};
  c.run_until([&] { return std::ranges::all_of(three, [](const auto& r) { return r->placed.has_value(); }); });
  EXPECT_EQ(three[0]->hive() + three[1]->hive() + three[2]->hive(), "abc") << "equal ones in the order of names";
  for (const char* id : {"a", "b", "c"}) EXPECT_EQ(c.hives.inflight_of(id), 1);
  const auto fourth = c.request();
  c.run_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(fourth->placed);
  EXPECT_NE(fourth->told.find("busy"), std::string::npos) << fourth->told;
  three[1]->finish();
  c.run_until([&] { return fourth->placed.has_value(); });
  EXPECT_EQ(fourth->hive(), "b") << "where a seat became free";
}

TEST(Placer, the_worker_with_the_fewest_requests_and_only_where_it_was_wanted) {
  PlacedColony c(2);
  for (const char* id : {"a", "b"}) c.beat(id, {worker("w")});
  const auto there = c.request(false, {kModel, "b", "", ""});
  c.run_until([&] { return there->placed.has_value(); });
  EXPECT_EQ(there->hive(), "b");
  std::string taken;
  std::vector<PlacedColony::RequestPtr> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(c.request());
    c.run_until([&] { return all.back()->placed.has_value(); });
    taken += all.back()->hive();
  }
  EXPECT_EQ(taken, "aab");
  EXPECT_EQ(all[0]->placed->value().model, kModel);
  EXPECT_EQ(all[0]->placed->value().worker_id, "w");
}

TEST(Placer, interactive_before_batch_and_who_leaves_holds_nothing) {
  PlacedColony c(1);
  c.beat("a", {worker("w")});
  const auto first = c.request();
  c.run_until([&] { return first->placed.has_value(); });
  const auto batch = c.request(true), gone = c.request(), next = c.request();
  c.run_for(std::chrono::milliseconds(20));
  EXPECT_EQ(c.placer.line().count(), 3);
  gone->flow->cancel({ErrorCode::kCancelled, "left"});
  first->finish();
  c.run_until([&] { return next->placed.has_value(); });
  EXPECT_FALSE(batch->placed);
  EXPECT_EQ(gone->placed->error().code, ErrorCode::kCancelled);
  next->finish();
  c.run_until([&] { return batch->placed.has_value(); });
  EXPECT_EQ(c.placer.line().count(), 0);
  batch->finish();
  EXPECT_EQ(c.hives.inflight_of("a"), 0);
}

TEST(Placer, a_worker_is_made_once_for_all_who_wait_and_on_the_strongest_hive) {
  PlacedColony c(2);
  c.beat("a", {}, 1000), c.beat("b", {}, 2000);
  const auto first = c.request(), second = c.request();
  c.run_until([&] { return c.servers["b"]->starting != nullptr; });
  c.run_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(first->placed || second->placed);
  c.servers["b"]->started();
  c.beat("b", {worker("b1")}, 2000);
  c.run_until([&] { return first->placed && second->placed; });
  EXPECT_EQ(first->hive() + second->hive(), "bb");
  EXPECT_EQ(c.servers["b"]->spawns, 1);
  EXPECT_EQ(c.servers["a"]->spawns, 0);
}

TEST(Placer, where_every_seat_is_taken_another_hive_makes_a_worker) {
  PlacedColony c(1);
  c.beat("a", {worker("a1")}), c.beat("b", {});
  const auto first = c.request(), second = c.request();
  c.run_until([&] { return c.servers["b"]->starting != nullptr; });
  EXPECT_EQ(first->hive(), "a");
  c.servers["b"]->started();
  c.beat("b", {worker("b1")});
  c.run_until([&] { return second->placed.has_value(); });
  EXPECT_EQ(second->hive(), "b");
}

TEST(Placer, a_seat_that_becomes_free_is_taken_while_a_worker_is_being_made) {
  PlacedColony c(1);
  c.beat("a", {worker("a1")}), c.beat("b", {});
  const auto first = c.request(), second = c.request(), third = c.request();
  c.run_until([&] { return c.servers["b"]->starting != nullptr; });
  first->finish();
  c.run_until([&] { return second->placed.has_value(); });
  EXPECT_EQ(second->hive(), "a") << "loading a large model takes minutes";
  const std::string told = second->told;
  c.run_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(third->placed);
  c.servers["b"]->started();
  c.beat("b", {worker("b1")});
  c.run_until([&] { return third->placed.has_value(); });
  EXPECT_EQ(third->hive(), "b");
  EXPECT_EQ(c.servers["b"]->spawns, 1);
  EXPECT_EQ(second->told, told) << "it has its place, and is told no more of others";
}

TEST(Placer, who_leaves_calls_off_the_worker_that_is_being_made) {
  PlacedColony c(1);
  c.beat("a", {});
  const auto only = c.request();
  c.run_until([&] { return c.servers["a"]->starting != nullptr; });
  only->flow->cancel({ErrorCode::kCancelled, "left"});
  c.run_until([&] { return c.servers["a"]->called_off == 1; });
  EXPECT_EQ(only->placed->error().code, ErrorCode::kCancelled);
  EXPECT_EQ(c.placer.line().count(), 0);
  EXPECT_TRUE(c.hives.view_all()[0].known);
  const auto next = c.request();
  c.run_until([&] { return c.servers["a"]->spawns == 2; });
}

/// With a hive of another machine that has no device for anything.
struct PlacedColonyWithIdleOwnHive : PlacedColony {
  PlacedColonyWithIdleOwnHive() : PlacedColony(1) {
    own_wanted = true;
    beat("a", {});
    HiveEntry& h = *hives.find("a");
    h.capabilities.devices.clear();
    hives.update(h);
  }
  /// This machine's hive comes, and makes a worker for a request.
  void answer_of_own_hive() {
    run_until([this] { return local.running(); });
    beat("local", {});
    run_until([this] { return servers["local"]->starting != nullptr; });
    servers["local"]->started();
    beat("local", {worker("local1")});
  }
};

TEST(Placer, this_machine_s_hive_is_started_where_nothing_else_suits) {
  PlacedColonyWithIdleOwnHive c;
  const auto r = c.request();
  c.answer_of_own_hive();
  c.run_until([&] { return r->placed.has_value(); });
  EXPECT_EQ(r->hive(), "local") << r->told;
  EXPECT_NE(r->told.find("beside the others"), std::string::npos) << r->told;
}

TEST(Placer, this_machine_s_hive_is_started_where_it_is_named) {
  PlacedColonyWithIdleOwnHive c;
  c.beat("a", {worker("a1")});
  const auto elsewhere = c.request();
  c.run_until([&] { return elsewhere->placed.has_value(); });
  EXPECT_EQ(elsewhere->hive(), "a") << "who can be served is served there";
  EXPECT_FALSE(c.local.running());
  const auto here = c.request(false, {kModel, "local", "", ""});
  c.answer_of_own_hive();
  c.run_until([&] { return here->placed.has_value(); });
  EXPECT_EQ(here->hive(), "local") << here->told;
}

TEST(Placer, where_this_machine_s_hive_may_not_run_the_refusal_is_told) {
  PlacedColonyWithIdleOwnHive c;
  c.own_wanted = false;
  const auto r = c.request();
  c.run_until([&] { return r->placed.has_value(); });
  EXPECT_EQ(r->placed->error().code, ErrorCode::kNoWorkersAvailable);
  EXPECT_FALSE(c.local.running());
}

TEST(Placer, a_hive_that_is_named_and_offline_is_not_waited_for) {
  PlacedColonyWithIdleOwnHive c;
  const auto r = c.request(false, {kModel, "attic", "", ""});
  c.run_until([&] { return r->placed.has_value(); });
  ASSERT_FALSE(*r->placed);
  EXPECT_EQ(r->placed->error().message, "the hive attic is offline");
  EXPECT_FALSE(c.local.running()) << "another one would not help";
}

TEST(Placer, nothing_suits) {
  PlacedColony c(1);
  c.beat("a", {});
  const auto nowhere = c.request(false, {kModel, "", "nobody", ""});
  c.run_until([&] { return nowhere->placed.has_value(); });
  ASSERT_FALSE(*nowhere->placed);
  EXPECT_EQ(nowhere->placed->error().code, ErrorCode::kNoWorkersAvailable);
  EXPECT_EQ(c.placer.line().count(), 0);
}

}  // namespace
}  // namespace llorch::queen
