#include "net/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <boost/asio/ssl.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <charconv>
#include <map>
#include <set>

#include "base/thread_role.h"
#include "net/asio.h"

namespace llorch::net {
namespace {

namespace http = boost::beast::http;
namespace ssl = asio::ssl;

constexpr std::size_t kReadBytes = 16u << 10, kPipelinedBytesMax = 64u << 10, kTellDrained = 4096;

std::string_view reason(int status) {
  return http::obsolete_reason(static_cast<http::status>(status)).empty()
             ? "Unknown"
             : std::string_view(http::obsolete_reason(static_cast<http::status>(status)));
}

std::string head_text(const Response& r, std::string_view framing, bool keep_alive) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", r.status, reason(r.status));
  const auto field = [&](std::string_view name, std::string_view value) {
    if (value.find_first_of("\r\n") == std::string_view::npos) head += fmt::format("{}: {}\r\n", name, value);
  };
  if (!r.content_type.empty()) field("Content-Type", r.content_type);
  for (const auto& [name, value] : r.headers.fields()) field(name, value);
  head += framing;
  head += keep_alive ? "\r\n" : "Connection: close\r\n\r\n";
  return head;
}

}  // namespace

class Connection;

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Impl(EventLoop& l, ServerOptions o, Handler h, Refusal r)
      : loop(l),
        options(std::move(o)),
        handler(std::move(h)),
        refusal(std::move(r)),
        acceptor(l.impl().io),
        pause(l.impl().io) {}

  asio::awaitable<void> accept();

  EventLoop& loop;
  ServerOptions options;
  Handler handler;  // empty once the server is gone
  Refusal refusal;
  tcp::acceptor acceptor;
  asio::steady_timer pause;
  std::unique_ptr<ssl::context> tls;
  std::set<Connection*> connections;
  std::map<std::string, int> per_peer;
};

/// One TCP connection: reads requests one after another, hands each to the handler, writes what it answers.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<HttpServer::Impl> server, tcp::socket socket, std::string peer, std::string local)
      : server_(std::move(server)),
        peer_(std::move(peer)),
        local_(std::move(local)),
        timer_(socket.get_executor()),
        write_timer_(socket.get_executor()) {
    if (server_->tls)
      secure_ = std::make_unique<ssl::stream<tcp::socket>>(std::move(socket), *server_->tls);
    else
      plain_ = std::make_unique<tcp::socket>(std::move(socket));
    server_->connections.insert(this);
    ++server_->per_peer[peer_];
  }
  ~Connection() {
    server_->connections.erase(this);
    if (--server_->per_peer[peer_] == 0) server_->per_peer.erase(peer_);
  }

  asio::awaitable<void> run();
  void close() {
    if (std::exchange(closed_, true)) return;
    timer_.cancel();
    write_timer_.cancel();
    error_code ignored;
    (void)socket().shutdown(tcp::socket::shutdown_both, ignored);
    (void)socket().close(ignored);
    gone();
  }
  [[nodiscard]] bool idle() const { return !turn_; }

 private:
  friend struct HttpServer::Impl;
  struct Turn;  // one request and its answer

  tcp::socket& socket() { return plain_ ? *plain_ : secure_->next_layer(); }
  [[nodiscard]] bool fault() const { return server_->options.fault && server_->options.fault(); }
  void gone();
  void arm(std::chrono::milliseconds timeout);
  asio::awaitable<bool> read_more();
  asio::awaitable<bool> read_head();
  asio::awaitable<bool> read_body(http::request_parser<http::string_body>& parser);
  asio::awaitable<bool> request();
  void dispatch(http::request_parser<http::string_body>& parser, Target target);
  void refuse(const Error& error);
  void queue(std::string_view bytes);
  void pump();
  void drained();
  void later(void (*what)(Connection&));
  void turn_done(bool close_after);

  std::shared_ptr<HttpServer::Impl> server_;
  std::string peer_, local_;
  std::unique_ptr<tcp::socket> plain_;
  std::unique_ptr<ssl::stream<tcp::socket>> secure_;
  asio::steady_timer timer_, write_timer_;
  std::string in_, out_, sending_;
  std::size_t sent_ = 0;
  bool reading_ = false, woken_ = false;
  bool writing_ = false, closed_ = false, close_after_ = false, keep_alive_ = true, old_client_ = false,
       head_only_ = false;
  std::shared_ptr<Turn> turn_;
};

