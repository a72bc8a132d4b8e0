// For tests: a relay of TCP in front of a server, whose connections can be cut or frozen at any moment.
#pragma once

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace llorch::coord {

class TestProxy {
 public:
  explicit TestProxy(std::uint16_t to) : to_(to), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at = loopback(0);
    socklen_t size = sizeof at;
    bind(listener_, reinterpret_cast<sockaddr*>(&at), size);
    listen(listener_, 64);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
    port = ntohs(at.sin_port);
    threads_.emplace_back([this] { accept_all(); });
  }
  ~TestProxy() {
    closing_ = true;
    cut();
    shutdown(listener_, SHUT_RDWR);
    for (std::size_t i = 0;; ++i) {
      std::thread thread;
      {
        const std::lock_guard lock(mutex_);
        if (i == threads_.size()) break;
        thread = std::move(threads_[i]);
      }
      thread.join();
    }
    close(listener_);
  }
  TestProxy(const TestProxy&) = delete;
  TestProxy& operator=(const TestProxy&) = delete;

  /// Every connection that is open now ends.
  void cut() {
    const std::lock_guard lock(mutex_);
    for (const int fd : open_) shutdown(fd, SHUT_RDWR);
  }
  std::atomic<bool> frozen = false;  // nothing is passed on, and nobody hears of it
  /// Of answers: so many bytes are passed on, then the connection is cut; once. Negative: never.
  std::atomic<long> answer_bytes_left = -1;
  std::uint16_t port = 0;

 private:
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in at{};
    at.sin_family = AF_INET, at.sin_port = htons(port), at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
  }
  void accept_all() {
    while (!closing_) {
      const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) continue;
      const std::lock_guard lock(mutex_);
      threads_.emplace_back([this, client] { relay(client); });
    }
  }
  void relay(int client) {
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    {
      const std::lock_guard lock(mutex_);
      open_.insert(client), open_.insert(server);
    }
    const sockaddr_in at = loopback(to_);
    if (connect(server, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0)
      while (!closing_ && pass_on(client, server)) {
      }
    const std::lock_guard lock(mutex_);
    open_.erase(client), open_.erase(server);
    close(client), close(server);
  }
  bool pass_on(int client, int server) {
    pollfd fds[] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    if (frozen) return (void)poll(nullptr, 0, 10), true;
    if (poll(fds, 2, 50) < 0) return false;
    char bytes[16'384];
    for (int i = 0; i < 2; ++i) {
      if (!fds[i].revents || frozen) continue;
      ssize_t n = recv(fds[i].fd, bytes, sizeof bytes, 0);
      if (n <= 0) return false;
      bool last = false;
      if (i == 1 && answer_bytes_left >= 0) last = (n = std::min<ssize_t>(n, answer_bytes_left.exchange(-1))) >= 0;
      if (n > 0 && send(fds[1 - i].fd, bytes, static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) return false;
      if (last) return false;
    }
    return true;
  }

  const std::uint16_t to_;
  int listener_;
  std::atomic<bool> closing_ = false;
  std::mutex mutex_;
  std::set<int> open_;
  std::vector<std::thread> threads_;
};

}  // namespace llorch::coord
