// relay-bench: what a queen's relay costs. A mock hive and worker with many slow streams, a real queen in between, and
// the clients; the same streams without the queen in the same run. Prints ratios.
#include <algorithm>
#include <atomic>
#include <deque>
#include <list>
#include <thread>

#include "bench_tools.h"
#include "command_line.h"
#include "format/json.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/sse.h"
#include "net/tls.h"
#include "security/authority.h"
#include "service/process.h"
#include "stream_readers.h"

namespace llorch::dev {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct RelayBenchFlags {
  int streams = 1000, rate = 20, seconds = 5, port = 18590, handshakes = 0;
  bool tls = false;
  [[nodiscard]] const char* scheme() const { return tls ? "https" : "http"; }
};

double now_us() { return std::chrono::duration<double, std::micro>(Clock::now().time_since_epoch()).count(); }

/// A worker and its hive, as far as a queen looks at them: every stream says a token at its rate, with the time in it.
class Mock {
 public:
  Mock(net::EventLoop& loop, const RelayBenchFlags& f) : loop_(loop), f_(f) {}

  Status start(std::shared_ptr<net::TlsServer> tls) {
    net::ServerOptions o;
    o.tls = std::move(tls);
    o.connections_max = o.connections_per_peer_max = 20'000;
    LLORCH_TRY(server_, net::HttpServer::make(
                            loop_, o, [this](const net::Request& r, const net::ExchangePtr& e) { answer(r, e); },
                            [](const Error&) {
                              return net::Response{400, "application/json", "{}", {}};
                            }));
    tick();
    return {};
  }
  [[nodiscard]] std::string url() const { return fmt::format("{}://127.0.0.1:{}", f_.scheme(), server_->port()); }
  [[nodiscard]] std::string beat() const {
    return fmt::format(
        R"({{"hive_id":"mock","url":"{0}","version":"0","node":{{}},"workers":[{{"worker_id":"w","uri":"{0}","model_ref":"builtin:haiku","device":"cpu","kind":"cpu","state":"ready","pid":1,"port":{1}}}]}})",
        url(), server_->port());
  }
  [[nodiscard]] std::int64_t sent() const { return sent_; }
  void end_all() {
    for (Stream& s : streams_)
      if (alive(s)) {
        ++s.seq;
        say(s, "end", fmt::format(R"({{"type":"end","seq":{},"tokens_out":{}}})", s.seq, s.seq - 2));
        if (!s.exchange) {
          say(s, "done", "{}");
          continue;
        }
        s.exchange->write("data: [DONE]\n\n");
        s.exchange->finish();
      }
    flush();
    streams_.clear();
  }
  [[nodiscard]] std::size_t open() const { return streams_.size(); }
  bool talking = false;

