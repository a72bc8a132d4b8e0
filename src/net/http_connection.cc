#include "net/http_connection.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "base/large_block.h"
#include "base/thread_role.h"

namespace llorch::net {
namespace {

constexpr std::size_t kPipelinedBytesMax = 64u << 10, kLongBodyBytes = 256u << 10;
/// Of answers that the peer has not taken: beyond it, the connection's next request waits.
constexpr std::size_t kAnswersBytesMax = 64u << 10;

std::string_view reason(int status) {
  const auto text = http::obsolete_reason(static_cast<http::status>(status));
  return text.empty() ? std::string_view("Unknown") : std::string_view(text.data(), text.size());
}

/// How long the body is. A 204 has none, and must not say so (RFC 9110, section 8.6).
std::string length_of(const Response& r) {
  return r.status == 204 ? "" : fmt::format("Content-Length: {}\r\n", r.body.size());
}

std::string head_text(const Response& r, std::string_view framing, bool keep_alive) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", r.status, reason(r.status));
  // What others wrote may stand in a value: a character that could end the line, or confuse a reader, is left out.
  const auto field = [&](std::string_view name, std::string_view value) {
    head.append(name).append(": ");
    for (const char c : value)
      if ((static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) || c == '\t') head += c;
    head += "\r\n";
  };
  if (!r.content_type.empty()) field("Content-Type", r.content_type);
  for (const auto& [name, value] : r.headers.fields()) field(name, value);
  head += framing;
  head += keep_alive ? "\r\n" : "Connection: close\r\n\r\n";
  return head;
}

Error too_large(std::size_t bytes_max) {
  return {ErrorCode::kPayloadTooLarge, fmt::format("the body exceeds {} bytes", bytes_max)};
}

Error no_memory_for_body() {
  return {ErrorCode::kQueueFull, "the bodies of other requests take all memory that there is for them"};
}

}  // namespace

struct Connection::Turn final : Exchange {
  explicit Turn(std::shared_ptr<Connection> c) : connection(std::move(c)) {}
  void send(Response r) override {
    if (!connection) return;
    started = true;
    const bool keep = connection->keep_alive_;
    queue([&] {
      std::string bytes = head_text(r, length_of(r), keep);
      if (!connection->head_only_) bytes += r.body;
      return bytes;
    });
    end(!keep);
  }
  void start(Response r) override {
    if (!connection) return;
    started = true;
    chunked = !connection->old_client_;
    connection->expect_small_writes();
    queue([&] { return head_text(r, chunked ? "Transfer-Encoding: chunked\r\n" : "", false); });
    if (!connection) return;  // that could not be written
    if (connection->eof_) connection->later([](Connection& c) { c.half_closed(); });
  }
  void write(std::string bytes) override {
    if (!connection || bytes.empty() || connection->head_only_) return;
    if (!chunked) return connection->queue(bytes);
    queue([&] {
      char size[20];
      const auto end = std::to_chars(size, size + 18, bytes.size(), 16).ptr;
      end[0] = '\r', end[1] = '\n';
      bytes.insert(0, size, static_cast<std::size_t>(end + 2 - size));
      return std::move(bytes += "\r\n");
    });
  }
  void finish() override {
    if (!connection) return;
    if (chunked && !connection->head_only_) connection->queue("0\r\n\r\n");
    end(true);
  }
  [[nodiscard]] std::size_t unsent() const override {
    if (!connection) return 0;
    return connection->unsent();
  }
  /// What `make` makes; without memory for it the connection ends.
  template<class Make>
  void queue(Make make) {
    try {
      connection->queue(make());
    } catch (const std::exception&) {
      connection->give_up();
    }
  }
  [[nodiscard]] bool alive() const override { return connection != nullptr; }
  void abort() override {
    if (connection) std::shared_ptr(connection)->close();
  }
  void end(bool close) {
    const auto c = std::exchange(connection, nullptr);
    if (!c) return;  // what was queued just now could not be written
    on_gone = nullptr, on_drain = nullptr, on_half_close = nullptr;
    c->turn_done(close);
  }
  std::shared_ptr<Connection> connection;  // until the answer is complete
  bool chunked = false, started = false;
};

Connection::Connection(std::shared_ptr<HttpServer::Impl> server, tcp::socket socket, std::string peer,
                       std::string local)
    : server_(std::move(server)),
      peer_(std::move(peer)),
      local_(std::move(local)),
      id_(server_->next_id++),
      tls_(server_->options.tls),
      timer_(socket.get_executor()),
      write_timer_(socket.get_executor()),
      event_(socket.get_executor()) {
  if (tls_)
    secure_ = std::make_unique<ssl::stream<Outbox>>(std::move(socket), tls_->state().people);
  else
    plain_ = std::make_unique<tcp::socket>(std::move(socket));
}

