#include "stream_readers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <chrono>

namespace llorch::dev {

namespace {
constexpr std::string_view kTime = R"("t":")";
double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
}  // namespace

struct StreamReaders::Stream {
  int fd = -1;
  SSL* tls = nullptr;
  bool started = false, ended = false;
  std::string text;  // a line that is not whole yet
  ~Stream() {
    SSL_free(tls);
    if (fd >= 0) close(fd);
  }
};

Result<std::unique_ptr<StreamReaders>> StreamReaders::make(int port, const std::string& root) {
  std::shared_ptr<SSL_CTX> tls;
  if (!root.empty()) {
    tls.reset(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    if (!tls || SSL_CTX_load_verify_file(tls.get(), root.c_str()) != 1)
      return fail(ErrorCode::kInternal, "'{}' cannot be used as a root certificate", root);
    SSL_CTX_set_verify(tls.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_read_ahead(tls.get(), 1);
  }
  return std::unique_ptr<StreamReaders>(new StreamReaders(port, std::move(tls)));
}

StreamReaders::StreamReaders(int port, std::shared_ptr<SSL_CTX> tls)
    : port_(port),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      tls_(std::move(tls)) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = wake_}};
  epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event);
  thread_ = std::thread([this] { run(); });
}

StreamReaders::~StreamReaders() {
  ends_ = true;
  eventfd_write(wake_, 1);
  thread_.join();
  close(wake_);
  close(epoll_);
}

void StreamReaders::follow(std::string path) {
  {
    const std::lock_guard lock(mutex_);
    asked_.push_back(std::move(path));
  }
  eventfd_write(wake_, 1);
}

std::vector<float> StreamReaders::take_delays() {
  const std::lock_guard lock(mutex_);
  return std::exchange(delays_, {});
}

std::string StreamReaders::fault() {
  const std::lock_guard lock(mutex_);
  return fault_;
}

void StreamReaders::broke(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (broken++ == 0) fault_ = why;
}

void StreamReaders::run() {
  std::array<epoll_event, 64> events{};
  while (!ends_) {
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == wake_)
        connect_asked();
      else if (const auto at = streams_.find(fd); at != streams_.end())
        read(*at->second);
    }
  }
}

void StreamReaders::connect_asked() {
  eventfd_t ignored = 0;
  eventfd_read(wake_, &ignored);
  std::vector<std::string> asked;
  {
    const std::lock_guard lock(mutex_);
    asked.swap(asked_);
  }
  for (const std::string& path : asked)
    if (const Status s = connect(path); !s) broke(s.error().message);
}

Status StreamReaders::connect(const std::string& path) {
  auto s = std::make_unique<Stream>();
  s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET, to.sin_port = htons(static_cast<std::uint16_t>(port_));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (s->fd < 0 || ::connect(s->fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
    return fail(ErrorCode::kInternal, "no connection to port {}", port_);
  const std::string request = fmt::format("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", path, port_);
  bool sent = false;
  if (tls_) {
    s->tls = SSL_new(tls_.get());
    SSL_set_fd(s->tls, s->fd);
    sent = SSL_connect(s->tls) == 1 && SSL_write(s->tls, request.data(), static_cast<int>(request.size())) > 0;
  } else {
    sent = write(s->fd, request.data(), request.size()) == static_cast<ssize_t>(request.size());
  }
  if (!sent) return fail(ErrorCode::kInternal, "no request can be sent to port {}", port_);
  fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK);
  epoll_event event{.events = EPOLLIN, .data = {.fd = s->fd}};
  epoll_ctl(epoll_, EPOLL_CTL_ADD, s->fd, &event);
  Stream& made = *s;
  streams_.emplace(made.fd, std::move(s));
  read(made);  // OpenSSL may hold bytes already that the socket does not show any more
  return {};
}

void StreamReaders::read(Stream& s) {
  std::array<char, 16384> bytes;
  for (bool more = true; more;) {
    const ssize_t got = s.tls ? SSL_read(s.tls, bytes.data(), bytes.size()) : ::read(s.fd, bytes.data(), bytes.size());
    if (got <= 0) {
      const bool waits = s.tls ? SSL_get_error(s.tls, static_cast<int>(got)) == SSL_ERROR_WANT_READ
                               : got < 0 && (errno == EAGAIN || errno == EINTR);
      take(s);
      if (waits) return;
      if (!s.ended) broke("a stream without its end");
      streams_.erase(s.fd);
      return;
    }
    s.text.append(bytes.data(), static_cast<std::size_t>(got));
    more = s.tls && SSL_has_pending(s.tls);
  }
  take(s);
}

void StreamReaders::take(Stream& s) {
  if (!s.started && s.text.find("event: started") != std::string::npos) s.started = true, ++started;
  if (!s.ended && s.text.find("[DONE]") != std::string::npos) s.ended = true, ++done;
  for (std::size_t at = 0; (at = s.text.find(kTime, at)) != std::string::npos;) {
    at += kTime.size();
    if (s.text.find('"', at) == std::string::npos) break;
    const double us = now_us() - std::strtod(s.text.c_str() + at, nullptr);
    const std::lock_guard lock(mutex_);
    delays_.push_back(static_cast<float>(us));
  }
  const std::size_t whole = s.text.rfind('\n');
  if (whole != std::string::npos) s.text.erase(0, whole + 1);
}

}  // namespace llorch::dev
