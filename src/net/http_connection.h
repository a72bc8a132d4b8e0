// For http_server.cc: one TCP connection, which reads requests one after another, hands each to the server's handler,
// and writes what it answers.
//
// One read is under way at a time, and is never called off: a coroutine takes what has come and waits for `event_`,
// which also says that an answer is complete. Threads: the event loop's. Whoever waits holds the connection.
#pragma once

#include <boost/asio/ssl.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <map>
#include <memory>
#include <string>

#include "net/asio.h"
#include "net/http_server.h"
#include "net/operation_memory.h"
#include "net/outbox.h"
#include "net/task.h"
#include "net/tls_state.h"

namespace llorch::net {

namespace http = boost::beast::http;
namespace ssl = asio::ssl;

class Connection;

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Impl(EventLoop& l, ServerOptions o, HeadHandler h, Refusal r)
      : loop(l),
        options(std::move(o)),
        handler(std::move(h)),
        refusal(std::move(r)),
        acceptor(l.impl().io),
        pause(l.impl().io),
        bodies(std::make_shared<BodyBudget>(options.bodies_bytes_max)) {}

  struct Peer {
    int connections = 0, strangers = 0;
  };
  void wait_for_peers();
  void wait_a_little();
  error_code accept();
  void welcome(tcp::socket socket);
  /// False: there is no place for another connection of this peer.
  bool make_room(const std::string& peer);
  void report_last_gone() noexcept;

  EventLoop& loop;
  ServerOptions options;
  HeadHandler handler;  // empty once the server is gone
  Refusal refusal;
  tcp::acceptor acceptor;
  asio::steady_timer pause;
  OperationMemory waiting;                                      // for a peer, or until `pause` is over
  std::map<std::uint64_t, Connection*> connections, strangers;  // the oldest first
  std::map<std::string, Peer> peers;
  std::function<void()> on_last_gone;  // called when there is no connection
  std::optional<EventLoop::ReservedPost> tell_last_gone;
  std::shared_ptr<BodyBudget> bodies;
  Clock::time_point long_bodies_at;  // when the next bytes of long bodies may be read
  std::uint64_t next_id = 1;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<HttpServer::Impl> server, tcp::socket socket, std::string peer, std::string local);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Among the server's connections and those of its peer. Throws std::bad_alloc.
  void enlist();
  /// From now on it is held by whatever it waits for.
  void start();
  void close();
  void close_quietly() noexcept;
  [[nodiscard]] bool idle() const { return !turn_; }
  [[nodiscard]] const std::string& peer() const { return peer_; }
  [[nodiscard]] const std::shared_ptr<const std::string>& certificate() const { return certificate_; }

 private:
  struct Turn;  // one request and its answer
  using Parser = http::request_parser<http::string_body>;

  tcp::socket& socket() { return plain_ ? *plain_ : secure_->next_layer().socket(); }
  [[nodiscard]] std::size_t encrypted_unsent() const { return secure_ ? secure_->next_layer().waiting() : 0; }
  [[nodiscard]] bool fault() const { return server_->options.fault && server_->options.fault(); }
  void known();
  void gone();
  void arm(std::chrono::milliseconds timeout);
  void read();
  template<class Took>
  void read_into(asio::mutable_buffer to, Took took);
  void half_closed();
  Task<void> run();
  auto woken();
  Task<void> serve();
  Task<bool> more();
  Task<bool> read_head();
  Task<bool> read_body(Parser& parser, std::size_t bytes_max);
  Task<bool> read_declared_body(std::size_t size);
  Task<bool> read_chunked_body(Parser& parser, std::size_t bytes_max);
  Task<bool> leave_turns_to_others(std::size_t bytes);
  Task<bool> request();
  Task<bool> answered();
  Task<bool> taken();
  [[nodiscard]] std::size_t unsent() const { return out_.size() + sending_.size() - sent_ + encrypted_unsent(); }
  Task<void> linger();
  Task<void> drop_encrypted();
  bool reserve(std::size_t bytes);
  Request take_head(Parser& parser, Target target);
  void refuse(const Error& error);
  void queue(std::string_view bytes);
  void give_up();
  void expect_small_writes();
  void pump();
  void wait_until_sent();
  void watch_write();
  void written();
  void drained();
  void later(void (*what)(Connection&));
  void turn_done(bool close_after);

  std::shared_ptr<HttpServer::Impl> server_;
  std::string peer_, local_;
  std::uint64_t id_;
  std::shared_ptr<TlsServer> tls_;  // as it was when the connection was made
  std::shared_ptr<const std::string> certificate_;
  std::unique_ptr<tcp::socket> plain_;
  std::unique_ptr<ssl::stream<Outbox>> secure_;
  asio::steady_timer timer_, write_timer_, event_;
  std::string in_, out_, sending_;
  std::array<char, 16u << 10> bytes_;  // where a read puts what comes
  std::string body_;                   // of this request; its first body_size_ bytes have come
  std::size_t body_size_ = 0;
  std::size_t sent_ = 0;
  std::shared_ptr<BodyShare> share_;  // of the body that is being read
  bool reading_ = false, eof_ = false, listed_ = false, stranger_ = false, must_linger_ = false, lingering_ = false;
  bool waits_for_peer_ = false;  // to take answers, before its next request is looked at
  bool broken_ = false;          // something could not be written for want of memory
  bool writing_ = false, closed_ = false, close_after_ = false, keep_alive_ = true, old_client_ = false,
       head_only_ = false;
  const BodyPlan* plan_ = nullptr;  // of the body that is being read
  std::shared_ptr<Turn> turn_;
  Task<void> task_;
};

}  // namespace llorch::net
