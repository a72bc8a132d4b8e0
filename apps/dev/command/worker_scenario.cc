// worker-test (T-12): a mock hive in this process, a real worker beside it: spawn, health, heartbeat, dual call,
// stream, shutdown, both ports free again. Any step that does not happen in its time ends with exit code 1.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <csignal>
#include <filesystem>

#include "command_line.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/sse.h"

namespace llorch::dev {
namespace {

using net::Clock;

struct WorkerScenarioFlags {
  std::string worker_id = "worker-test", model = "builtin:haiku", backend = "cpu", binary;
  int device = 0, port = 18081, hive_port = 19200, timeout_s = 30;
};

/// The worker's process; killed when this object goes.
class Child {
 public:
  explicit Child(std::vector<std::string> arguments) {
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) != 0) pid_ = -1;
  }
  ~Child() {
    if (pid_ > 0 && !ended()) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] bool started() const { return pid_ > 0; }
  bool ended() {
    if (!reaped_ && pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) reaped_ = true;
    return reaped_;
  }
  [[nodiscard]] int exit_code() const { return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_); }

 private:
  pid_t pid_ = -1;
  int status_ = 0;
  bool reaped_ = false;
};

class Scenario {
 public:
  explicit Scenario(WorkerScenarioFlags flags) : f_(std::move(flags)) {}

  Result<int> run() {
    LLORCH_OK(start_hive());
    Child worker({f_.binary, "serve", "--local-mode", "--worker-id", f_.worker_id, "-m", f_.model, "--backend",
                  f_.backend, "--device", std::to_string(f_.device), "--port", std::to_string(f_.port), "--hive-url",
                  hive_url(), "--callback-url", hive_url() + "/v1/worker-ready", "--log-format", "json"});
    if (!worker.started()) return fail(ErrorCode::kIo, "cannot start {}", f_.binary);
    child_ = &worker;
    LLORCH_OK(until("health", f_.timeout_s, [this] { return healthy(); }));
    LLORCH_OK(until("ready callback", 5, [this] { return callbacks_ == 1; }));
    LLORCH_OK(until("first heartbeat", f_.timeout_s + 5, [this] { return beats_ >= 1; }));
    LLORCH_OK(stream());
    LLORCH_TRY(const auto stopped, ask("POST", "/v1/shutdown", ""));
    if (stopped.status != 202) return fail(ErrorCode::kInternal, "shutdown answered {}", stopped.status);
    LLORCH_OK(until("the worker's end", 10, [&] { return worker.ended(); }));
    if (worker.exit_code() != 0) return fail(ErrorCode::kInternal, "the worker ended with {}", worker.exit_code());
    hive_.reset();
    LLORCH_OK(until("both ports to be free", 5, [this] { return free(f_.port) && free(f_.hive_port); }));
    std::printf("worker-test passed: %d tokens, %d heartbeats\n", tokens_, beats_);
    return 0;
  }

 private:
  [[nodiscard]] std::string hive_url() const { return fmt::format("http://127.0.0.1:{}", f_.hive_port); }

  Status start_hive() {
    net::ServerOptions o;
    o.port = static_cast<std::uint16_t>(f_.hive_port);
    LLORCH_TRY(hive_, net::HttpServer::make(
                          loop_, o,
                          [this](const net::Request& r, const net::ExchangePtr& e) {
                            boost::system::error_code problem;
                            const auto body = boost::json::parse(r.body, problem);
                            const bool ours = !problem && body.is_object() && body.get_object().contains("worker_id") &&
                                              body.get_object().at("worker_id") == boost::json::string(f_.worker_id);
                            if (ours && r.target.path == "/v1/heartbeat") ++beats_;
                            if (ours && r.target.path == "/v1/worker-ready") ++callbacks_;
                            e->send({ours ? 200 : 400, "application/json", "{}", {}});
                          },
                          [](const Error&) {
                            return net::Response{400, "application/json", "{}", {}};
                          }));
    return {};
  }

  /// Runs the loop until `done`, for at most so long.
  Status until(std::string_view what, int seconds, const std::function<bool()>& done) {
    const auto end = Clock::now() + std::chrono::seconds(seconds);
    while (!done()) {
      if (Clock::now() > end) return fail(ErrorCode::kOperationTimeout, "{} timed out after {} seconds", what, seconds);
      if (child_ && what != "the worker's end" && hive_ && child_->ended())
        return fail(ErrorCode::kWorkerCrashed, "the worker ended with {} while waiting for {}", child_->exit_code(),
                    what);
      run_for(std::chrono::milliseconds(20));
    }
    std::printf("ok: %s\n", std::string(what).c_str());
    return {};
  }
  void run_for(Clock::duration time) {
    const auto timer = loop_.after(time, [this] { loop_.stop(); });
    loop_.run();
  }

