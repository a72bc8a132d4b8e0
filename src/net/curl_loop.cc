#include "net/curl_loop.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <exception>

namespace llorch::net {
namespace {

/// Connections that are kept open for later requests, of all hosts together.
constexpr long kIdleConnectionsMax = 32;
/// A connection that was idle for longer is not used again: the other side may be about to close it. Ours does so after
/// 75 s (ServerOptions::idle_timeout); what is lost with a closing connection is an error, see http_client.h.
constexpr long kIdleSecondsMax = 20;

template<class Value>
void set(CURLM* multi, CURLMoption option, Value value) {
  curl_multi_setopt(multi, option, value);
}

}  // namespace

struct CurlLoop::Socket {
  Socket(asio::io_context& io, curl_socket_t fd, bool ours) : descriptor(io, fd), owned(ours) {}
  ~Socket() {
    if (!owned && descriptor.is_open()) descriptor.release();
  }
  asio::posix::stream_descriptor descriptor;
  bool owned;      // else it is curl's own, which closes it itself
  int wanted = 0;  // CURL_POLL_IN and CURL_POLL_OUT, as bits
  bool waiting_in = false, waiting_out = false;
};

CurlLoop::CurlLoop(asio::io_context& io) : io_(io), timer_(io) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  multi_ = ready == CURLE_OK ? curl_multi_init() : nullptr;
  if (!multi_) throw std::bad_alloc();
  set(multi_, CURLMOPT_SOCKETFUNCTION, &CurlLoop::watch_socket);
  set(multi_, CURLMOPT_SOCKETDATA, this);
  set(multi_, CURLMOPT_TIMERFUNCTION, &CurlLoop::set_timer);
  set(multi_, CURLMOPT_TIMERDATA, this);
  set(multi_, CURLMOPT_MAXCONNECTS, kIdleConnectionsMax);
}

CurlLoop::~CurlLoop() {
  for (const auto& [key, transfer] : running_) curl_multi_remove_handle(multi_, transfer->handle());
  curl_multi_cleanup(multi_);
}

bool CurlLoop::add(const std::shared_ptr<Transfer>& transfer) {
  Place& place = places_[transfer->destination()];
  if (!place.waiting.empty() || place.connecting.size() >= kConnectingMax) {
    running_.emplace(transfer.get(), transfer);
    place.waiting.push_back(transfer);
    return true;
  }
  place.connecting.insert(transfer.get());
  running_.emplace(transfer.get(), transfer);
  if (begin(*transfer)) return true;
  remove(*transfer);
  return false;
}

/// Gives a transfer to curl.
bool CurlLoop::begin(Transfer& transfer) {
  transfer.begun();
  CURL* easy = transfer.handle();
  curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &CurlLoop::open_socket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, this);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, &CurlLoop::close_socket);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, this);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, kIdleSecondsMax);
  return curl_multi_add_handle(multi_, easy) == CURLM_OK;
}

/// Who waits for others to connect goes on, where they have.
void CurlLoop::begin_waiting() {
  std::vector<std::shared_ptr<Transfer>> failed;
  for (auto at = places_.begin(); at != places_.end();) {
    Place& place = at->second;
    while (!place.waiting.empty() && place.connecting.size() < kConnectingMax) {
      const auto next = place.waiting.front().lock();
      if (next && running_.contains(next.get())) {
        place.connecting.insert(next.get());
        if (!begin(*next)) failed.push_back(next);
      }
      place.waiting.pop_front();
    }
    at = place.waiting.empty() && place.connecting.empty() ? places_.erase(at) : std::next(at);
  }
  for (const auto& transfer : failed) {
    remove(*transfer);
    transfer->finish(CURLE_OUT_OF_MEMORY);
  }
}

void CurlLoop::connected(const Transfer& transfer) {
  const auto place = places_.find(transfer.destination());
  if (place != places_.end()) place->second.connecting.erase(&transfer);
}

void CurlLoop::remove(const Transfer& transfer) {
  const auto it = running_.find(&transfer);
  if (it == running_.end()) return;
  curl_multi_remove_handle(multi_, transfer.handle());
  connected(transfer);  // or it will never be
  running_.erase(it);
  const auto place = places_.find(transfer.destination());
  if (place == places_.end() || place->second.waiting.empty()) return;
  asio::post(io_, [weak = weak_from_this()] {  // nobody is told anything from here
    if (const auto self = weak.lock()) self->begin_waiting();
  });
}

void CurlLoop::has_news(Transfer& transfer) {
  const auto it = running_.find(&transfer);
  if (it != running_.end()) news_.push_back(it->second);
}

