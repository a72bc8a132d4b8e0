// Streaming is real (J-33, T-48): with the engine held between steps, token k is at the client while token k + 1 has
// not been computed; and arrival times follow decode times. With one client, and with 64 in one batch.
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "net/sse.h"
#include "test_data.h"
#include "worker/test_served.h"
#include "worker/test_socket.h"

namespace llorch::worker {
namespace {

using Clock = std::chrono::steady_clock;

/// The engine takes a step only when the test gives one.
class Held {
 public:
  /// On the engine's thread.
  void before_step() {
    std::unique_lock lock(mutex_);
    ++asked_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return free_ || allowed_ > 0; });
    if (!free_) --allowed_;
  }
  /// Allows one step and waits until the engine asks for the next, so that it has been computed; false: 20 s were not
  /// enough.
  [[nodiscard]] bool step() {
    std::unique_lock lock(mutex_);
    const auto ready = [this](int count) { return [this, count] { return asked_ >= count; }; };
    if (!changed_.wait_for(lock, std::chrono::seconds(20), ready(steps_ + 1))) return false;
    ++allowed_, ++steps_;
    changed_.notify_all();
    return changed_.wait_for(lock, std::chrono::seconds(20), ready(steps_ + 1));
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    free_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int asked_ = 0, steps_ = 0, allowed_ = 0;
  bool free_ = false;
};

/// A worker whose engine is held.
class HeldWorker {
 public:
  HeldWorker(Held& held, int max_batch) : held_(held), served_(options(held, max_batch)) { served_.wait_ready(); }
  ~HeldWorker() { held_.let_go(); }  // or a failed test would never end
  [[nodiscard]] int port() const { return served_.port(); }

