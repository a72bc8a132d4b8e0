// Whether the path that a request takes is alive: each part of it is asked to answer, and one that has not for too long
// is named.
//
// A part answers from its own queue, in its turn: a part that is busy answers late, one that is stuck never. Threads:
// the event loop's.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/event_loop.h"

namespace llorch::worker {

class HealthProbe {
 public:
  struct Part {
    std::string name;
    /// Calls `answered` on the loop once the part has had its turn.
    std::function<void(std::function<void()> answered)> ping;
    net::Clock::duration stuck_after;
  };
  HealthProbe(net::EventLoop& loop, net::Clock::duration patience) : loop_(loop), patience_(patience) {}

  void add(Part part) { parts_.push_back({std::move(part), {}}); }
  /// Asks every part that is not being asked already; `done` gets the name of the first that is stuck, or nothing: once
  /// all have answered, after `patience` at the latest.
  void check(std::function<void(const std::string& stuck)> done);

 private:
  struct Asked {
    Part part;
    std::optional<net::Clock::time_point> since;  // not answered yet
  };
  struct Check {
    std::function<void(const std::string&)> done;
    net::EventLoop::Timer patience;
  };
  void answered(Asked& asked);
  void finish(const std::shared_ptr<Check>& check);
  [[nodiscard]] std::string stuck() const;

  net::EventLoop& loop_;
  net::Clock::duration patience_;
  std::list<Asked> parts_;
  std::vector<std::shared_ptr<Check>> checks_;
};

}  // namespace llorch::worker