/// No part of the constructor: the destructor takes back what was done before this throws.
void Connection::enlist() {
  auto& p = server_->peers[peer_];
  ++p.connections, listed_ = true;
  ++p.strangers, stranger_ = true;
  server_->connections.emplace(id_, this);
  server_->strangers.emplace(id_, this);
}

Connection::~Connection() {
  known();
  server_->connections.erase(id_);
  if (listed_ && --server_->peers[peer_].connections == 0) server_->peers.erase(peer_);
  server_->report_last_gone();
}

/// Of an answer that comes word by word. Asio has OpenSSL take and free 16 KB for each record: half of what one costs.
void Connection::expect_small_writes() {
  constexpr long kRecordBytesMax = 4096;  // of the buffer that is kept
  if (!secure_) return;
  SSL_clear_mode(secure_->native_handle(), SSL_MODE_RELEASE_BUFFERS);
  SSL_set_max_send_fragment(secure_->native_handle(), kRecordBytesMax);
}

/// A stranger no longer.
void Connection::known() {
  if (!std::exchange(stranger_, false)) return;
  server_->strangers.erase(id_);
  --server_->peers[peer_].strangers;
}

void Connection::close() {
  if (std::exchange(closed_, true)) return;
  known();
  share_.reset();
  timer_.cancel();
  write_timer_.cancel();
  event_.cancel();
  error_code ignored;
  (void)socket().shutdown(tcp::socket::shutdown_both, ignored);
  (void)socket().close(ignored);
  gone();
}

void Connection::close_quietly() noexcept {
  try {
    close();
  } catch (const std::exception&) {  // of memory: it is closed, and somebody may not have been told
  }
}

void Connection::gone() {
  const auto turn = std::exchange(turn_, nullptr);
  if (!turn) return;
  const auto keep = std::exchange(turn->connection, nullptr);
  const auto told = std::exchange(turn->on_gone, nullptr);
  turn->on_drain = nullptr, turn->on_half_close = nullptr;
  if (told) told();
}

/// What this request's body takes of the memory for all bodies. False: there is not so much.
bool Connection::reserve(std::size_t bytes) {
  if (!share_) share_ = std::make_shared<BodyShare>(server_->bodies);
  return share_->grow(bytes);
}

/// One timer for what is read; when it fires the connection is closed.
void Connection::arm(std::chrono::milliseconds timeout) {
  timer_.expires_after(timeout);
  timer_.async_wait([weak = weak_from_this()](const error_code& problem) {
    const auto self = weak.lock();
    if (!problem && self) self->close();
  });
}

/// Sees to it that a read is under way.
void Connection::read() {
  read_into(asio::buffer(bytes_), [](Connection& c, std::size_t n) { c.in_.append(c.bytes_.data(), n); });
}

/// `took`: is given the connection, and how many bytes have come.
template<class Took>
void Connection::read_into(asio::mutable_buffer to, Took took) {
  assert_may_serve();
  if (reading_ || closed_ || eof_) return;
  if (fault()) return close();
  reading_ = true;
  auto done = [self = shared_from_this(), took](const error_code& problem, std::size_t n) {
    self->reading_ = false;
    if (self->closed_) return;
    const bool ended = problem == asio::error::eof || (self->plain_ && problem == asio::error::shut_down);
    if (problem && !ended) return self->close();
    try {
      took(*self, n);
      if (ended) self->eof_ = true, self->half_closed();
    } catch (const std::exception&) {  // of memory: whoever waits for these bytes would wait until its time is over
      return self->close();
    }
    self->event_.cancel();
  };
  if (plain_)
    plain_->async_read_some(to, std::move(done));
  else
    secure_->async_read_some(to, std::move(done));
}

/// The peer sends no more. Whether it has left altogether shows when something is written: what is legal at this point
/// is. Then the socket's error says so.
void Connection::half_closed() {
  if (closed_ || !turn_ || lingering_) return;
  const auto turn = turn_;
  socket().async_wait(tcp::socket::wait_error, [weak = weak_from_this()](const error_code& problem) {
    const auto self = weak.lock();
    if (!problem && self) self->close();
  });
  if (!turn->started) {
    if (!old_client_) return queue("HTTP/1.1 100 Continue\r\n\r\n");
    return later([](Connection& c) { c.close(); });
  }
  if (!turn->on_half_close) return later([](Connection& c) { c.close(); });
  const auto told = turn->on_half_close;
  told();
}