struct Connection::Turn final : Exchange {
  explicit Turn(std::shared_ptr<Connection> c) : connection(std::move(c)) {}
  void send(Response r) override {
    if (!connection) return;
    const bool keep = connection->keep_alive_;
    std::string bytes = head_text(r, fmt::format("Content-Length: {}\r\n", r.body.size()), keep);
    if (!connection->head_only_) bytes += r.body;
    connection->queue(bytes);
    end(!keep);
  }
  void start(Response r) override {
    if (!connection) return;
    chunked = !connection->old_client_;
    connection->queue(head_text(r, chunked ? "Transfer-Encoding: chunked\r\n" : "", false));
  }
  void write(std::string bytes) override {
    if (!connection || bytes.empty() || connection->head_only_) return;
    if (!chunked) return connection->queue(bytes);
    char size[20];
    const auto end = std::to_chars(size, size + 18, bytes.size(), 16).ptr;
    end[0] = '\r', end[1] = '\n';
    bytes.insert(0, size, static_cast<std::size_t>(end + 2 - size));
    connection->queue(bytes += "\r\n");
  }
  void finish() override {
    if (!connection) return;
    if (chunked && !connection->head_only_) connection->queue("0\r\n\r\n");
    end(true);
  }
  [[nodiscard]] std::size_t unsent() const override {
    return connection ? connection->out_.size() + connection->sending_.size() - connection->sent_ : 0;
  }
  [[nodiscard]] bool alive() const override { return connection != nullptr; }
  void abort() override {
    if (connection) std::shared_ptr(connection)->close();
  }
  void end(bool close) {
    const auto c = std::exchange(connection, nullptr);
    if (!c) return;  // what was queued just now could not be written
    on_gone = nullptr, on_drain = nullptr;
    c->turn_done(close);
  }
  std::shared_ptr<Connection> connection;  // until the answer is complete
  bool chunked = false;
};

void Connection::gone() {
  const auto turn = std::exchange(turn_, nullptr);
  if (!turn) return;
  const auto keep = std::exchange(turn->connection, nullptr);
  const auto told = std::exchange(turn->on_gone, nullptr);
  turn->on_drain = nullptr;
  if (told) told();
}

/// One timer for what is read; when it fires the connection is closed.
void Connection::arm(std::chrono::milliseconds timeout) {
  timer_.expires_after(timeout);
  timer_.async_wait([weak = weak_from_this()](const error_code& problem) {
    const auto self = weak.lock();
    if (!problem && self) self->close();
  });
}

asio::awaitable<bool> Connection::read_more() {
  assert_may_serve();
  if (closed_ || fault()) co_return false;
  std::array<char, kReadBytes> bytes;  // NOLINT
  error_code problem;
  std::size_t n = 0;
  reading_ = true;
  if (plain_)
    std::tie(problem, n) = co_await plain_->async_read_some(asio::buffer(bytes), kTuple);
  else
    std::tie(problem, n) = co_await secure_->async_read_some(asio::buffer(bytes), kTuple);
  reading_ = false;
  const bool woken = std::exchange(woken_, false) && problem == asio::error::operation_aborted;
  if ((problem && !woken) || closed_) co_return false;
  in_.append(bytes.data(), n);
  co_return true;
}

