#include "net/http_server.h"

#include <fmt/format.h>

#include "net/http_connection.h"

namespace llorch::net {

bool HttpServer::Impl::make_room(const std::string& peer) {
  const auto known = peers.find(peer);
  const Peer count = known == peers.end() ? Peer{} : known->second;
  const auto oldest_of = [&](bool of_peer) {
    for (const auto& [id, c] : strangers)
      if (!of_peer || c->peer() == peer) return c->shared_from_this()->close();
  };
  if (count.strangers >= options.strangers_per_peer_max)
    oldest_of(true);
  else if (static_cast<int>(strangers.size()) >= options.strangers_max)
    oldest_of(false);
  return static_cast<int>(connections.size()) < options.connections_max &&
         count.connections < options.connections_per_peer_max;
}

void HttpServer::Impl::welcome(tcp::socket socket) {
  error_code ignored;
  const auto remote = socket.remote_endpoint(ignored);
  const std::string peer = remote.address().to_string(ignored);
  if (!make_room(peer)) return;
  (void)socket.set_option(tcp::no_delay(true), ignored);
  (void)socket.non_blocking(true, ignored);  // what is not taken at once comes back, see pump()
  // Or the system would hold megabytes for each peer that reads nothing.
  (void)socket.set_option(asio::socket_base::send_buffer_size(options.send_buffer_bytes), ignored);
  const std::string local = socket.local_endpoint(ignored).address().to_string(ignored);
  const auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket), peer, local);
  connection->enlist();
  connection->start();
}

/// No coroutine, and no async_accept(): both take memory between one peer and the next, and without it the server would
/// hear of none again.
void HttpServer::Impl::wait_for_peers() {
  if (!acceptor.is_open()) return;
  acceptor.async_wait(tcp::acceptor::wait_read, waiting.in([self = shared_from_this()](const error_code& problem) {
    if (problem) return self->wait_a_little();
    constexpr int kPeersPerTurn = 16;
    error_code outcome;
    for (int i = 0; i < kPeersPerTurn && !outcome; ++i) outcome = self->accept();
    if (outcome && outcome != asio::error::would_block) return self->wait_a_little();
    self->wait_for_peers();
  }));
}

/// Takes one peer. would_block: none waits; other errors: out of descriptors, or a peer that left.
error_code HttpServer::Impl::accept() {
  error_code problem;
  try {
    tcp::socket socket = acceptor.accept(problem);
    if (!problem) welcome(std::move(socket));
  } catch (const std::exception&) {  // of memory: this peer is turned away, the next may find some
  }
  return problem;
}

void HttpServer::Impl::wait_a_little() {
  if (!acceptor.is_open()) return;
  pause.expires_after(std::chrono::milliseconds(20));
  pause.async_wait(waiting.in([self = shared_from_this()](const error_code&) { self->wait_for_peers(); }));
}

Result<std::unique_ptr<HttpServer>> HttpServer::make(EventLoop& loop, ServerOptions options, Handler handler,
                                                     Refusal refusal) {
  const std::size_t bytes_max = options.body_bytes_max;
  const auto by_head = [bytes_max, handler = std::move(handler)](Request request, const ExchangePtr& exchange) {
    const auto kept = std::make_shared<Request>(std::move(request));
    return std::optional<BodyPlan>({bytes_max, true, [handler, kept, exchange](std::string body, BodySharePtr share) {
                                      kept->body = std::move(body), kept->body_share = std::move(share);
                                      handler(std::move(*kept), exchange);
                                    }});
  };
  return make_by_head(loop, std::move(options), by_head, std::move(refusal));
}

Result<std::unique_ptr<HttpServer>> HttpServer::make_by_head(EventLoop& loop, ServerOptions options,
                                                             HeadHandler handler, Refusal refusal) {
  auto impl = std::make_shared<Impl>(loop, std::move(options), std::move(handler), std::move(refusal));
  const ServerOptions& o = impl->options;
  error_code problem;
  const auto address = asio::ip::make_address(o.address, problem);
  if (problem) return fail(ErrorCode::kInvalidRequest, "{} is not an address", o.address);
  const tcp::endpoint endpoint(address, o.port);
  (void)impl->acceptor.open(endpoint.protocol(), problem);
  if (!problem) (void)impl->acceptor.set_option(asio::socket_base::reuse_address(true), problem);
  // What has come and was not read yet is not counted by `bodies`: the system would hold up to 6 MB for each
  // connection.
  if (!problem)
    (void)impl->acceptor.set_option(asio::socket_base::receive_buffer_size(o.receive_buffer_bytes), problem);
  if (!problem) (void)impl->acceptor.bind(endpoint, problem);
  if (!problem) (void)impl->acceptor.listen(1024, problem);
  if (!problem) (void)impl->acceptor.non_blocking(true, problem);
  if (problem) return fail(ErrorCode::kIo, "cannot listen on {}:{}: {}", o.address, o.port, problem.message());
  impl->wait_for_peers();
  return std::unique_ptr<HttpServer>(new HttpServer(impl));
}

HttpServer::~HttpServer() {
  stop_accepting();
  impl_->handler = nullptr;
  impl_->on_last_gone = nullptr;
  abort_all();
}
std::uint16_t HttpServer::port() const {
  error_code ignored;
  return impl_->acceptor.local_endpoint(ignored).port();
}
int HttpServer::connections() const { return static_cast<int>(impl_->connections.size()); }
std::size_t HttpServer::bodies_bytes() const { return impl_->bodies->bytes; }

void HttpServer::stop_accepting() {
  error_code ignored;
  (void)impl_->acceptor.close(ignored);
  impl_->pause.cancel();
  const auto all = impl_->connections;
  for (const auto& [id, c] : all)
    if (const auto alive = c->weak_from_this().lock(); alive && alive->idle()) alive->close();
}

void HttpServer::when_no_connections(std::function<void()> then) {
  impl_->on_last_gone = std::move(then);
  impl_->tell_last_gone.emplace(impl_->loop, [weak = impl_->weak_from_this()] {
    const auto self = weak.lock();
    if (const auto told = self ? std::exchange(self->on_last_gone, nullptr) : nullptr) told();
  });
  impl_->report_last_gone();
}

/// A destructor calls it: it needs no memory.
void HttpServer::Impl::report_last_gone() noexcept {
  if (connections.empty() && on_last_gone) tell_last_gone->post();
}

void HttpServer::set_tls(std::shared_ptr<TlsServer> tls) { impl_->options.tls = std::move(tls); }

void HttpServer::abort_shown(const std::function<bool(const std::string& certificate)>& refused) {
  const auto all = impl_->connections;
  for (const auto& [id, c] : all)
    if (const auto alive = c->weak_from_this().lock(); alive && alive->certificate() && refused(*alive->certificate()))
      alive->close();
}

void HttpServer::abort_all() {
  const auto all = impl_->connections;
  for (const auto& [id, c] : all)
    if (const auto alive = c->weak_from_this().lock()) alive->close();
}

}  // namespace llorch::net