/// Whatever the coroutine waits for holds the connection, which holds the coroutine.
void Connection::start() {
  task_ = run();
  task_.start();
}

auto Connection::woken() {
  return ended(shared_from_this(), [this](auto handler) { event_.async_wait(std::move(handler)); });
}

/// Until more has come. False: nothing will.
Task<bool> Connection::more() {
  const std::size_t had = in_.size();
  read();
  while (!closed_ && !eof_ && !broken_ && in_.size() == had) {
    event_.expires_at(asio::steady_timer::time_point::max());
    co_await woken();
  }
  co_return !closed_ && !broken_ && in_.size() > had;
}

Task<void> Connection::run() {
  try {
    co_await serve();
  } catch (const std::exception&) {  // of memory, most likely: this connection ends, the server goes on
    close_quietly();
  }
}

Task<void> Connection::serve() {
  if (secure_) {
    arm(server_->options.head_timeout);
    const auto [problem, none] = co_await ended(shared_from_this(), [this](auto handler) {
      secure_->async_handshake(ssl::stream_base::server, std::move(handler));
    });
    if (problem) co_return close();
    if (std::string shown = peer_certificate(secure_->native_handle()); !shown.empty())
      certificate_ = std::make_shared<const std::string>(std::move(shown));
  }
  // GCC 12 begins answered() whatever request() says, or throws, when both stand in the loop's condition.
  bool goes_on = true;
  while (goes_on && !closed_ && !close_after_) {
    goes_on = co_await request();
    if (goes_on) goes_on = co_await answered();
    if (goes_on) goes_on = co_await taken();
  }
  // What has been queued still goes out.
  close_after_ = true;
  while (!closed_ && !broken_ && (writing_ || !out_.empty())) {
    event_.expires_at(asio::steady_timer::time_point::max());
    co_await woken();
  }
  if (!closed_ && !broken_) co_await linger();
  close();
}

/// Until the request is answered; watches for the peer leaving meanwhile.
Task<bool> Connection::answered() {
  if (eof_) half_closed();
  while (turn_ && !closed_ && !broken_) {
    if (in_.size() < kPipelinedBytesMax) read();
    event_.expires_at(asio::steady_timer::time_point::max());
    if (turn_ && !closed_ && !broken_) co_await woken();
  }
  co_return !closed_ && !close_after_ && !broken_;
}

/// Until the peer has taken most of what it was answered. Who asks and asks and reads nothing is not read from, either.
Task<bool> Connection::taken() {
  waits_for_peer_ = true;
  while (!closed_ && !broken_ && unsent() > kAnswersBytesMax) {
    event_.expires_at(asio::steady_timer::time_point::max());
    co_await woken();
  }
  waits_for_peer_ = false;
  co_return !closed_ && !broken_;
}

/// The peer may be sending still: a connection that is closed under that is reset, and the answer is lost with it.
Task<void> Connection::linger() {
  lingering_ = true;
  arm(server_->options.linger_timeout);
  if (secure_) {
    const auto [problem, none] = co_await ended(shared_from_this(), [this](auto handler) {
      secure_->async_shutdown(std::move(handler));
    });  // close_notify, there and back
    if (problem && problem != asio::error::eof) co_await drop_encrypted();
    co_return;
  }
  if (!must_linger_ && in_.empty()) co_return;
  error_code ignored;
  (void)socket().shutdown(tcp::socket::shutdown_send, ignored);
  for (std::size_t dropped = in_.size(); dropped < limits::kLingerBytesMax && !eof_;) {
    in_.clear();
    if (!co_await more()) break;
    dropped += in_.size();
  }
}

/// After close_notify nobody decrypts any more what the peer goes on sending.
Task<void> Connection::drop_encrypted() {
  error_code ignored;
  (void)socket().shutdown(tcp::socket::shutdown_send, ignored);
  std::array<char, 16'384> bytes;  // NOLINT: filled by the socket
  for (std::size_t dropped = 0; dropped < limits::kLingerBytesMax && !closed_;) {
    const auto [problem, size] = co_await ended(shared_from_this(), [this, &bytes](auto handler) {
      socket().async_read_some(asio::buffer(bytes), std::move(handler));
    });
    if (problem) break;
    dropped += size;
  }
}