asio::awaitable<void> Connection::run() {
  const auto self = shared_from_this();
  if (secure_) {
    arm(server_->options.head_timeout);
    const auto [problem] = co_await secure_->async_handshake(ssl::stream_base::server, kTuple);
    if (problem) co_return close();
  }
  while (!closed_ && co_await request()) {
    while (turn_ && !closed_) {  // watch for the peer leaving while the answer is made
      if (in_.size() > kPipelinedBytesMax) co_return close();
      if (!co_await read_more()) co_return close();
    }
    if (close_after_) break;
  }
  // What has been queued still goes out; pump() closes when it is done.
  close_after_ = true;
  if (!writing_ && out_.empty()) close();
}

asio::awaitable<bool> Connection::read_head() {
  const ServerOptions& o = server_->options;
  if (in_.empty()) {
    arm(o.idle_timeout);
    if (!co_await read_more()) co_return close(), false;
  }
  arm(o.head_timeout);  // for the whole head: a byte now and then does not help
  std::size_t end;
  while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
    if (in_.size() > o.head_bytes_max)
      co_return refuse(
          {ErrorCode::kHeadersTooLarge, fmt::format("the request head exceeds {} bytes", o.head_bytes_max)}),
          false;
    if (!co_await read_more()) co_return close(), false;
  }
  if (end + 4 > o.head_bytes_max)
    co_return refuse({ErrorCode::kHeadersTooLarge, fmt::format("the request head exceeds {} bytes", o.head_bytes_max)}),
        false;
  if (const Status checked = check_head(std::string_view(in_).substr(0, end + 4)); !checked)
    co_return refuse(checked.error()), false;
  co_return true;
}