 private:
  struct Stream {
    net::ExchangePtr exchange;  // null: on the feed
    int seq = 0, index = 0;
    std::string number;  // on the feed
  };
  [[nodiscard]] bool alive(const Stream& s) const { return s.exchange ? s.exchange->alive() : feed_ && feed_->alive(); }
  void say(const Stream& s, const char* type, const std::string& json) {
    if (s.exchange)
      s.exchange->write(net::sse_frame(static_cast<std::uint64_t>(s.seq), type, json));
    else
      batch_ += fmt::format("id: {}/{}\nevent: {}\ndata: {}\n\n", s.number, s.seq, type, json);
  }
  /// As a worker does: what many jobs say in one step goes out at once.
  void flush() {
    if (feed_ && !batch_.empty()) feed_->write(std::exchange(batch_, {}));
  }
  void begin(Stream s) {
    say(s, "started",
        R"({"type":"started","seq":1,"model":"builtin:haiku","started_at":"2026-01-01T00:00:00.000Z","correlation_id":"c","seed":1,"params":{}})");
    streams_.push_back(std::move(s));
  }
  void answer(const net::Request& r, const net::ExchangePtr& e) {
    const std::string& path = r.target.path;
    if (path == "/v1/capabilities")
      return e->send(
          {200,
           "application/json",
           R"({"devices":[{"id":"cpu","name":"mock","device_type":"cpu","memory_total_bytes":1,"memory_free_bytes":1}],"models":[],"workers_available":[]})",
           {}});
    if (path == "/v1/inference" && r.method == "POST") {
      const int id = ++jobs_;
      const auto feed = r.headers.get("X-Llorch-Feed");
      e->send(
          {202,
           "application/json",
           fmt::format(
               R"({{"job_id":"job-{0}","sse_url":"/v1/inference/{0}/stream","status":"queued","queue_position":0,"fed":{1}}})",
               id, feed.has_value()),
           {}});
      if (feed) begin({nullptr, 1, 0, feed->substr(feed->find('/') + 1)}), flush();
      return;
    }
    if (path == "/v1/feed") {
      net::Response head;
      head.content_type = "text/event-stream";
      e->start(std::move(head));
      e->write(net::sse_frame(0, "feed", R"({"feed_id":"f"})"));
      feed_ = e;
      return;
    }
    if (!path.ends_with("/stream")) return e->send({200, "application/json", "{}", {}});
    net::Response head;
    head.content_type = "text/event-stream";
    e->start(std::move(head));
    begin({e, 1, 0, {}});
  }
  /// Streams take turns in groups: those that a worker's step computes together.
  void tick() {
    constexpr int kTogether = 32;
    const int groups = std::max(1, (f_.streams + kTogether - 1) / kTogether);
    group_ = (group_ + 1) % groups;
    if (talking)
      for (std::size_t i = static_cast<std::size_t>(group_); i < streams_.size();
           i += static_cast<std::size_t>(groups)) {
        Stream& s = streams_[i];
        if (!alive(s)) continue;
        ++sent_;
        ++s.seq;
        say(s, "token",
            fmt::format(R"({{"type":"token","seq":{},"t":"{:.1f}","i":{},"token_id":{}}})", s.seq, now_us(), s.index++,
                        1234));
      }
    flush();
    due_ += std::chrono::microseconds(1'000'000 / (f_.rate * groups));
    timer_ = loop_.after(std::max(Clock::duration(0), due_ - Clock::now()), [this] { tick(); });
  }

  net::EventLoop& loop_;
  const RelayBenchFlags& f_;
  std::unique_ptr<net::HttpServer> server_;
  std::vector<Stream> streams_;
  net::ExchangePtr feed_;
  std::string batch_;
  net::EventLoop::Timer timer_;
  Clock::time_point due_ = Clock::now();
  int jobs_ = 0, group_ = 0;
  std::int64_t sent_ = 0;
};

/// Clients of one address.
class Clients {
 public:
  Clients(net::EventLoop& loop, std::string base, StreamReaders& readers)
      : loop_(loop), base_(std::move(base)), readers_(readers) {}

  void start(int count, const std::string& path, const std::string& body) {
    for (int i = 0; i < count; ++i) create(path, body);
  }
  [[nodiscard]] int broken() const { return refused_ + readers_.broken; }
  [[nodiscard]] std::string fault() { return refused_ > 0 ? fault_ : readers_.fault(); }

 private:
  void create(const std::string& path, const std::string& body) {
    const auto text = std::make_shared<std::string>();
    calls_.push_back(net::start_call(loop_, post(base_ + path, body),
                                     {.on_head = {},
                                      .on_data = [text](std::string_view b) { *text += b; },
                                      .on_end =
                                          [this, text](const Status& s) {
                                            const auto parsed = s ? json::parse(*text, "answer")
                                                                  : Result<boost::json::value>(boost::json::value());
                                            const auto url = parsed && parsed->is_object()
                                                                 ? json::find_text(parsed->get_object(), "sse_url")
                                                                 : std::nullopt;
                                            if (url) return readers_.follow(*url);
                                            if (refused_++ == 0) fault_ = s ? *text : s.error().message;
                                          }}));
  }
  net::EventLoop& loop_;
  std::string base_;
  StreamReaders& readers_;
  int refused_ = 0;
  std::string fault_;
  std::deque<net::Call> calls_;
};

/// Calls that each make a connection of their own, so many a second, from a thread of their own.
class Handshakes {
 public:
  Handshakes(std::string url, int per_second, std::shared_ptr<const net::TlsClient> client)
      : url_(std::move(url)), per_second_(per_second), client_(std::move(client)), thread_([this] { run(); }) {}
  ~Handshakes() {
    loop_.post([this] { loop_.stop(); });
    thread_.join();
  }
  [[nodiscard]] int done() const { return done_.load(); }
  [[nodiscard]] int failed() const { return failed_.load(); }

