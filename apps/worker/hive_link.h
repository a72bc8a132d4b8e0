// What a worker tells the hive that started it: once that it is ready, and again and again that it lives (W-30).
//
// Threads: the event loop's.
#pragma once

#include <boost/json.hpp>
#include <functional>
#include <string>

#include "net/http_client.h"
#include "service/front.h"

namespace llorch::worker {

class HiveLink {
 public:
  struct Options {
    std::string hive_url, callback_url;  // either may be empty
    std::string tls_name;                // what the hive must prove to be, over https; empty: the URL's host
    std::chrono::seconds interval{30};
  };
  HiveLink(net::EventLoop& loop, service::Front& front, Options options)
      : loop_(loop), front_(front), options_(std::move(options)) {}

  /// Errors: kInvalidRequest for addresses that are none.
  [[nodiscard]] Status check() const;
  /// The callback, where there is one; `then` gets its outcome.
  void report_ready(boost::json::object report, std::function<void(Status)> then);
  /// Sends what `report` gives from now on.
  void start_heartbeats(std::function<boost::json::object()> report);
  void stop() { timer_.cancel(); }

 private:
  [[nodiscard]] net::Call post(net::Url url, boost::json::object body, std::function<void(Status)> then);
  void beat();

  net::EventLoop& loop_;
  service::Front& front_;
  Options options_;
  std::function<boost::json::object()> report_;
  net::Call callback_call_, beat_call_;
  net::EventLoop::Timer timer_;
  int failures_ = 0;
};

}  // namespace llorch::worker
