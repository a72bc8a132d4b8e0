// Other daemons, asked over HTTP: one call with a JSON answer, or a job's stream followed to its end.
#pragma once

#include <boost/json.hpp>
#include <functional>
#include <string>

#include "net/http_client.h"
#include "service/flow.h"

namespace llorch::service {

/// Of a request that makes a job: where its events are to go (job_feed.h, remote_feed.h).
inline constexpr const char* kFeedHeader = "X-Llorch-Feed";

/// Where a daemon is, and what it is shown.
struct Peer {
  net::Url base;
  std::string token;     // empty: none
  std::string tls_name;  // what it must prove to be, over https; empty: the URL's host
};
[[nodiscard]] Result<Peer> make_peer(std::string_view url, std::string token = {}, std::string_view tls_name = {});

/// Made by a constructor: see flow.h on aggregates.
struct Asked {
  Asked(std::string m, std::string p, std::string b = {})
      : method(std::move(m)), path(std::move(p)), body(std::move(b)) {}
  std::string method, path;
  std::string body;  // JSON, or empty
  net::Headers headers;
  std::chrono::milliseconds idle_timeout{30'000};
};
struct JsonAnswer {
  int status = 0;
  boost::json::value body;  // null where there was none
  net::Headers headers;
};

/// The request with the peer's address and key.
[[nodiscard]] net::ClientRequest request_to(const Peer& peer, Asked asked);
/// Errors: kIo when there is no answer, or none that can be read.
[[nodiscard]] Step<JsonAnswer> ask(const FlowPtr& flow, const Peer& peer, Asked asked);
/// The error that an answer carries; nothing for 2xx.
[[nodiscard]] Status check(const JsonAnswer& answer);
[[nodiscard]] ErrorCode code_of(std::string_view name);

/// An event of a native stream; "data" has type and seq.
using OnEvent = std::function<void(std::string_view type, const boost::json::object& data)>;
/// The same before its JSON is parsed; true: it needs no more.
using OnLine = std::function<bool(std::string_view type, const std::string& json)>;
/// Follows a native stream until its [DONE]. Errors: the error of its answer; kIo when it breaks off before.
[[nodiscard]] Step<bool> follow(const FlowPtr& flow, const Peer& peer, std::string path, OnEvent& on_event,
                                const OnLine& on_line = {});

}  // namespace llorch::service
