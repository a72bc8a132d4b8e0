#include "worker/lifecycle.h"

#include <algorithm>

namespace llorch::worker {

void Lifecycle::ready() {
  if (state_ == WorkerState::kLoading) state_ = WorkerState::kIdle;
}

void Lifecycle::failed() {
  state_ = WorkerState::kError;
  exit_code_ = 1;
  if (parts_.ending) parts_.ending(parts_.grace);
  parts_.loop.stop();
}

void Lifecycle::drain(int exit_code) {
  exit_code_ = std::max(exit_code_, exit_code);
  if (state_ == WorkerState::kDraining) return parts_.loop.stop();
  if (parts_.ending) parts_.ending(parts_.grace);
  const bool loading = state_ == WorkerState::kLoading;
  state_ = WorkerState::kDraining;
  if (loading) parts_.cancel_loading();
  cancel_at_ = net::Clock::now() + parts_.grace * 4 / 5;
  timer_ = parts_.loop.after(std::chrono::milliseconds(1), [this] { look(); });
}

/// The gate: nothing active and nothing unsent; looked at again until then, and at the end by force.
void Lifecycle::look() {
  const int active = parts_.active();
  if (active == 0) parts_.stop_accepting();
  if (active == 0 && parts_.connections() == 0) return parts_.loop.stop();
  if (net::Clock::now() >= cancel_at_) return stop_soon();
  timer_ = parts_.loop.after(std::chrono::milliseconds(10), [this] { look(); });
}

/// What was cancelled gets its last event out.
void Lifecycle::stop_soon() {
  parts_.cancel_all();
  timer_ = parts_.loop.after(parts_.grace / 10, [this] { parts_.loop.stop(); });
}

}  // namespace llorch::worker
