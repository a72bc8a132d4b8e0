// Calls to a hive that answers, refuses, hangs, or is removed: over real sockets.
#include "queen/hive_calls.h"

#include <gtest/gtest.h>

#include "net/http_server.h"
#include "net/sse.h"

namespace llorch::queen {
namespace {

using service::FlowPtr;
using service::Procedure;
using Value = boost::json::value;

Procedure run_order(FlowPtr flow, HiveCalls& calls, std::string hive, std::shared_ptr<Relay> relay,
                    std::function<void(Result<Value>)> done) {
  const boost::json::object order{{"operation", "worker_process_list"}};
  done(co_await calls.run(flow, hive, order, relay, "c-1"));
}
Procedure ask_health(FlowPtr flow, HiveCalls& calls, std::string hive,
                     std::function<void(Result<service::JsonAnswer>)> done) {
  const service::Asked request("GET", "/health");
  done(co_await calls.ask(flow, hive, request));
}

/// A queen's side, and a hive whose job has the events that a test gives it.
struct CalledHives {
  CalledHives() {
    const auto handle = [this](const net::Request& r, const net::ExchangePtr& e) {
      seen += r.method + " " + r.target.path + "\n";
      if (hangs) return held.push_back(e);
      if (r.target.path == "/health") return e->send({200, "application/json", R"({"status":"ok"})", {}});
      if (r.method == "POST") return e->send({202, "application/json", made, {}});
      if (r.method == "DELETE") return deleted(), e->send({200, "application/json", "{}", {}});
      e->start({200, "text/event-stream", "", {}});
      e->write(events);
      if (stays_open) return held.push_back(e), streaming();
      e->finish();
    };
    server = net::HttpServer::make(loop, {}, handle, [](const Error&) { return net::Response{}; }).value();
    colony::HiveBeat b;
    b.hive_id = "a", b.url = fmt::format("http://127.0.0.1:{}", server->port()), b.version = "1";
    auto peer = service::make_peer(b.url);
    EXPECT_TRUE(hives.beat(std::move(b), *std::move(peer)));
  }
  /// Procedures under way end before the loop does.
  ~CalledHives() {
    gate.close({ErrorCode::kShuttingDown, "the test ends"});
    bool over = false;
    gate.when_empty([&] { over = true, loop.stop(); });
    if (!over) loop.run();
  }
  CalledHives(const CalledHives&) = delete;
  CalledHives& operator=(const CalledHives&) = delete;
  Result<Value> run(const std::string& hive = "a") {
    std::optional<Result<Value>> out;
    run_order(gate.flow(), calls, hive, relay, [&](Result<Value> v) { out = std::move(v), loop.stop(); });
    if (!out) loop.run();
    return *out;
  }
  net::EventLoop loop;
  service::Gate gate{loop};
  service::Signal changed;
  HiveTable hives{{std::chrono::seconds(90), 2, [] { return net::Clock::now(); }}};
  HiveCalls calls{gate, hives, changed};
  std::unique_ptr<net::HttpServer> server;
  std::vector<net::ExchangePtr> held;
  std::string seen, events, made = R"({"job_id":"j1","sse_url":"/v1/jobs/j1/stream"})";
  bool hangs = false, stays_open = false;
  std::function<void()> streaming = [] {}, deleted = [] {};
  std::shared_ptr<Relay> relay = std::make_shared<Relay>();
};

TEST(HiveCalls, an_operation_is_followed_to_its_result_and_what_it_tells_is_relayed) {
  CalledHives c;
  c.events = net::sse_frame(1, "narration", R"({"human":"looking"})") +
             net::sse_frame(2, "result", R"({"result":[1,2]})") + net::sse_frame(0, "", "[DONE]");
  std::string told;
  *c.relay = [&](std::string_view type, const boost::json::object& data) {
    told += std::string(type) + boost::json::serialize(data);
  };
  const auto result = c.run();
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(boost::json::serialize(*result), "[1,2]");
  EXPECT_EQ(told, R"(narration{"human":"looking"})");
  EXPECT_EQ(c.seen, "POST /v1/jobs\nGET /v1/jobs/j1/stream\n");
}

TEST(HiveCalls, what_fails_there_fails_here_with_its_code) {
  CalledHives c;
  c.events = net::sse_frame(1, "error", R"({"code":"INSUFFICIENT_MEMORY","message":"3 MB are free"})") +
             net::sse_frame(0, "", "[DONE]");
  const auto refused = c.run();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInsufficientMemory);
  EXPECT_EQ(refused.error().message, "3 MB are free");
  c.events = net::sse_frame(1, "narration", "{}");
  EXPECT_EQ(c.run().error().code, ErrorCode::kIo) << "a stream without its end is no result";
  c.made = R"({"job_id":"j1"})";
  EXPECT_EQ(c.run().error().code, ErrorCode::kInternal);
  EXPECT_EQ(c.run("b").error().code, ErrorCode::kHiveNotFound);
}

TEST(HiveCalls, a_caller_who_leaves_has_the_job_called_off) {
  CalledHives c;
  c.stays_open = true;
  const FlowPtr flow = c.gate.flow();
  std::optional<Result<Value>> out;
  c.streaming = [&] { c.loop.post([&] { flow->cancel({ErrorCode::kCancelled, "left"}); }); };
  c.deleted = [&] { c.loop.post([&] { c.loop.stop(); }); };
  run_order(flow, c.calls, "a", c.relay, [&](Result<Value> v) { out = std::move(v); });
  c.loop.run();
  ASSERT_TRUE(out && !*out);
  EXPECT_EQ(out->error().code, ErrorCode::kCancelled);
  EXPECT_NE(c.seen.find("DELETE /v1/jobs/j1\n"), std::string::npos) << c.seen;
}

TEST(HiveCalls, calls_to_a_hive_that_is_trusted_no_longer_end_and_it_hears_no_more) {
  CalledHives c;
  c.stays_open = true;
  c.streaming = [&] { c.loop.post([&] { c.calls.open().end("a", {ErrorCode::kWorkerUnhealthy, "revoked"}); }); };
  const auto cut = c.run();
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().message, "revoked");
  const std::string seen = c.seen;
  EXPECT_EQ(c.run().error().code, ErrorCode::kWorkerUnhealthy);
  const auto timer = c.loop.after(std::chrono::milliseconds(50), [&] { c.loop.stop(); });
  c.loop.run();
  EXPECT_EQ(c.seen, seen) << "not even that its job is called off";
  c.calls.open().admit("a");
  c.stays_open = false, c.events = net::sse_frame(1, "result", R"({"result":1})") + net::sse_frame(0, "", "[DONE]");
  EXPECT_TRUE(c.run());
}

TEST(HiveCalls, a_hive_that_hangs_is_marked_and_the_call_ends) {
  CalledHives c;
  c.hangs = true;
  std::optional<Result<service::JsonAnswer>> out;
  ask_health(c.gate.flow(), c.calls, "a", [&](Result<service::JsonAnswer> a) { out = std::move(a), c.loop.stop(); });
  c.loop.run();
  ASSERT_FALSE(*out);
  EXPECT_EQ(out->error().code, ErrorCode::kOperationTimeout);
  EXPECT_TRUE(c.hives.find("a")->silent);
  EXPECT_TRUE(c.hives.responsive().empty());
}

}  // namespace
}  // namespace llorch::queen