/// Feeds the parser until it is done. False: refused or closed.
asio::awaitable<bool> Connection::read_body(http::request_parser<http::string_body>& parser) {
  const ServerOptions& o = server_->options;
  arm(o.body_timeout);
  bool head_seen = false;
  while (true) {
    error_code problem;
    while (!in_.empty() && !parser.is_done()) {
      const std::size_t used = parser.put(asio::buffer(in_), problem);
      in_.erase(0, used);
      if (problem || used == 0) break;
    }
    if (problem == http::error::need_more) problem = {};
    if (problem == http::error::body_limit)
      co_return refuse({ErrorCode::kPayloadTooLarge, fmt::format("the body exceeds {} bytes", o.body_bytes_max)}),
          false;
    if (problem) co_return refuse({ErrorCode::kInvalidRequest, "the request is not valid HTTP/1.1"}), false;
    if (!head_seen && parser.is_header_done()) {
      head_seen = true;
      const auto& m = parser.get();
      old_client_ = m.version() < 11;
      if (m.find(http::field::content_encoding) != m.end())
        co_return refuse({ErrorCode::kUnsupportedMediaType, "compressed bodies are not accepted"}), false;
      if (const auto length = parser.content_length(); length && *length > o.body_bytes_max)
        co_return refuse({ErrorCode::kPayloadTooLarge, fmt::format("the body exceeds {} bytes", o.body_bytes_max)}),
            false;
      if (!parser.is_done() && m[http::field::expect] == "100-continue") queue("HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (parser.is_done()) co_return true;
    if (in_.size() > kPipelinedBytesMax)
      co_return refuse({ErrorCode::kInvalidRequest, "a chunk head or trailer is too long"}), false;
    if (!co_await read_more()) co_return close(), false;
  }
}

asio::awaitable<bool> Connection::request() {
  if (!co_await read_head()) co_return false;
  http::request_parser<http::string_body> parser;
  parser.eager(true);
  parser.header_limit(static_cast<std::uint32_t>(server_->options.head_bytes_max + 1024));
  parser.body_limit(server_->options.body_bytes_max);
  auto no_extensions = [](std::uint64_t, boost::beast::string_view extensions, error_code& problem) {
    if (!extensions.empty()) problem = http::error::bad_chunk_extension;
  };
  parser.on_chunk_header(no_extensions);
  if (!co_await read_body(parser)) co_return false;
  timer_.cancel();
  const auto text = parser.get().target();
  Result<Target> target = parse_target({text.data(), text.size()});
  if (!target) co_return refuse(target.error()), false;
  dispatch(parser, *std::move(target));
  co_return true;
}

void Connection::dispatch(http::request_parser<http::string_body>& parser, Target target) {
  auto message = parser.release();
  keep_alive_ = message.keep_alive();
  Request r;
  r.method = std::string(message.method_string());
  head_only_ = r.method == "HEAD";
  r.target = std::move(target);
  for (const auto& field : message) r.headers.add(std::string(field.name_string()), std::string(field.value()));
  r.body = std::move(message.body());
  r.peer = peer_, r.local = local_;
  turn_ = std::make_shared<Turn>(shared_from_this());
  const ExchangePtr turn = turn_;
  if (server_->handler)
    server_->handler(std::move(r), turn);
  else
    turn->abort();
}

void Connection::refuse(const Error& error) {
  timer_.cancel();
  Response r = server_->refusal(error);
  queue(head_text(r, fmt::format("Content-Length: {}\r\n", r.body.size()), false) + r.body);
  close_after_ = true;
}

void Connection::turn_done(bool close_after) {
  turn_.reset();
  if (close_after) close_after_ = true;
  if (close_after_ && !writing_ && out_.empty()) return close();
  if (close_after_) return;
  arm(server_->options.idle_timeout);
  if (in_.empty() || !reading_) return;
  woken_ = true;  // the next request is here already: the read that watched the peer is called off
  error_code ignored;
  (void)socket().cancel(ignored);
}

void Connection::queue(std::string_view bytes) {
  if (closed_) return;
  out_ += bytes;
  pump();
}

/// What the system takes at once costs one call; only what it does not take waits, under a timer.
void Connection::pump() {
  assert_may_serve();
  while (!writing_ && !closed_) {
    if (sent_ == sending_.size()) {
      sending_.clear();
      sent_ = 0;
      sending_.swap(out_);
      if (sending_.empty()) {
        if (close_after_ && !turn_) close();
        return;
      }
    }
    if (fault()) return close();
    const auto bytes = asio::buffer(sending_.data() + sent_, sending_.size() - sent_);
    error_code problem = asio::error::would_block;
    if (plain_) {
      const std::size_t n = plain_->write_some(bytes, problem);
      sent_ += n;
      if (!problem && n >= kTellDrained) later([](Connection& c) { c.drained(); });
      if (!problem) continue;
    }
    writing_ = true;
    // Nobody who writes expects the connection to close inside.
    if (problem != asio::error::would_block && problem != asio::error::try_again)
      return later([](Connection& c) { c.close(); });
    write_timer_.expires_after(server_->options.write_timeout);
    write_timer_.async_wait([weak = weak_from_this()](const error_code& expired) {
      const auto self = weak.lock();
      if (!expired && self) self->close();
    });
    auto written = [self = shared_from_this()](const error_code& failed, std::size_t n) {
      self->writing_ = false;
      self->write_timer_.cancel();
      if (failed) return self->close();
      self->sent_ += n;
      self->drained();
      self->pump();
    };
    if (plain_)
      plain_->async_write_some(bytes, std::move(written));
    else
      secure_->async_write_some(bytes, std::move(written));
  }
}

/// Whoever held back until everything was sent may go on.
void Connection::drained() {
  const auto turn = turn_;
  if (sent_ != sending_.size() || !out_.empty() || !turn || !turn->on_drain) return;
  const auto told = turn->on_drain;  // a copy: the call may end the turn
  told();
}

void Connection::later(void (*what)(Connection&)) {
  asio::post(timer_.get_executor(), [weak = weak_from_this(), what] {
    if (const auto self = weak.lock()) what(*self);
  });
}

asio::awaitable<void> HttpServer::Impl::accept() {
  const auto self = shared_from_this();
  while (acceptor.is_open()) {
    auto [problem, socket] = co_await acceptor.async_accept(kTuple);
    if (!acceptor.is_open()) co_return;
    if (problem) {  // out of descriptors, or a peer that left: go on a little later
      pause.expires_after(std::chrono::milliseconds(20));
      co_await pause.async_wait(kTuple);
      continue;
    }
    error_code ignored;
    const auto remote = socket.remote_endpoint(ignored);
    const std::string peer = remote.address().to_string(ignored);
    const auto count = per_peer.find(peer);
    if (static_cast<int>(connections.size()) >= options.connections_max ||
        (count != per_peer.end() && count->second >= options.connections_per_peer_max))
      continue;
    (void)socket.set_option(tcp::no_delay(true), ignored);
    (void)socket.non_blocking(true, ignored);  // what is not taken at once comes back, see pump()
    // Or the system would hold megabytes for each peer that reads nothing.
    (void)socket.set_option(asio::socket_base::send_buffer_size(options.send_buffer_bytes), ignored);
    const std::string local = socket.local_endpoint(ignored).address().to_string(ignored);
    const auto connection = std::make_shared<Connection>(self, std::move(socket), peer, local);
    asio::co_spawn(
        acceptor.get_executor(), [connection]() { return connection->run(); }, asio::detached);
  }
}

Result<std::unique_ptr<HttpServer>> HttpServer::make(EventLoop& loop, ServerOptions options, Handler handler,
                                                     Refusal refusal) {
  auto impl = std::make_shared<Impl>(loop, std::move(options), std::move(handler), std::move(refusal));
  const ServerOptions& o = impl->options;
  error_code problem;
  if (!o.tls_certificate.empty()) {
    impl->tls = std::make_unique<ssl::context>(ssl::context::tls_server);
    SSL_CTX_set_min_proto_version(impl->tls->native_handle(), TLS1_2_VERSION);
    (void)impl->tls->use_certificate_chain_file(o.tls_certificate, problem);
    if (problem)
      return fail(ErrorCode::kInvalidRequest, "--tls-cert: cannot use {}: {}", o.tls_certificate, problem.message());
    (void)impl->tls->use_private_key_file(o.tls_key, ssl::context::pem, problem);
    if (problem) return fail(ErrorCode::kInvalidRequest, "--tls-key: cannot use {}: {}", o.tls_key, problem.message());
  }
  const auto address = asio::ip::make_address(o.address, problem);
  if (problem) return fail(ErrorCode::kInvalidRequest, "{} is not an address", o.address);
  const tcp::endpoint endpoint(address, o.port);
  (void)impl->acceptor.open(endpoint.protocol(), problem);
  if (!problem) (void)impl->acceptor.set_option(asio::socket_base::reuse_address(true), problem);
  if (!problem) (void)impl->acceptor.bind(endpoint, problem);
  if (!problem) (void)impl->acceptor.listen(1024, problem);
  if (problem) return fail(ErrorCode::kIo, "cannot listen on {}:{}: {}", o.address, o.port, problem.message());
  asio::co_spawn(
      loop.impl().io, [impl]() { return impl->accept(); }, asio::detached);
  return std::unique_ptr<HttpServer>(new HttpServer(impl));
}

HttpServer::~HttpServer() {
  stop_accepting();
  impl_->handler = nullptr;
  abort_all();
}
std::uint16_t HttpServer::port() const {
  error_code ignored;
  return impl_->acceptor.local_endpoint(ignored).port();
}
int HttpServer::connections() const { return static_cast<int>(impl_->connections.size()); }

void HttpServer::stop_accepting() {
  error_code ignored;
  (void)impl_->acceptor.close(ignored);
  impl_->pause.cancel();
  const auto all = impl_->connections;
  for (Connection* c : all)
    if (c->idle()) c->shared_from_this()->close();
}

void HttpServer::abort_all() {
  const auto all = impl_->connections;
  for (Connection* c : all)
    if (const auto alive = c->weak_from_this().lock()) alive->close();
}

}  // namespace llorch::net