curl_socket_t CurlLoop::open_socket(void* self, curlsocktype, curl_sockaddr* address) {
  auto& loop = *static_cast<CurlLoop*>(self);
  const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
  if (fd < 0) return CURL_SOCKET_BAD;
  try {
    loop.sockets_.insert_or_assign(fd, std::make_shared<Socket>(loop.io_, fd, true));
  } catch (const std::exception&) {
    close(fd);
    return CURL_SOCKET_BAD;
  }
  return fd;
}

int CurlLoop::close_socket(void* self, curl_socket_t fd) {
  auto& loop = *static_cast<CurlLoop*>(self);
  const auto it = loop.sockets_.find(fd);
  if (it == loop.sockets_.end()) return close(fd);
  const std::shared_ptr<Socket> socket = it->second;
  loop.sockets_.erase(it);
  socket->wanted = 0;
  error_code ignored;
  (void)socket->descriptor.close(ignored);
  return 0;
}

int CurlLoop::watch_socket(CURL*, curl_socket_t fd, int what, void* self, void*) {
  auto& loop = *static_cast<CurlLoop*>(self);
  auto it = loop.sockets_.find(fd);
  if (what == CURL_POLL_REMOVE) {
    if (it == loop.sockets_.end()) return 0;
    it->second->wanted = 0;
    error_code ignored;
    (void)it->second->descriptor.cancel(ignored);
    if (!it->second->owned) loop.sockets_.erase(it);
    return 0;
  }
  try {
    if (it == loop.sockets_.end()) it = loop.sockets_.emplace(fd, std::make_shared<Socket>(loop.io_, fd, false)).first;
    loop.watch(it->second, what);
  } catch (const std::exception&) {
    return -1;
  }
  return 0;
}

void CurlLoop::watch(const std::shared_ptr<Socket>& socket, int what) {
  socket->wanted = what & CURL_POLL_INOUT;
  if ((what & CURL_POLL_IN) != 0) wait(socket, CURL_POLL_IN);
  if ((what & CURL_POLL_OUT) != 0) wait(socket, CURL_POLL_OUT);
}

void CurlLoop::wait(const std::shared_ptr<Socket>& socket, int event) {
  const bool in = event == CURL_POLL_IN;
  bool& waiting = in ? socket->waiting_in : socket->waiting_out;
  if (std::exchange(waiting, true)) return;
  const auto kind = in ? asio::posix::descriptor_base::wait_read : asio::posix::descriptor_base::wait_write;
  socket->descriptor.async_wait(kind, [weak = weak_from_this(), socket, in, event](const error_code& problem) {
    (in ? socket->waiting_in : socket->waiting_out) = false;
    const auto self = weak.lock();
    if (!self || (socket->wanted & event) == 0 || !socket->descriptor.is_open()) return;
    if (problem != asio::error::operation_aborted) {
      self->act(socket->descriptor.native_handle(), in ? CURL_CSELECT_IN : CURL_CSELECT_OUT);
      if ((socket->wanted & event) == 0 || !socket->descriptor.is_open()) return;
    }
    self->wait(socket, event);  // also where curl took back what it then asked for again
  });
}

int CurlLoop::set_timer(CURLM*, long milliseconds, void* self) {
  auto& loop = *static_cast<CurlLoop*>(self);
  try {
    if (milliseconds < 0) return loop.timer_.cancel(), 0;
    loop.timer_.expires_after(std::chrono::milliseconds(milliseconds));
    loop.timer_.async_wait([weak = loop.weak_from_this()](const error_code& problem) {
      if (const auto alive = weak.lock(); alive && !problem) alive->act(CURL_SOCKET_TIMEOUT, 0);
    });
  } catch (const std::exception&) {
    return -1;
  }
  return 0;
}

void CurlLoop::act(curl_socket_t fd, int events) {
  const auto self = shared_from_this();  // whoever is told may end the loop's use of it
  int running = 0;
  curl_multi_socket_action(multi_, fd, events, &running);
  tell();
}

/// Every transfer hears what has arrived, then how it ended. One whose owner throws is no matter of the others.
void CurlLoop::tell() {
  std::exception_ptr thrown;
  const auto guarded = [&](auto&& told) {
    try {
      told();
    } catch (...) {
      if (!thrown) thrown = std::current_exception();
    }
  };
  while (!news_.empty()) {
    const auto news = std::exchange(news_, {});
    for (const auto& transfer : news) guarded([&] { transfer->deliver(); });
  }
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode outcome = message->data.result;
    void* owner = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
    const auto it = running_.find(static_cast<Transfer*>(owner));
    if (it == running_.end()) continue;
    const auto transfer = it->second;
    remove(*transfer);
    guarded([&] { transfer->finish(outcome); });
  }
  guarded([&] { begin_waiting(); });
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace llorch::net