Task<bool> Connection::read_head() {
  const ServerOptions& o = server_->options;
  if (in_.empty()) {
    arm(o.idle_timeout);
    if (!co_await more()) co_return close(), false;
  }
  arm(o.head_timeout);  // for the whole head: a byte now and then does not help
  const Error too_long{ErrorCode::kHeadersTooLarge, fmt::format("the request head exceeds {} bytes", o.head_bytes_max)};
  std::size_t end;
  while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
    if (in_.size() > o.head_bytes_max) co_return refuse(too_long), false;
    if (!co_await more()) co_return close(), false;
  }
  if (end + 4 > o.head_bytes_max) co_return refuse(too_long), false;
  if (const Status checked = check_head(std::string_view(in_).substr(0, end + 4)); !checked)
    co_return refuse(checked.error()), false;
  co_return true;
}

/// Puts the body into body_. False: refused or closed.
Task<bool> Connection::read_body(Parser& parser, std::size_t bytes_max) {
  arm(server_->options.body_timeout);
  body_.clear(), body_size_ = 0;
  const auto declared = parser.content_length();
  if (declared && *declared > bytes_max) co_return refuse(too_large(bytes_max)), false;
  if (!old_client_ && !parser.is_done() && in_.empty() &&
      equal_ignoring_case(parser.get()[http::field::expect], "100-continue"))
    queue("HTTP/1.1 100 Continue\r\n\r\n");
  // GCC 12 cannot choose between two awaitables by `?:`.
  if (declared) co_return co_await read_declared_body(*declared);
  co_return co_await read_chunked_body(parser, bytes_max);
}

/// After `bytes` of a body have come; false: closed meanwhile. Long bodies of all connections share a rate: a body of 8
/// MB has come after 64 ms, and clients that post one after the other leave the processor to requests that are short.
Task<bool> Connection::leave_turns_to_others(std::size_t bytes) {
  constexpr std::int64_t kBytesPerMs = 128'000;
  constexpr std::chrono::milliseconds kAhead{2};  // timers cost, too
  const auto taken = std::chrono::nanoseconds(static_cast<std::int64_t>(bytes) * 1'000'000 / kBytesPerMs);
  server_->long_bodies_at = std::max(server_->long_bodies_at, Clock::now()) + taken;
  const auto until = server_->long_bodies_at - kAhead;
  while (!closed_ && Clock::now() < until) {
    event_.expires_at(until);
    co_await woken();
  }
  co_return !closed_;
}

/// A body whose size is known is read to where it stays: it is the bulk of what a long prompt costs the event loop. Who
/// declares much and sends little takes little.
Task<bool> Connection::read_declared_body(std::size_t size) {
  constexpr std::size_t kReadBytesMax = 64u << 10;  // a turn's
  if (!reserve(std::min(size, kReadBytesMax))) co_return refuse(no_memory_for_body()), false;
  if (in_.empty() && size > 0 && !co_await more()) co_return close(), false;
  body_.reserve(size);
  while (true) {
    body_size_ = std::min(in_.size(), size - body_.size());
    body_.append(in_, 0, body_size_);
    in_.erase(0, body_size_);
    body_size_ = body_.size();
    if (body_size_ == size) co_return true;
    if (!reading_) break;  // what was begun before this request still puts its bytes there
    if (!co_await more()) co_return close(), false;
  }
  while (body_size_ < size) {
    const std::size_t had = body_size_;
    if (body_.size() == had) {
      if (had >= kLongBodyBytes && had < kLongBodyBytes + kReadBytesMax)
        prefer_huge_pages(body_.data(), body_.capacity());
      const std::size_t room = std::min(size, had + kReadBytesMax);
      if (!reserve(room)) co_return refuse(no_memory_for_body()), false;
      body_.resize(room);
    }
    read_into({body_.data() + had, body_.size() - had}, [](Connection& c, std::size_t n) { c.body_size_ += n; });
    while (!closed_ && !eof_ && !broken_ && body_size_ == had) {
      event_.expires_at(asio::steady_timer::time_point::max());
      co_await woken();
    }
    if (closed_ || broken_ || body_size_ == had) co_return close(), false;
    const bool goes_on = body_size_ <= kLongBodyBytes || co_await leave_turns_to_others(body_size_ - had);
    if (!goes_on) co_return false;
  }
  co_return true;
}

