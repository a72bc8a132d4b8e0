// An HTTP/1.1 server on the event loop: strict about what it reads, bounded in what it keeps.
//
// Every request head passes check_head() and parse_target() before anything looks at it. Limits are checked before
// reading; each read and write has its own timer. A handler gets a Request and an Exchange and answers once: with
// send(), or with start() and then write() until finish(). All calls are on the loop's thread. When the peer is gone,
// on_gone is called (once), and later writes do nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "net/event_loop.h"
#include "net/http_types.h"

namespace llorch::net {

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void send(Response response) = 0;
  /// Begins an answer of unknown length; the connection is closed after it.
  virtual void start(Response head) = 0;
  virtual void write(std::string bytes) = 0;
  virtual void finish() = 0;
  /// Bytes handed over that the peer's socket has not taken yet.
  [[nodiscard]] virtual std::size_t unsent() const = 0;
  /// False once the answer is complete or the peer is gone: callbacks set then would never be called.
  [[nodiscard]] virtual bool alive() const = 0;
  /// Closes at once.
  virtual void abort() = 0;

  std::function<void()> on_gone;   // the peer closed, failed, or took no byte for write_timeout
  std::function<void()> on_drain;  // unsent() has become zero
};
using ExchangePtr = std::shared_ptr<Exchange>;

struct ServerOptions {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;  // 0: the system chooses
  std::size_t head_bytes_max = 16u << 10;
  std::size_t body_bytes_max = 8u << 20;
  int send_buffer_bytes = 256 << 10;
  int connections_max = 4096;
  int connections_per_peer_max = 4096;
  std::chrono::milliseconds head_timeout{10'000}, body_timeout{30'000}, idle_timeout{75'000}, write_timeout{60'000};
  std::string tls_certificate, tls_key;  // PEM files; empty: plain TCP
  /// For tests: asked before each read and write; true makes it fail.
  std::function<bool()> fault;
};

class HttpServer {
 public:
  using Handler = std::function<void(Request, ExchangePtr)>;
  /// Answers what failed before a handler could: bad head, too large, unsupported encoding.
  using Refusal = std::function<Response(const Error&)>;

  /// Binds and listens. Errors: kIo naming address and port; kInvalidRequest for TLS files that cannot be used.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> make(EventLoop& loop, ServerOptions options, Handler handler,
                                                                Refusal refusal);
  ~HttpServer();

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] int connections() const;
  /// Accepts no more; idle connections are closed, answers under way go on.
  void stop_accepting();
  void abort_all();

  struct Impl;

 private:
  explicit HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace llorch::net
