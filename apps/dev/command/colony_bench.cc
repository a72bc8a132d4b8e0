// colony-bench: what a large colony costs its queen. Simulated hives with their workers beat once a second; then
// requests come, and the queen decides among all of them. Prints ratios to what is allowed.
#include <cstdlib>
#include <deque>
#include <filesystem>

#include "bench_tools.h"
#include "command_line.h"
#include "net/http_server.h"

namespace llorch::dev {
namespace {

using std::chrono::milliseconds;

constexpr int kModels = 500;
constexpr double kCoreAllowed = 0.20, kDecisionAllowedUs = 200;

struct ColonyBenchFlags {
  int hives = 1000, workers = 10, seconds = 10, requests = 500, port = 18591;
};

std::string model_of(int number) { return fmt::format("hf:org/some-model-{}@main:Q4_K_M", number % kModels); }

class Bench {
 public:
  explicit Bench(ColonyBenchFlags f) : f_(f) {}

  Result<int> run() {
    net::ServerOptions o;
    o.connections_max = o.connections_per_peer_max = 20'000;
    LLORCH_TRY(server_, net::HttpServer::make(
                            loop_, o, [](const net::Request& r, const net::ExchangePtr& e) { answer(r, e); },
                            [](const Error&) {
                              return net::Response{400, "application/json", "{}", {}};
                            }));
    for (int i = 0; i < f_.hives; ++i) beats_.push_back(beat_of(i));
    std::filesystem::remove_all(kBenchFolder);
    LLORCH_TRY(const auto queen, start_queen(loop_, f_.port));
    base_ = fmt::format("http://127.0.0.1:{}", f_.port);
    LLORCH_OK(until(
        loop_, [&] { return tell(loop_, heartbeat(base_, beats_[0])); }, 10));
    due_ = net::Clock::now();
    tick();
    run_for(loop_, std::chrono::seconds(3));  // all of them have been asked what they have
    const std::int64_t before = heard_;
    const double cpu = cpu_seconds(queen->pid());
    const auto start = net::Clock::now();
    run_for(loop_, std::chrono::seconds(f_.seconds));
    const double seconds = std::chrono::duration<double>(net::Clock::now() - start).count();
    const double share = (cpu_seconds(queen->pid()) - cpu) / seconds;
    const double beats = static_cast<double>(heard_ - before) / seconds;
    for (int i = 0; i < f_.requests; ++i) {
      ask(i);
      if (i % 5 == 0) run_for(loop_, milliseconds(20));
    }
    LLORCH_OK(until(
        loop_, [&] { return answered_ >= f_.requests; }, 60));
    run_for(loop_, milliseconds(500));
    LLORCH_TRY(const double decision_us, decision());
    if (failed_ > 0) return fail(ErrorCode::kInternal, "{} heartbeats were not answered with 200", failed_);
    std::printf("%d hives with %d workers each: %.0f heartbeats/s heard\n", f_.hives, f_.workers, beats);
    std::printf("queen's CPU: %.1f %% of one core, %.0f us a heartbeat (%.2f of the %.0f %% allowed)\n", share * 100,
                share / beats * 1e6, share / kCoreAllowed, kCoreAllowed * 100);
    std::printf("a decision among them: %.0f us on average over %d (%.2f of the %.0f us allowed)\n", decision_us,
                f_.requests, decision_us / kDecisionAllowedUs, kDecisionAllowedUs);
    return 0;
  }