 private:
  void run() {
    tick();
    loop_.run();
  }
  void tick() {
    std::erase_if(calls_, [](const auto& c) { return c.second; });
    for (due_ += per_second_ / 100.0; due_ >= 1; due_ -= 1) {
      auto& [call, ended] = calls_.emplace_back();
      net::ClientRequest r;
      r.url = net::parse_url(url_).value(), r.tls = client_;
      call = net::start_call(loop_, std::move(r),
                             {.on_head = {}, .on_data = {}, .on_end = [this, &ended](const Status& s) {
                                ++(s ? done_ : failed_);
                                ended = true;
                              }});
    }
    next_ += milliseconds(10);
    timer_ = loop_.after(std::max(Clock::duration(0), next_ - Clock::now()), [this] { tick(); });
  }

  std::string url_;
  int per_second_;
  std::shared_ptr<const net::TlsClient> client_;
  net::EventLoop loop_;
  std::list<std::pair<net::Call, bool>> calls_;
  double due_ = 0;
  Clock::time_point next_ = Clock::now();
  net::EventLoop::Timer timer_;
  std::atomic<int> done_ = 0, failed_ = 0;
  std::thread thread_;  // last: it uses what is above
};

/// The certificates of a mock hive in the colony of the benchmark's queen, who has made her authority by now.
struct MockIdentity {
  std::shared_ptr<net::TlsServer> server;
  std::shared_ptr<const net::TlsClient> client;
};
Result<MockIdentity> make_identity() {
  LLORCH_TRY(const auto authority, security::Authority::open(std::string(kBenchFolder) + "/ca", {.queen_id = "bench"}));
  LLORCH_TRY(const auto own, authority.make_identity({security::DaemonKind::kHive, "mock"}, {"127.0.0.1"}));
  MockIdentity made;
  LLORCH_TRY(made.server, net::TlsServer::make({.people = {},
                                                .colony = {own.chain, own.private_key},
                                                .authorities = authority.root(),
                                                .callers_must_show = true}));
  LLORCH_TRY(made.client, net::TlsClient::make({{own.chain, own.private_key}, authority.root(), "", {}}));
  return made;
}

struct Figures {
  double median_ms = 0, p99_ms = 0, tokens_s = 0, cpu_us = 0, behind = 0;
};

class RelayBench {
 public:
  explicit RelayBench(RelayBenchFlags f) : f_(f), mock_(loop_, f_) {}

  Result<int> run() {
    LLORCH_TRY(const auto queen, start_queen(loop_, f_.port, f_.tls));
    const std::string base = fmt::format("{}://127.0.0.1:{}", f_.scheme(), f_.port);
    MockIdentity identity;
    if (f_.tls) {
      LLORCH_OK(until(
          loop_, [] { return access((std::string(kBenchFolder) + "/ca/issuer.pem").c_str(), F_OK) == 0; }, 10));
      LLORCH_TRY(identity, make_identity());
      loop_.set_tls_client(identity.client);
    }
    LLORCH_OK(mock_.start(identity.server));
    LLORCH_OK(until(
        loop_, [&] { return tell(loop_, heartbeat(base, mock_.beat())); }, 10));
    LLORCH_TRY(const Figures direct, measure(mock_.url(), "/v1/inference", R"({"prompt":"x"})", 0));
    LLORCH_TRY(const Figures relayed,
               measure(base, "/v1/jobs", R"({"operation":"infer","model":"builtin:haiku","prompt":"x","raw":true})",
                       queen->pid()));
    std::optional<Figures> beside;
    if (f_.handshakes > 0) {
      const Handshakes others(base + "/health", f_.handshakes, identity.client);
      LLORCH_TRY(beside,
                 measure(base, "/v1/jobs", R"({"operation":"infer","model":"builtin:haiku","prompt":"x","raw":true})",
                         queen->pid()));
      std::printf("%d connections were made beside the last row, %d failed\n", others.done(), others.failed());
    }
    std::printf("%d streams at %d tokens/s each for %d s, over %s\n", f_.streams, f_.rate, f_.seconds, f_.scheme());
    std::printf("%-22s %12s %12s %12s %14s\n", "", "tokens/s", "median ms", "p99 ms", "CPU us/token");
    std::printf("%-22s %12.0f %12.3f %12.3f %14s\n", "worker alone", direct.tokens_s, direct.median_ms, direct.p99_ms,
                "-");
    std::printf("%-22s %12.0f %12.3f %12.3f %14.1f\n", "through the queen", relayed.tokens_s, relayed.median_ms,
                relayed.p99_ms, relayed.cpu_us);
    if (beside)
      std::printf("%-22s %12.0f %12.3f %12.3f %14.1f\n", fmt::format("and {} connects/s", f_.handshakes).c_str(),
                  beside->tokens_s, beside->median_ms, beside->p99_ms, beside->cpu_us);
    std::printf(
        "kept up with %.3f of what was sent; adds %.3f ms at the median (1 ms allowed: %.2f of it); %.2f of 20 us of "
        "the queen's CPU per token\n",
        relayed.behind, relayed.median_ms - direct.median_ms, relayed.median_ms - direct.median_ms,
        relayed.cpu_us / 20);
    return 0;
  }

