// Models that are being fetched: one transfer for all who ask for the same model, each on a thread of its own.
//
// Threads: the event loop's.
#pragma once

#include <boost/json.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "hive/download.h"
#include "service/broadcast.h"

namespace llorch::hive {

/// A transfer that several jobs may wait for.
struct Transfer {
  std::shared_ptr<Download> download;
  std::int64_t done = 0, total = 0;
  double mb_per_s = 0;
  int askers = 0;
  std::optional<Result<Fetched>> outcome;
  service::Broadcast watchers;  // beside the jobs
  net::Clock::time_point started = net::Clock::now(), reported;
};
using TransferPtr = std::shared_ptr<Transfer>;

/// Of a transfer, as its jobs and its watchers are told.
[[nodiscard]] boost::json::object progress_of(const Transfer& t);

class Transfers {
 public:
  struct Events {
    std::function<void()> on_change;                             // progress, or the end
    std::function<void(const Result<Fetched>& outcome)> on_end;  // before on_change
  };
  Transfers(net::EventLoop& loop, HubOptions hub, Events events);
  /// Stops all, and waits for their threads.
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  /// The transfer of a model that goes on now, or a new one; the caller is one of its askers.
  [[nodiscard]] TransferPtr join(const colony::ModelRef& ref);
  /// The one that goes on now, or null.
  [[nodiscard]] TransferPtr find(const colony::ModelRef& ref) const;
  /// An asker has gone; the last one stops the transfer.
  void leave(const TransferPtr& t);

 private:
  struct Running {
    TransferPtr transfer;
    std::unique_ptr<net::EventLoop::ReservedPost> end;  // the thread's last word; it needs no memory then
    std::thread thread;
  };
  void start(Running& running);
  void progressed(Transfer& t, std::int64_t done, std::int64_t total, double mb_per_s);
  void ended(Transfer& t, Result<Fetched> outcome);

  net::EventLoop& loop_;
  HubOptions hub_;
  Events events_;
  std::map<std::string, Running> all_;  // by reference; ended ones until the next of the same model
};

}  // namespace llorch::hive