 private:
  [[nodiscard]] std::string beat_of(int hive) const {
    std::string workers;
    for (int w = 0; w < f_.workers; ++w)
      workers += fmt::format(
          R"({}{{"worker_id":"worker-cpu-{}","uri":"http://127.0.0.1:{}/h{}","model_ref":"{}","device":"cpu","kind":"cpu","state":"ready","pid":{},"port":{}}})",
          w ? "," : "", 8601 + w, server_->port(), hive, model_of(hive * f_.workers + w), 1000 + w, server_->port());
    return fmt::format(
        R"({{"hive_id":"hive-{0}","url":"http://127.0.0.1:{1}/h{0}","version":"0","revision":"1","node":{{"ram_total_mb":64000,"ram_used_mb":{2}}},"workers":[{3}]}})",
        hive, server_->port(), 1000 + hive, workers);
  }
  static void answer(const net::Request& r, const net::ExchangePtr& e) {
    if (r.target.path.ends_with("/v1/capabilities"))
      return e->send(
          {200,
           "application/json",
           R"({"devices":[{"id":"cpu","name":"mock","device_type":"cpu","memory_total_bytes":64000000000,"memory_free_bytes":32000000000}],"models":[],"workers_available":[{"id":"cpu","kind":"cpu","version":"0"}]})",
           {}});
    e->send({500,
             "application/json",
             R"({"error":{"code":"INFERENCE_FAILED","message":"a mock","type":"server_error"}})",
             {}});
  }
  void tick() {
    next_ = (next_ + 1) % f_.hives;
    const auto status = std::make_shared<int>(0);
    calls_.push_back(net::start_call(loop_, heartbeat(base_, beats_[static_cast<std::size_t>(next_)]),
                                     {.on_head = [status](int s, const net::Headers&) { *status = s; },
                                      .on_data = {},
                                      .on_end =
                                          [this, status](const Status& s) {
                                            if (s && *status == 200) return void(++heard_);
                                            ++failed_;
                                            if (!s) std::fprintf(stderr, "%s\n", s.error().message.c_str());
                                          }}));
    while (calls_.size() > 2000) calls_.pop_front();
    due_ += std::chrono::microseconds(1'000'000 / f_.hives);
    timer_ = loop_.after(std::max(net::Clock::duration(0), due_ - net::Clock::now()), [this] { tick(); });
  }
  void ask(int number) {
    const std::string body =
        fmt::format(R"({{"operation":"infer","model":"{}","prompt":"x","raw":true}})", model_of(number * 7));
    asks_.push_back(net::start_call(loop_, post(base_ + "/v1/jobs", body),
                                    {.on_head = {}, .on_data = {}, .on_end = [this](const Status&) { ++answered_; }}));
  }
  /// The mean of the queen's own histogram.
  Result<double> decision() {
    net::ClientRequest r;
    r.url = net::parse_url(base_ + "/metrics").value();
    std::string text;
    bool ended = false;
    const net::Call call = net::start_call(loop_, std::move(r),
                                           {.on_head = {},
                                            .on_data = [&](std::string_view b) { text += b; },
                                            .on_end = [&](const Status&) { ended = true; }});
    LLORCH_OK(until(
        loop_, [&] { return ended; }, 10));
    const auto value = [&](const std::string& suffix) {
      const std::size_t at = text.find("llorch_queen_scheduling_latency_ms" + suffix);
      const std::size_t blank = at == text.npos ? at : text.find(' ', at);
      return blank == text.npos ? 0.0 : std::strtod(text.c_str() + blank, nullptr);
    };
    if (value("_count") < f_.requests)
      return fail(ErrorCode::kInternal, "the queen counted {} decisions", value("_count"));
    return value("_sum") / value("_count") * 1000;
  }

  ColonyBenchFlags f_;
  net::EventLoop loop_;
  std::unique_ptr<net::HttpServer> server_;
  std::vector<std::string> beats_;
  std::deque<net::Call> calls_, asks_;
  std::string base_;
  net::EventLoop::Timer timer_;
  net::Clock::time_point due_;
  int next_ = 0, answered_ = 0;
  std::int64_t heard_ = 0, failed_ = 0;
};

}  // namespace

void add_command_colony_bench(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<ColonyBenchFlags>();
  CLI::App* c = app.add_subcommand("colony-bench", "what a large colony costs its queen: heartbeats and decisions");
  c->add_option("--hives", f->hives)->capture_default_str()->check(CLI::Range(1, 10'000));
  c->add_option("--workers", f->workers, "of each hive")->capture_default_str()->check(CLI::Range(1, 100));
  c->add_option("--seconds", f->seconds)->capture_default_str()->check(CLI::Range(1, 600));
  c->add_option("--requests", f->requests)->capture_default_str()->check(CLI::Range(1, 100'000));
  c->add_option("--port", f->port, "of the queen")->capture_default_str();
  c->callback([f, &exit_code] {
    const auto result = Bench(*f).run();
    exit_code = result ? *result : (cli::report(result.error()), 1);
  });
}

}  // namespace llorch::dev