 private:
  Result<Figures> measure(const std::string& base, const std::string& path, const std::string& body, int queen) {
    LLORCH_TRY(const auto url, net::parse_url(base));
    LLORCH_TRY(const auto readers,
               StreamReaders::make(url.port, f_.tls ? std::string(kBenchFolder) + "/ca/root.pem" : ""));
    Clients clients(loop_, base, *readers);
    for (int left = f_.streams; left > 0; left -= 50) {  // not all at once: connecting is not what is measured
      clients.start(std::min(50, left), path, body);
      run_for(loop_, milliseconds(50));
    }
    if (!until(
            loop_, [&] { return readers->started + clients.broken() >= f_.streams; }, 30) ||
        clients.broken() > 0)
      return fail(ErrorCode::kInternal, "of {} streams at {} {} began, {} broke: {}", f_.streams, base,
                  readers->started.load(), clients.broken(), clients.fault());
    mock_.talking = true;
    settle(*readers);
    const std::int64_t sent = mock_.sent();
    const double cpu = queen ? cpu_seconds(queen) : 0;
    const auto start = Clock::now();
    run_for(loop_, std::chrono::seconds(f_.seconds));
    std::vector<float> delays_us = readers->take_delays();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count(),
                 used = queen ? cpu_seconds(queen) - cpu : 0;
    const auto count = static_cast<double>(delays_us.size()), given = static_cast<double>(mock_.sent() - sent);
    mock_.talking = false;
    run_for(loop_, milliseconds(200));
    mock_.end_all();
    LLORCH_OK(until(
        loop_, [&] { return readers->done + clients.broken() >= f_.streams; }, 20));
    if (clients.broken() > 0)
      return fail(ErrorCode::kInternal, "{} streams broke: {}", clients.broken(), clients.fault());
    std::ranges::sort(delays_us);
    if (delays_us.empty()) return fail(ErrorCode::kInternal, "no token came");
    const auto at = [&](double q) {
      return delays_us[static_cast<std::size_t>(q * static_cast<double>(delays_us.size() - 1))] / 1000.0;
    };
    return Figures{at(0.5), at(0.99), count / seconds, used * 1e6 / std::max(1.0, count), count / std::max(1.0, given)};
  }

  /// What the streams' beginning has left behind is no part of relaying: until half a second's tokens come as they are
  /// said, at most half a minute.
  void settle(StreamReaders& readers) {
    constexpr float kLate = 20'000;  // us
    for (int i = 0; i < 60; ++i) {
      (void)readers.take_delays();
      run_for(loop_, milliseconds(500));
      std::vector<float> late = readers.take_delays();
      std::erase_if(late, [](float us) { return us < kLate; });
      if (late.empty() && i > 0) return;
    }
  }

  RelayBenchFlags f_;
  net::EventLoop loop_;
  Mock mock_;
};

}  // namespace

void add_command_relay_bench(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<RelayBenchFlags>();
  CLI::App* c = app.add_subcommand("relay-bench", "what a queen's relay costs, beside the same streams without her");
  c->add_option("--streams", f->streams)->capture_default_str()->check(CLI::Range(1, 4000));
  c->add_option("--rate", f->rate, "tokens/s of each")->capture_default_str()->check(CLI::Range(1, 1000));
  c->add_option("--seconds", f->seconds)->capture_default_str()->check(CLI::Range(1, 600));
  c->add_option("--port", f->port, "of the queen")->capture_default_str();
  c->add_flag("--tls", f->tls, "everything over TLS");
  c->add_option("--handshakes", f->handshakes, "connections that others make meanwhile, each second")
      ->capture_default_str()
      ->check(CLI::Range(0, 10'000));
  c->callback([f, &exit_code] {
    const auto result = RelayBench(*f).run();
    exit_code = result ? *result : (cli::report(result.error()), 1);
  });
}

}  // namespace llorch::dev
