#include "worker/lifecycle.h"

#include <algorithm>

namespace llorch::worker {

using namespace std::chrono_literals;

void Lifecycle::ready() {
  if (state_ == WorkerState::kLoading) state_ = WorkerState::kIdle;
}

void Lifecycle::failed() {
  state_ = WorkerState::kError;
  exit_code_ = 1;
  if (parts_.ending) parts_.ending(parts_.grace);
  parts_.loop.stop();
}

void Lifecycle::unhealthy() {
  if (state_ != WorkerState::kDraining) state_ = WorkerState::kError;
  exit_code_ = 1;
}

void Lifecycle::drain(int exit_code) {
  exit_code_ = std::max(exit_code_, exit_code);
  if (state_ == WorkerState::kDraining) return parts_.loop.stop();
  if (parts_.ending) parts_.ending(parts_.grace);
  const bool loading = state_ == WorkerState::kLoading;
  state_ = WorkerState::kDraining;
  if (loading) parts_.cancel_loading();
  timer_ = parts_.loop.after(parts_.grace * 4 / 5, [this] { stop_soon(); });
  parts_.when_idle([this] { all_ended(); });
}

void Lifecycle::all_ended() {
  parts_.stop_accepting();
  parts_.when_all_is_sent([this] { parts_.loop.stop(); });
}

/// What was cancelled gets its last event out, also where there is no grace at all.
void Lifecycle::stop_soon() {
  parts_.cancel_all();
  timer_ =
      parts_.loop.after(std::max<std::chrono::milliseconds>(parts_.grace / 10, 200ms), [this] { parts_.loop.stop(); });
}

}  // namespace llorch::worker