 private:
  static ServeOptions options(Held& held, int max_batch) {
    ServeOptions o = test_options();
    o.engine.engine.max_batch = max_batch;
    o.engine.engine.speculation = Speculation::kOff;  // with guesses a step may draw several tokens
    o.engine.before_step = [&held] { held.before_step(); };
    return o;
  }
  Held& held_;
  Served served_;
};

/// One client with a stream of its own, reading on its own thread.
class Client {
 public:
  Client(int port, int seed) : fd_(connect_to(port)) {
    const std::string body = fmt::format(
        R"({{"prompt":"<|user|>x<|assistant|>","max_tokens":40,"ignore_eos":true,"stream":true,"temperature":1,"seed":{}}})",
        seed);
    const std::string text = fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        "{}\r\n\r\n{}",
        body.size(), body);
    EXPECT_EQ(send(fd_, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    thread_ = std::thread([this] { read(); });
  }
  ~Client() {
    thread_.join();
    close(fd_);
  }
  [[nodiscard]] int tokens() const { return tokens_; }
  [[nodiscard]] bool wait_for_tokens(int count, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    std::unique_lock lock(mutex_);
    return more_.wait_for(lock, limit, [&] { return tokens_ >= count; });
  }
  [[nodiscard]] Clock::time_point arrival(int token) {
    const std::lock_guard lock(mutex_);
    return arrivals_.at(static_cast<std::size_t>(token));
  }
  [[nodiscard]] bool done() const { return done_; }

 private:
  void read() {
    net::SseParser parser([this](const net::SseEvent& e) {
      if (e.data == "[DONE]") return;
      const auto o = boost::json::parse(e.data).as_object();
      if (!o.contains("choices")) return;
      const auto& choice = o.at("choices").as_array().at(0).as_object();
      if (!choice.at("finish_reason").is_null() || choice.at("text").as_string().empty()) return;
      const std::lock_guard lock(mutex_);
      ++tokens_;
      arrivals_.push_back(Clock::now());
      more_.notify_all();
    });
    std::string head;
    char buffer[4096];
    for (ssize_t n; (n = recv(fd_, buffer, sizeof buffer, 0)) > 0;) {
      std::string_view bytes(buffer, static_cast<std::size_t>(n));
      if (head.find("\r\n\r\n") == std::string::npos) {
        head += bytes;
        if (head.find("\r\n\r\n") == std::string::npos) continue;
        bytes = std::string_view(head).substr(head.find("\r\n\r\n") + 4);
        (void)parser.push(std::string(bytes));  // chunk sizes are lines of no known field
        continue;
      }
      (void)parser.push(bytes);
    }
    done_ = parser.done();
  }

  int fd_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::atomic<int> tokens_{0};
  std::atomic<bool> done_{false};
  std::vector<Clock::time_point> arrivals_;
  std::thread thread_;
};

/// Submits are done when the worker lists a job for each; then steps until every client has its first token.
void first_tokens(Held& held, int port, std::vector<std::unique_ptr<Client>>& clients) {
  const auto until = Clock::now() + std::chrono::seconds(20);
  for (std::size_t listed = 0; listed < clients.size();) {
    ASSERT_LT(Clock::now(), until) << listed << " of " << clients.size() << " requests have arrived";
    const std::string text = get_until(port, "/v1/inference", [](const std::string&) { return false; });
    listed = 0;
    for (std::size_t at = 0; (at = text.find("\"job_id\"", at)) != std::string::npos; ++at) ++listed;
  }
  const auto all = [&] { return std::ranges::all_of(clients, [](const auto& c) { return c->tokens() >= 1; }); };
  for (int i = 0; i < 20 && !all(); ++i) {  // they may be admitted in different steps
    ASSERT_TRUE(held.step());
    for (auto& c : clients)
      if (!c->wait_for_tokens(1, std::chrono::milliseconds(200))) break;
  }
  ASSERT_TRUE(all());
}

TEST(Streaming, a_token_is_at_the_client_before_the_next_one_is_computed) {
  Held held;
  HeldWorker served(held, 4);
  std::vector<std::unique_ptr<Client>> clients;
  clients.push_back(std::make_unique<Client>(served.port(), 1));
  first_tokens(held, served.port(), clients);
  for (int computed = clients[0]->tokens(); computed < 8; ++computed) {
    // Held: nothing more may come, however long one waits.
    const auto until = Clock::now() + std::chrono::milliseconds(15);
    while (Clock::now() < until) std::this_thread::yield();
    ASSERT_EQ(clients[0]->tokens(), computed) << "tokens came that no step computed";
    ASSERT_TRUE(held.step());
    ASSERT_TRUE(clients[0]->wait_for_tokens(computed + 1))
        << "token " << computed << " did not arrive while the engine was held";
  }
  held.let_go();
  clients.clear();
}

TEST(Streaming, arrivals_follow_the_steps_with_one_and_with_64_clients) {
  for (const int count : {1, 64}) {
    Held held;
    HeldWorker served(held, 64);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < count; ++i) clients.push_back(std::make_unique<Client>(served.port(), i));
    first_tokens(held, served.port(), clients);
    double worst_ms = 0;
    for (int round = 0; round < 4; ++round) {
      // Held: wait until everything that was computed has arrived.
      std::vector<int> before;
      for (auto same_since = Clock::now(); Clock::now() - same_since < std::chrono::milliseconds(100);) {
        std::vector<int> seen;
        for (auto& c : clients) seen.push_back(c->tokens());
        if (seen != before) before = seen, same_since = Clock::now();
        std::this_thread::yield();
      }
      // Pauses of different length, made by the test: arrivals must have the same pattern.
      const auto until = Clock::now() + std::chrono::milliseconds(5 + 20 * (round % 2));
      while (Clock::now() < until) std::this_thread::yield();
      const auto released = Clock::now();
      ASSERT_TRUE(held.step());
      for (std::size_t i = 0; i < clients.size(); ++i) {
        ASSERT_TRUE(clients[i]->wait_for_tokens(before[i] + 1))
            << count << " clients, round " << round << ", client " << i;
        const auto arrived = clients[i]->arrival(before[i]);
        ASSERT_GE(arrived, released) << "a token arrived before its step was allowed";
        worst_ms = std::max(worst_ms, std::chrono::duration<double, std::milli>(arrived - released).count());
      }
    }
    std::printf("streaming: %d clients, slowest arrival %.2f ms after its step was allowed\n", count, worst_ms);
    held.let_go();
    clients.clear();
  }
}

/// The engine is held before the prompt is computed: nothing but a comment, after 5 s, and without a number (J-36).
TEST(Streaming, silence_during_prefill_is_broken_by_a_comment_after_5_seconds) {
  if (kSanitized) GTEST_SKIP() << "not run under sanitizers: the same wait in release shows it";
  Held held;
  HeldWorker served(held, 1);
  const int fd = connect_to(served.port());
  const std::string body = R"({"prompt":"x","max_tokens":2,"stream":true})";
  const std::string text = fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
      "\r\n{}",
      body.size(), body);
  const auto start = Clock::now();
  ASSERT_EQ(send(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  std::string came;
  char part[4096];
  for (ssize_t n; came.find("\r\n:") == std::string::npos && (n = recv(fd, part, sizeof part, 0)) > 0;)
    came.append(part, static_cast<std::size_t>(n));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  EXPECT_NE(came.find("\r\n:"), std::string::npos) << came;
  EXPECT_EQ(came.find("id:", came.find("\r\n\r\n")), std::string::npos) << came;
  EXPECT_EQ(came.find("\"text\""), std::string::npos) << "a token without a step: " << came;
  EXPECT_GE(seconds, 4.9);
  EXPECT_LE(seconds, 8.0);
  held.let_go();
  close(fd);
}

}  // namespace
}  // namespace llorch::worker
