// libcurl's multi interface on the event loop: curl says which sockets and times it waits for, the loop tells it when.
//
// For the files of this module only. Everything happens on the loop's thread. Sockets are curl's, which opens and
// closes them; an epoll instance watches them, and the loop watches that. What a transfer brings is kept by its owner
// while curl runs and told afterwards (Transfer::deliver): no callback of ours' users runs inside curl, where handles
// must neither be added nor removed.
#pragma once

#include <curl/curl.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "net/asio.h"

namespace llorch::net {

/// One request in curl's hands. Destroy it only after CurlLoop::remove().
class Transfer {
 public:
  virtual ~Transfer() = default;
  /// Tells what has arrived since the last time. May destroy the transfer's owner.
  virtual void deliver() = 0;
  /// It begins to connect: it waited for others, or did not have to.
  virtual void begun() = 0;
  /// The transfer is over, and curl no longer has it.
  virtual void finish(CURLcode outcome) = 0;
  [[nodiscard]] virtual CURL* handle() const = 0;
  /// Host and port: of those to one place only so many connect at a time.
  [[nodiscard]] virtual std::string destination() const = 0;
};

class CurlLoop : public std::enable_shared_from_this<CurlLoop> {
 public:
  explicit CurlLoop(asio::io_context& io);
  ~CurlLoop();
  CurlLoop(const CurlLoop&) = delete;
  CurlLoop& operator=(const CurlLoop&) = delete;

  /// Starts a transfer whose handle has its options set; sets CURLOPT_PRIVATE and those of sockets. It waits while
  /// kConnectingMax others connect to the same place: a server that sees a thousand handshakes begin at once can finish
  /// none of them in time, and takes them for a flood. False: curl has no memory for it.
  [[nodiscard]] bool add(const std::shared_ptr<Transfer>& transfer);
  /// Ends a transfer without a word. Does nothing for one that is over.
  void remove(const Transfer& transfer);
  /// From within curl: this transfer has its connection.
  void connected(const Transfer& transfer);
  /// From within curl: this transfer has something to deliver.
  void has_news(Transfer& transfer);
  [[nodiscard]] bool idle() const { return running_.empty(); }

 private:
  static curl_socket_t open_socket(void* self, curlsocktype purpose, curl_sockaddr* address);
  static int watch_socket(CURL* easy, curl_socket_t fd, int what, void* self, void* unused);
  static int set_timer(CURLM* multi, long milliseconds, void* self);
  void wait() noexcept;
  void serve_ready();
  void act(curl_socket_t fd, int events);
  void tell();
  [[nodiscard]] bool begin(Transfer& transfer);
  void begin_waiting();

  static constexpr std::size_t kConnectingMax = 64;
  struct Place {  // never empty
    std::unordered_set<const Transfer*> connecting;
    std::list<std::weak_ptr<Transfer>> waiting;
  };
  asio::io_context& io_;
  CURLM* multi_ = nullptr;
  asio::posix::stream_descriptor ready_;  // an epoll instance: readable where one of its sockets is ready
  bool waits_ = false;
  asio::steady_timer timer_;
  std::unordered_map<const Transfer*, std::shared_ptr<Transfer>> running_;
  std::unordered_map<std::string, Place> places_;
  std::vector<std::shared_ptr<Transfer>> news_;
};

}  // namespace llorch::net
