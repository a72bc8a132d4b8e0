// A hive's next certificate: asked for when two thirds of the present one's life are over, and again until it comes.
//
// What is kept is read by the front's own watch (service/tls_files.h). Threads: the event loop's.
#pragma once

#include <functional>
#include <string>

#include "service/background.h"
#include "service/flow.h"
#include "service/front.h"
#include "service/remote.h"

namespace llorch::hive {

class Renewal {
 public:
  struct Parts {
    net::EventLoop& loop;
    service::Gate& gate;
    service::Front& front;
    service::Background& files;
    std::string hive_id, folder;
    /// The queen, and what she is shown.
    std::function<Result<service::Peer>()> queen;
  };
  explicit Renewal(Parts parts) : parts_(std::move(parts)) {}

  /// From now on; does nothing for a hive that has no certificate.
  void start() { wait(); }
  void stop() { timer_.cancel(); }

 private:
  friend service::Procedure renew(service::FlowPtr flow, Renewal& renewal);
  void wait();
  void again_in(std::chrono::seconds time);
  Parts parts_;
  net::EventLoop::Timer timer_;
};

}  // namespace llorch::hive
