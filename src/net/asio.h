// For the files of this module only: Asio and Beast, and what the loop is made of.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <thread>

#include "net/event_loop.h"

namespace llorch::net {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;

class CurlLoop;
class Inbox;
class Resolver;

struct EventLoop::Impl {
  explicit Impl(EventLoop& loop);
  ~Impl();
  /// Both are made when they are first asked for.
  [[nodiscard]] std::shared_ptr<CurlLoop> curl_loop();
  /// Connections that are idle close; calls from now on use none of those that are there.
  void leave_connections();
  [[nodiscard]] Resolver& resolver();

  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::signal_set signals{io};
  std::atomic<std::thread::id> thread{};
  std::unique_ptr<Inbox> inbox;

 private:
  std::unique_ptr<Resolver> resolver_;
  std::shared_ptr<CurlLoop> curl_loop_;
  std::vector<std::shared_ptr<CurlLoop>> left_;  // calls that began before go on
};

}  // namespace llorch::net