/// Feeds the parser until it is done.
Task<bool> Connection::read_chunked_body(Parser& parser, std::size_t bytes_max) {
  while (true) {
    error_code problem;
    while (!in_.empty() && !parser.is_done()) {
      const std::size_t used = parser.put(asio::buffer(in_), problem);
      in_.erase(0, used);
      if (problem || used == 0) break;
    }
    if (problem == http::error::need_more) problem = {};
    if (problem == http::error::body_limit || parser.get().body().size() > bytes_max)
      co_return refuse(too_large(bytes_max)), false;
    if (problem) co_return refuse({ErrorCode::kInvalidRequest, "the request is not valid HTTP/1.1"}), false;
    if (!reserve(parser.get().body().size())) co_return refuse(no_memory_for_body()), false;
    if (parser.is_done()) break;
    if (in_.size() > kPipelinedBytesMax)
      co_return refuse({ErrorCode::kInvalidRequest, "a chunk head or trailer is too long"}), false;
    if (!co_await more()) co_return close(), false;
    const bool goes_on = parser.get().body().size() <= kLongBodyBytes || co_await leave_turns_to_others(in_.size());
    if (!goes_on) co_return false;
  }
  body_ = std::move(parser.get().body());
  co_return true;
}

Request Connection::take_head(Parser& parser, Target target) {
  const auto& message = parser.get();
  Request r;
  r.method = std::string(message.method_string());
  head_only_ = r.method == "HEAD";
  r.target = std::move(target);
  for (const auto& field : message) {
    // The absolute form's host stands for the Host header (RFC 9112, section 3.2.2).
    const bool replaced = field.name() == http::field::host && !r.target.host.empty();
    r.headers.add(std::string(field.name_string()), replaced ? r.target.host : std::string(field.value()));
  }
  r.has_body = !parser.is_done();
  r.peer = peer_, r.local = local_, r.certificate = certificate_;
  return r;
}

Task<bool> Connection::request() {
  if (!co_await read_head()) co_return false;
  Parser parser;
  parser.header_limit(static_cast<std::uint32_t>(server_->options.head_bytes_max + 1024));
  parser.body_limit(boost::none);                                             // ours is known after the head
  std::uint64_t chunk_bytes_max = std::numeric_limits<std::uint64_t>::max();  // until the body's is known
  auto check_chunk = [&](std::uint64_t size, boost::beast::string_view extensions, error_code& problem) {
    if (!extensions.empty()) problem = http::error::bad_chunk_extension;
    if (size > chunk_bytes_max) problem = http::error::body_limit;
  };
  parser.on_chunk_header(check_chunk);
  error_code problem;
  in_.erase(0, parser.put(asio::buffer(in_), problem));  // not eager: the head alone
  if (problem == http::error::need_more) problem = {};
  if (problem || !parser.is_header_done())
    co_return refuse({ErrorCode::kInvalidRequest, "the request is not valid HTTP/1.1"}), false;
  parser.eager(true);
  const auto& message = parser.get();
  old_client_ = message.version() < 11;
  const auto text = message.target();
  Result<Target> target = parse_target({text.data(), text.size()});
  if (!target) co_return refuse(target.error()), false;
  Request head = take_head(parser, *std::move(target));
  // Who answers without reading a body gives up the connection with it.
  const bool keeps = message.keep_alive(), has_body = head.has_body;
  keep_alive_ = keeps && !has_body;
  must_linger_ = has_body;
  turn_ = std::make_shared<Turn>(shared_from_this());
  const ExchangePtr turn = turn_;
  timer_.cancel();
  if (!server_->handler) co_return turn->abort(), false;
  std::optional<BodyPlan> plan = server_->handler(std::move(head), turn);
  if (!plan) co_return true;
  if (plan->known) known();
  plan_ = &*plan, chunk_bytes_max = plan->bytes_max;
  const bool whole = !has_body || co_await read_body(parser, plan->bytes_max);
  plan_ = nullptr;
  if (!whole) co_return false;
  must_linger_ = false;
  keep_alive_ = keeps;
  timer_.cancel();
  if (turn->alive()) plan->then(std::exchange(body_, {}), std::exchange(share_, nullptr));
  co_return true;
}

void Connection::refuse(const Error& error) {
  timer_.cancel();
  keep_alive_ = false, must_linger_ = true;
  Response r = plan_ && plan_->refusal ? plan_->refusal(error) : server_->refusal(error);
  if (const auto turn = turn_) return turn->send(std::move(r));
  queue(head_text(r, length_of(r), false) + r.body);
  close_after_ = true;
}

void Connection::turn_done(bool close_after) {
  turn_.reset();
  share_.reset();
  if (close_after) close_after_ = true;
  event_.cancel();
}

}  // namespace llorch::net