  Result<net::Answer> ask(const std::string& method, const std::string& path, std::string body,
                          const std::function<void(std::string_view)>& data = {}) {
    net::ClientRequest r;
    r.method = method;
    r.url = {"127.0.0.1", static_cast<std::uint16_t>(f_.port), path};
    if (!body.empty()) r.headers.add("Content-Type", "application/json");
    r.body = std::move(body);
    net::Answer answer;
    std::optional<Status> outcome;
    const net::Call call = net::start_call(
        loop_, std::move(r),
        {.on_head = [&](int status, const net::Headers& h) { answer.status = status, answer.headers = h; },
         .on_data =
             [&](std::string_view bytes) {
               answer.body += bytes;
               if (data) data(bytes);
             },
         .on_end = [&](Status s) { outcome = std::move(s); }});
    const auto end = Clock::now() + std::chrono::seconds(f_.timeout_s);
    while (!outcome && Clock::now() < end) run_for(std::chrono::milliseconds(5));
    if (!outcome)
      return fail(ErrorCode::kOperationTimeout, "{} {} timed out after {} seconds", method, path, f_.timeout_s);
    LLORCH_OK(*std::move(outcome));
    return answer;
  }
  bool healthy() {
    const auto answer = ask("GET", "/health", "");
    return answer && answer->status == 200;
  }

  Status stream() {
    LLORCH_TRY(const auto made, ask("POST", "/v1/inference",
                                    R"({"prompt":"The capital of France is","max_tokens":50,"temperature":0.7})"));
    if (made.status != 202) return fail(ErrorCode::kInternal, "POST answered {}: {}", made.status, made.body);
    const auto o = boost::json::parse(made.body).as_object();
    const auto* id = o.if_contains("job_id");
    const auto* url = o.if_contains("sse_url");
    if (!id || !url) return fail(ErrorCode::kInternal, "the answer lacks job_id or sse_url: {}", made.body);
    std::string last, first;
    net::SseParser parser([&](const net::SseEvent& e) {
      if (first.empty()) first = e.type;
      if (e.type == "token") ++tokens_;
      if (e.data != "[DONE]") last = e.type;
    });
    LLORCH_TRY(const auto answer, ask("GET", std::string(url->as_string()), "",
                                      [&](std::string_view bytes) { (void)parser.push(bytes); }));
    if (!parser.done() || first != "started" || last != "end" || tokens_ < 1)
      return fail(ErrorCode::kInternal, "the stream is wrong: first {}, last {}, {} tokens, [DONE] {}", first, last,
                  tokens_, parser.done());
    std::printf("ok: stream of %d tokens\n", tokens_);
    return {};
  }

  bool free(int port) {
    net::ServerOptions o;
    o.port = static_cast<std::uint16_t>(port);
    return net::HttpServer::make(loop_, o, {}, {}).has_value();
  }

  WorkerScenarioFlags f_;
  net::EventLoop loop_;
  std::unique_ptr<net::HttpServer> hive_;
  Child* child_ = nullptr;
  int beats_ = 0, callbacks_ = 0, tokens_ = 0;
};

}  // namespace

void add_command_worker_scenario(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<WorkerScenarioFlags>();
  CLI::App* c =
      app.add_subcommand("worker-test", "mock hive, real worker: health, heartbeat, dual call, stream, shutdown");
  c->add_option("--worker-id", f->worker_id)->capture_default_str();
  c->add_option("--model", f->model)->capture_default_str();
  c->add_option("--backend", f->backend)->capture_default_str();
  c->add_option("--device", f->device)->capture_default_str();
  c->add_option("--port", f->port)->capture_default_str();
  c->add_option("--hive-port", f->hive_port)->capture_default_str();
  c->add_option("--timeout", f->timeout_s, "seconds for each step")->capture_default_str();
  c->callback([f, &exit_code] {
    f->binary =
        (std::filesystem::read_symlink("/proc/self/exe").parent_path() / ("llorch-worker-" + f->backend)).string();
    if (!std::filesystem::exists(f->binary)) {
      exit_code = cli::report({ErrorCode::kIo, fmt::format("{} is not there: ./dev build release", f->binary)});
      return;
    }
    const auto result = Scenario(*f).run();
    exit_code = result ? *result : (cli::report(result.error()), 1);
  });
}

}  // namespace llorch::dev
