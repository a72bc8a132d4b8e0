// For tests: a server on a thread of its own, and a client that is no more than a socket.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "net/http_server.h"

namespace llorch::net {

/// A client's socket; everything has a limit of five seconds.
class Raw {
 public:
  explicit Raw(std::uint16_t port, const char* from = "127.0.0.1") : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    inet_pton(AF_INET, from, &at.sin_addr);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    at.sin_port = htons(port);
    const timeval limit{5, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  }
  ~Raw() { close(fd_); }
  Raw(const Raw&) = delete;
  Raw& operator=(const Raw&) = delete;
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// The system keeps little for it: soon nothing more can be sent.
  void narrow() const {
    const int bytes = 16 << 10;
    const timeval limit{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  void no_more() const { shutdown(fd_, SHUT_WR); }
  /// Until the end, or until `text` has come.
  std::string read(std::string_view text = {}) {
    char part[65'536];
    while (text.empty() || !in_.contains(text)) {
      const ssize_t n = recv(fd_, part, sizeof part, 0);
      late_ = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
      if (n <= 0) break;
      in_.append(part, static_cast<std::size_t>(n));
    }
    return in_;
  }
  /// Whether the last read() ended because nothing came in time.
  [[nodiscard]] bool late() const { return late_; }

 private:
  int fd_;
  std::string in_;
  bool late_ = false;
};

inline constexpr std::string_view kKey = "X-Key: right\r\n";

inline constexpr std::size_t kWholeMax = 8u << 20;  // of a body for /whole, whose answer is its hash
inline std::size_t hash(std::string_view body) { return std::hash<std::string_view>()(body); }
inline std::string numbers(std::size_t size) {
  std::string text;
  while (text.size() < size) text += fmt::format("{} ", text.size());
  return text.substr(0, size);
}

/// Takes "X-Key: right"; answers with the length of the body, or after `slow`, or a long text.
class Server {
 public:
  explicit Server(ServerOptions options = {}) {
    auto made = HttpServer::make_by_head(
        loop_, std::move(options), [this](Request r, const ExchangePtr& e) { return head(std::move(r), e); },
        [](const Error& e) {
          return Response{kind(e.code).http_status, "text/plain", e.message, {}};
        });
    EXPECT_TRUE(made) << made.error().message;
    server_ = *std::move(made);
    port = server_->port();
    loop_.on_fault = [this](const char* what) { EXPECT_TRUE(faults_expected) << what; };
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Server() {
    loop_.post([this] { timer_.cancel(), server_.reset(), loop_.post([this] { loop_.stop(); }); });
    thread_.join();
  }
  std::uint16_t port = 0;
  std::atomic<int> bodies{0}, gone{0};
  std::atomic<bool> faults_expected = false;
  /// On the loop, and waits for it.
  void on_loop(const std::function<void(HttpServer&)>& what) {
    std::promise<void> done;
    loop_.post([&] { what(*server_), done.set_value(); });
    done.get_future().wait();
  }
  /// Whether the last connection ends soon.
  bool all_leave() {
    auto none = std::make_shared<std::promise<void>>();
    on_loop([&](HttpServer& s) { s.when_no_connections([none] { none->set_value(); }); });
    return none->get_future().wait_for(std::chrono::seconds(5)) == std::future_status::ready;
  }
  std::vector<BodySharePtr> kept;  // of requests for /keep and /stream; the loop's

 private:
  std::optional<BodyPlan> head(Request r, const ExchangePtr& e) {
    if (r.headers.get("X-Key") != "right") return e->send({401, "text/plain", "no key", {}}), std::nullopt;
    return BodyPlan{
        r.target.path == "/whole" ? kWholeMax : 1000, true,
        [this, e, path = r.target.path](std::string body, BodySharePtr share) {
          ++bodies;
          if (path == "/whole") return e->send({200, "text/plain", fmt::format("{} ", hash(body)), {}});
          if (path == "/keep") kept.push_back(std::move(share));
          if (path == "/stream") {
            kept.push_back(std::move(share));
            e->start({200, "text/plain", "", {}});
            return e->write("begun");
          }
          if (path == "/later") return answer_later(e);
          if (path == "/page") return e->send({200, "", std::string(100'000, '#'), {}});
          if (path == "/long") return e->send({200, "text/plain", std::string(8u << 20, 'y'), {}});
          if (path != "/slow") return e->send({200, "text/plain", std::to_string(body.size()), {}});
          e->on_gone = [this] { ++gone; };
          timer_ = loop_.after(std::chrono::milliseconds(200), [e] { e->send({200, "text/plain", "at last", {}}); });
        }};
  }
  /// In two parts, of turns of their own, from somebody who expects no exception.
  void answer_later(const ExchangePtr& e) {
    loop_.post([e, part = std::string(100, 'a')]() mutable {
      e->start({200, "text/plain", "", {}});
      e->write(std::move(part));
    });
    loop_.post([e, part = std::string(200'000, 'b')]() mutable {
      e->write(std::move(part));
      e->finish();
    });
  }
  EventLoop loop_;
  EventLoop::Timer timer_;
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

inline std::string post(std::string_view headers, std::string_view body, std::string_view path = "/") {
  return "POST " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n" + std::string(headers) + "\r\n" + std::string(body);
}

}  // namespace llorch::net
