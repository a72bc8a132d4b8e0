// The engine's thread: loads the model, warms it up, steps the engine while there is work, waits while there is none.
//
// Lives between two threads: everything public is called on the event loop's, everything that comes back arrives there.
// The engine never touches a socket; the loop never waits for the engine (W-20). No exception leaves the thread: one in
// loading is loading's outcome, one in a step is fatal and told to on_fatal, and to say so takes no memory.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "base/semaphore.h"
#include "engine/engine.h"
#include "engine/loaded_model.h"
#include "net/event_loop.h"

namespace llorch::worker {

struct EngineHostOptions {
  ModelOptions model;
  std::string manifest;  // what the model's must be; empty: not asked
  EngineOptions engine;
  std::size_t kv_bytes = 0;  // of what sequences remember; 0: what default_pages() gives
  std::size_t cache_ram_bytes = 0, cache_disk_bytes = 0;
  std::string cache_folder;  // of the prefix cache's level on disk; empty: none
  /// For tests: called on the engine's thread before each step.
  std::function<void()> before_step;
};

struct EngineLoad {
  int running = 0, waiting = 0;
  int pages_used = 0, pages_total = 0;
  std::int64_t rests = 0, drafted = 0, accepted = 0;
  CacheLevels::Counts levels;
};

class EngineHost {
 public:
  explicit EngineHost(net::EventLoop& loop, EngineHostOptions options);
  ~EngineHost() { stop(); }

  /// Starts loading. `progress` and then `ready` are called on the loop; between them, on the engine's thread, `read`
  /// what may take time to know of the model.
  void start(ProgressSink progress, std::function<Status()> read, std::function<void(Status)> ready);
  /// Called on the loop when packed weights were written to their folder, or could not be. Before start().
  void on_cache_written(std::function<void(Result<std::string>)> told) {
    options_.model.cache_written = [this, told = std::move(told)](const Result<std::string>& r) {
      loop_.post([told, r] { told(r); });
    };
  }
  /// Called on the loop, once, when the model's file was changed: nothing can be computed any more. Before start().
  void on_broken(std::function<void(const Error&)> report) { on_broken_ = std::move(report); }
  /// Called on the loop when a step threw: nothing is computed any more. Before start().
  void on_fatal(std::function<void(const Error&)> told) { on_fatal_ = std::move(told); }
  /// Ends loading, or the thread after the current step; returns at once.
  void request_stop();
  /// request_stop(), and waits for the thread; nothing arrives afterwards that was not posted before.
  void stop();
  /// `answered` is called on the loop after the step under way.
  void ping(std::function<void()> answered);
  /// `told` is called on the loop with what Device::check_resident() says after the step under way. Once ready.
  void check_resident(std::function<void(Status)> told);

  /// Valid once ready.
  [[nodiscard]] const LoadedModel& model() const { return *model_; }
  /// `sink` is called on the loop, in order. Errors: of Engine::submit.
  [[nodiscard]] Result<int> submit(GenerateRequest request, std::function<void(EngineEvent)> sink);
  void cancel(int id);
  void pause(int id, bool paused);
  [[nodiscard]] EngineLoad load() const;

 private:
  void run(const ProgressSink& progress, const std::function<Status()>& read) noexcept;
  /// With as many pages as the memory that was asked for has. Errors: kInvalidRequest.
  [[nodiscard]] Result<EngineOptions> engine_options(const Model& model) const;
  [[nodiscard]] Status prepare(const ProgressSink& progress);
  [[nodiscard]] Status warm_up();
  /// What the prefix cache has below the device, where it was asked for.
  [[nodiscard]] Status open_levels();
  void serve();
  /// One step; false when there is no work, or no more.
  [[nodiscard]] bool step();
  /// Of pings and checks of residency.
  void answer();
  void notify();

  net::EventLoop& loop_;
  EngineHostOptions options_;
  std::optional<LoadedModel> model_;
  std::unique_ptr<Engine> engine_;
  Semaphore wake_;  // once for each time that work_ becomes true
  std::atomic<bool> work_{false}, stop_{false};
  std::mutex mutex_;  // guards the next two
  std::vector<std::function<void()>> pings_;
  std::vector<std::function<void(Status)>> residency_checks_;
  std::function<void(const Error&)> on_fatal_, on_broken_;
  std::stop_source stopping_;  // of the manifest's check
  std::shared_ptr<std::atomic<bool>> loading_cancelled_ = std::make_shared<std::atomic<bool>>(false);
  std::atomic<int> running_{0}, waiting_{0}, pages_used_{0}, pages_total_{0};
  std::atomic<std::int64_t> rests_{0}, drafted_{0}, accepted_{0};
  std::atomic<const CacheLevels*> levels_{nullptr};  // the engine's
  /// What the thread says last, also when there is no memory left to say it with.
  std::function<void(Status)> on_ready_;
  Status prepared_, served_;  // written by the thread before it posts
  net::EventLoop::ReservedPost tell_prepared_, tell_served_;
  std::thread thread_;
};

}  // namespace llorch::worker
