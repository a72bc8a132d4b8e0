// Requests to a model server: redirects are looked at before they are followed, credentials go to the endpoint's own
// host alone, addresses of private networks are reached only where the settings allow it (S-69).
//
// Blocks: a thread of its own. Every failure says whether trying again can help.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch::hive {

struct HubOptions {
  std::string endpoint = "https://huggingface.co", token, home;  // home: $HF_HOME
  std::vector<std::string> allowed_hosts;                        // besides the endpoint's and public ones
  int retries = 6;
  std::int64_t first_delay_ms = 500;
};
/// HF_ENDPOINT, HF_TOKEN (or the token file), HF_HOME, LLORCH_DOWNLOAD_HOSTS.
[[nodiscard]] HubOptions hub_from_environment();

/// An error, and whether the same request may succeed later: connections that break, 408, 425, 429 and 5xx.
struct Failure {
  Failure(Error e, bool again = false) : error(std::move(e)), transient(again) {}
  Error error;
  bool transient;
};
template<class T>
using Attempt = std::expected<T, Failure>;

struct HubRequest {
  bool head_only = false, follow_redirects = true;  // redirects on the same host are always followed
  std::vector<std::string> headers;
  long seconds_max = 0;  // for the whole exchange; 0: as long as bytes arrive
};
struct HubReply {
  long status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  [[nodiscard]] std::string header(const std::string& name) const;
};

class HubClient {
 public:
  /// Takes bytes of a 2xx answer as they arrive. An error ends the exchange, and is its error.
  using Sink = std::function<Status(const HubReply& reply, std::string_view bytes)>;
  HubClient(const HubOptions& options, std::stop_token stop) : options_(options), stop_(std::move(stop)) {}

  /// A 2xx answer, or a redirect that was not to be followed. Errors: kModelNotFound for 401, 403, 404, 410;
  /// kDownloadFailed; kCancelled; those of the sink.
  [[nodiscard]] Attempt<HubReply> get(std::string url, const HubRequest& request, const Sink& sink);

 private:
  [[nodiscard]] Attempt<HubReply> once(const std::string& url, const HubRequest& request, const Sink& sink);

  const HubOptions& options_;
  std::stop_token stop_;
};

}  // namespace llorch::hive
