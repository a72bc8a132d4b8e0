#include "net/curl_loop.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <exception>
#include <system_error>

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

CurlLoop::CurlLoop(asio::io_context& io) : io_(io), ready_(io), timer_(io) {
  const int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  ready_.assign(fd);
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
  wait();
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

curl_socket_t CurlLoop::open_socket(void*, curlsocktype, curl_sockaddr* address) {
  const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
  return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/// The descriptor is curl's, which closes it when it likes, and not always tells: nothing of ours may hold its number.
/// What the system watches goes with what it stands for.
int CurlLoop::watch_socket(CURL*, curl_socket_t fd, int what, void* self, void*) {
  const int poll = static_cast<CurlLoop*>(self)->ready_.native_handle();
  epoll_event event{};
  event.data.fd = fd;
  if (what == CURL_POLL_REMOVE) {
    (void)epoll_ctl(poll, EPOLL_CTL_DEL, fd, &event);  // one that curl has closed is watched no longer
    return 0;
  }
  event.events = ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U) | ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U);
  if (epoll_ctl(poll, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
  return errno == ENOENT && epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -1;
}

/// Without memory for it the next transfer or timer begins it.
void CurlLoop::wait() noexcept {
  if (waits_) return;
  try {
    ready_.async_wait(asio::posix::descriptor_base::wait_read, [weak = weak_from_this()](const error_code& problem) {
      const auto self = weak.lock();
      if (!self || problem) return;
      self->waits_ = false;
      const std::shared_ptr<void> again(nullptr, [&self](void*) { self->wait(); });  // also when somebody throws
      self->serve_ready();
    });
    waits_ = true;
  } catch (const std::exception&) {
  }
}

/// What is not served now is ready still the next time.
void CurlLoop::serve_ready() {
  constexpr std::chrono::milliseconds kTurn{2};
  std::array<epoll_event, 64> events{};
  const int n = epoll_wait(ready_.native_handle(), events.data(), static_cast<int>(events.size()), 0);
  const auto end = Clock::now() + kTurn;
  for (int i = 0; i < n && Clock::now() < end; ++i) {
    const auto& e = events[static_cast<std::size_t>(i)];
    int what = 0;
    if ((e.events & (EPOLLIN | EPOLLHUP)) != 0) what |= CURL_CSELECT_IN;
    if ((e.events & EPOLLOUT) != 0) what |= CURL_CSELECT_OUT;
    if ((e.events & EPOLLERR) != 0) what |= CURL_CSELECT_ERR;
    act(e.data.fd, what);
  }
}

int CurlLoop::set_timer(CURLM*, long milliseconds, void* self) {
  auto& loop = *static_cast<CurlLoop*>(self);
  try {
    if (milliseconds < 0) return loop.timer_.cancel(), 0;
    loop.timer_.expires_after(std::chrono::milliseconds(milliseconds));
    loop.timer_.async_wait([weak = loop.weak_from_this()](const error_code& problem) {
      const auto alive = weak.lock();
      if (!alive || problem) return;
      alive->wait();
      alive->act(CURL_SOCKET_TIMEOUT, 0);
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
