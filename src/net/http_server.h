// An HTTP/1.1 server on the event loop: strict about what it reads, bounded in what it keeps.
//
// Every request head passes check_head() and parse_target() before anything looks at it, and a decision is taken on the
// head alone (who asks, what for, how much) before a byte of the body is read. Limits are checked before reading; each
// read and write has its own timer. Whoever answers gets a Request and an Exchange and answers once: with send(), or
// with start() and then write() until finish(). All calls are on the loop's thread. When the peer is gone, on_gone is
// called (once), and later writes do nothing. A peer that only closes its own direction still gets its answer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/limits.h"
#include "net/event_loop.h"
#include "net/http_types.h"
#include "net/tls.h"

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
  /// The peer sends no more, in the middle of a stream: whether it has left is seen at the next write, which this
  /// makes. Where it is empty, the peer counts as gone.
  std::function<void()> on_half_close;
};
using ExchangePtr = std::shared_ptr<Exchange>;

struct ServerOptions {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;  // 0: the system chooses
  std::size_t head_bytes_max = 16u << 10;
  std::size_t body_bytes_max = 8u << 20;
  std::size_t bodies_bytes_max = limits::kBodiesBytesMax;  // of all that are kept, together: see BodyShare
  int send_buffer_bytes = 256 << 10, receive_buffer_bytes = 256 << 10;
  int connections_max = limits::kConnectionsMax, connections_per_peer_max = limits::kConnectionsPerPeerMax;
  /// Connections on which no right key was shown yet. One more makes the oldest of them give way.
  int strangers_max = limits::kStrangersMax, strangers_per_peer_max = limits::kStrangersPerPeerMax;
  std::chrono::milliseconds head_timeout{10'000}, body_timeout{30'000}, idle_timeout{75'000}, write_timeout{60'000},
      linger_timeout{5'000};
  std::shared_ptr<TlsServer> tls;  // null: plain TCP
  /// For tests: asked before each read and write; true makes it fail.
  std::function<bool()> fault;
};

/// What follows when a head was found good.
struct BodyPlan {
  std::size_t bytes_max = 0;
  bool known = false;  // the peer has shown a right key, or needs none: it is no stranger from now on
  std::function<void(std::string body, BodySharePtr share)> then;
  std::function<Response(const Error&)> refusal = nullptr;  // of a body that is not taken; empty: the server's
};

class HttpServer {
 public:
  using Handler = std::function<void(Request, ExchangePtr)>;
  /// Decides by a request's head; its body is empty yet. Nothing: it was answered, and the body is not read.
  using HeadHandler = std::function<std::optional<BodyPlan>(Request, const ExchangePtr&)>;
  /// Answers what failed before a handler could: a bad head; a body that is too large, unless its plan has an answer.
  using Refusal = std::function<Response(const Error&)>;

  /// Binds and listens. Errors: kIo naming address and port.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> make(EventLoop& loop, ServerOptions options, Handler handler,
                                                                Refusal refusal);
  /// The same for whoever decides by the head.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> make_by_head(EventLoop& loop, ServerOptions options,
                                                                        HeadHandler handler, Refusal refusal);
  ~HttpServer();

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] int connections() const;
  /// What bodies take now, and what was made of them.
  [[nodiscard]] std::size_t bodies_bytes() const;
  /// Accepts no more; idle connections are closed, answers under way go on.
  void stop_accepting();
  void abort_all();
  /// `then` is called once, from the loop, when there is no connection; not any more when the server is gone.
  void when_no_connections(std::function<void()> then);
  /// Connections that are made from now on. The server was made with TLS.
  void set_tls(std::shared_ptr<TlsServer> tls);
  /// Closes connections whose peer has shown such a certificate (in DER).
  void abort_shown(const std::function<bool(const std::string& certificate)>& refused);

  struct Impl;

 private:
  explicit HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace llorch::net
