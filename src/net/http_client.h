// An HTTP/1.1 client on the event loop, by libcurl: the answer as it arrives, over TCP or TLS.
//
// Connections are kept for later requests. Environment variables for proxies are not looked at: daemons of a colony
// speak to each other. Timeouts: connecting (names and TLS included), and idle (no byte for so long); the whole only
// where a call asks for it (S-44). A request goes out once, but GET and HEAD, which go out again on a new connection
// when a kept one is closed before its answer. All callbacks run on the loop's thread; exactly one on_end comes, and
// none after the Call is destroyed. A callback that throws ends its call with kInternal. Source: RFC 9112.
#pragma once

#include "net/event_loop.h"
#include "net/http_types.h"
#include "net/tls.h"
#include "net/url.h"

namespace llorch::net {

/// How the message of a call begins whose TLS handshake failed, for example because a certificate is not believed.
inline constexpr std::string_view kNoSecureConnection = "no secure connection to";

/// Whether a call with this error ended before its request could go out: it may be sent elsewhere.
[[nodiscard]] bool never_sent(const Error& error);

struct ClientRequest {
  std::string method = "GET";
  Url url;
  Headers headers;
  std::string body;
  std::chrono::milliseconds connect_timeout{5'000}, idle_timeout{30'000};
  std::chrono::milliseconds total_timeout{0};  // of the whole, from the connection's first byte on; 0: none
  /// For https: the name that the other side must prove, where it is not the URL's host.
  std::string tls_name;
  std::shared_ptr<const TlsClient> tls;  // null: the loop's (EventLoop::set_tls_client), else the system's authorities
};
struct ClientCallbacks {
  std::function<void(int status, const Headers& headers)> on_head;
  std::function<void(std::string_view bytes)> on_data;
  std::function<void(Status outcome)> on_end;  // kIo: could not connect, or the answer was cut off
};

class Call {
 public:
  Call() = default;
  Call(Call&&) noexcept = default;
  Call& operator=(Call&&) noexcept;
  ~Call();

 private:
  friend Call start_call(EventLoop&, ClientRequest, ClientCallbacks);
  struct State;
  std::shared_ptr<State> state_;
};
[[nodiscard]] Call start_call(EventLoop& loop, ClientRequest request, ClientCallbacks callbacks);

struct Answer {
  int status = 0;
  Headers headers;
  std::string body;
};
inline constexpr std::size_t kFetchedBytesMax = 64u << 20;  // it is held whole; the largest of ours are lists of jobs
/// For tests and command-line programs: runs a loop of its own until the answer is complete. Errors: those of a call;
/// kIo when the body is longer than kFetchedBytesMax.
[[nodiscard]] Result<Answer> fetch(ClientRequest request);

}  // namespace llorch::net
