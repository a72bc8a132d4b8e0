#include "hive/hub_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string_view>

#include "hive/public_address.h"

namespace llorch::hive {
namespace {

constexpr std::size_t kHeaderBytesMax = 64u << 10;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool holds(const std::vector<std::string>& list, const std::string& item) {
  return std::ranges::find(list, item) != list.end();
}

struct Parts {
  std::string scheme, host;
};
Parts parts_of(const std::string& url) {
  Parts p;
  const std::size_t mark = url.find("://");
  if (mark == std::string::npos) return p;
  p.scheme = url.substr(0, mark);
  p.host = url.substr(mark + 3, url.find_first_of("/?#", mark + 3) - mark - 3);
  return p;
}

std::string without_port(const std::string& host) { return host.substr(0, host.rfind(':')); }

struct Guard {
  bool trusted = false, refused = false;
};
int open_public(void* guard, curlsocktype, curl_sockaddr* address) {
  auto& g = *static_cast<Guard*>(guard);
  if (!g.trusted && !is_public_address(&address->addr)) return g.refused = true, CURL_SOCKET_BAD;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

class Headers {
 public:
  Headers() = default;
  ~Headers() { curl_slist_free_all(list_); }
  Headers(const Headers&) = delete;
  Headers& operator=(const Headers&) = delete;
  /// False: no memory.
  [[nodiscard]] bool add(const std::string& line) {
    curl_slist* longer = curl_slist_append(list_, line.c_str());
    if (longer) list_ = longer;
    return longer != nullptr;
  }
  [[nodiscard]] curl_slist* list() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

/// One transfer, as curl's callbacks see it.
struct CurlTransfer {
  HubReply reply;
  std::size_t header_bytes = 0;
  const HubClient::Sink* sink = nullptr;
  CURL* curl = nullptr;
  Status refused_by_sink;
  bool out_of_memory = false;
};

/// For what curl calls: no exception may pass through it. 0 ends the transfer.
template<class Take>
std::size_t taken(CurlTransfer& transfer, Take take) noexcept {
  try {
    return take();
  } catch (const std::exception&) {
    transfer.out_of_memory = true;
    return 0;
  }
}

std::size_t take_header(CurlTransfer& transfer, std::string_view line) {
  const std::size_t bytes = line.size();
  if ((transfer.header_bytes += bytes) > kHeaderBytesMax) return 0;
  if (line.starts_with("HTTP/")) transfer.reply.headers.clear();
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return bytes;
  std::string key(line.substr(0, colon));
  std::ranges::transform(key, key.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::size_t first = line.find_first_not_of(" \t", colon + 1), last = line.find_last_not_of(" \t\r\n");
  transfer.reply.headers[key] =
      first == std::string_view::npos || last < first ? "" : line.substr(first, last - first + 1);
  return bytes;
}

std::size_t take_data(CurlTransfer& transfer, std::string_view bytes) {
  curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &transfer.reply.status);
  if (transfer.reply.status / 100 != 2 || !*transfer.sink) return bytes.size();
  transfer.refused_by_sink = (*transfer.sink)(transfer.reply, bytes);
  return transfer.refused_by_sink ? bytes.size() : 0;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* to) {
  auto& transfer = *static_cast<CurlTransfer*>(to);
  return taken(transfer, [&] { return take_header(transfer, {data, size * count}); });
}
std::size_t on_data(char* data, std::size_t size, std::size_t count, void* to) {
  auto& transfer = *static_cast<CurlTransfer*>(to);
  return taken(transfer, [&] { return take_data(transfer, {data, size * count}); });
}
int on_tick(void* stop, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::stop_token*>(stop)->stop_requested() ? 1 : 0;
}

/// The network's faults; what is wrong with an address, a certificate or an answer stays wrong.
bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return true;
    default: return false;
  }
}

std::unexpected<Failure> stays_wrong(std::string message) {
  return std::unexpected(Failure({ErrorCode::kDownloadFailed, std::move(message)}));
}

Failure failure_of(long status) {
  if (status == 404 || status == 410 || status == 401 || status == 403)
    return {{ErrorCode::kModelNotFound,
             fmt::format("the model server knows no such model, revision or file, or does not show it to us ({})",
                         status)}};
  return {{ErrorCode::kDownloadFailed, fmt::format("the model server answered {}", status)},
          status == 408 || status == 425 || status == 429 || status / 100 == 5};
}

}  // namespace

HubOptions hub_from_environment() {
  HubOptions o;
  if (const std::string set = variable("HF_ENDPOINT"); !set.empty()) o.endpoint = set;
  while (o.endpoint.ends_with('/')) o.endpoint.pop_back();
  o.home = variable("HF_HOME");
  if (o.home.empty())
    o.home = (variable("XDG_CACHE_HOME").empty() ? variable("HOME") + "/.cache" : variable("XDG_CACHE_HOME")) +
             "/huggingface";
  o.token = variable("HF_TOKEN");
  if (o.token.empty()) std::ifstream(o.home + "/token") >> o.token;
  std::string hosts = variable("LLORCH_DOWNLOAD_HOSTS");
  for (std::size_t at = 0; at < hosts.size();) {
    const std::size_t comma = std::min(hosts.find(',', at), hosts.size());
    o.allowed_hosts.push_back(hosts.substr(at, comma - at));
    at = comma + 1;
  }
  return o;
}

std::string HubReply::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

Attempt<HubReply> HubClient::get(std::string url, const HubRequest& request, const Sink& sink) {
  for (int hop = 0; hop < 8; ++hop) {
    LLORCH_TRY(HubReply reply, once(url, request, sink));
    if (reply.status / 100 == 2) return reply;
    if (reply.status / 100 != 3) return std::unexpected(failure_of(reply.status));
    const std::string to = reply.header("location");
    if (to.empty()) return stays_wrong("a redirect that leads nowhere");
    const bool relative = to.starts_with("/");
    if (!request.follow_redirects && !relative) return reply;
    const Parts here = parts_of(url);
    url = relative ? here.scheme + "://" + here.host + to : to;
  }
  return stays_wrong("too many redirects");
}

Attempt<HubReply> HubClient::once(const std::string& url, const HubRequest& request, const Sink& sink) {
  const Parts at = parts_of(url), home = parts_of(options_.endpoint);
  if ((at.scheme != "https" && at.scheme != "http") || (at.scheme == "http" && home.scheme == "https"))
    return stays_wrong("a redirect to another scheme is refused");
  if (at.host.empty() || at.host.contains('@')) return stays_wrong("an address with user information is refused");
  const bool own = at.host == home.host;
  Guard guard{own || holds(options_.allowed_hosts, at.host) || holds(options_.allowed_hosts, without_port(at.host)),
              false};
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  Headers headers;
  bool ready = curl != nullptr;  // what is left out would change what is asked for, or lift the guard
  for (const std::string& h : request.headers) ready = ready && headers.add(h);
  if (own && !options_.token.empty()) ready = ready && headers.add("Authorization: Bearer " + options_.token);
  CurlTransfer transfer;
  transfer.sink = &sink, transfer.curl = curl.get();
  const auto set = [&](CURLoption option, auto value) {
    ready = ready && curl_easy_setopt(curl.get(), option, value) == CURLE_OK;
  };
  set(CURLOPT_URL, url.c_str()), set(CURLOPT_NOSIGNAL, 1L), set(CURLOPT_NOBODY, request.head_only ? 1L : 0L);
  set(CURLOPT_HTTPHEADER, headers.list()), set(CURLOPT_USERAGENT, "llorch/" LLORCH_VERSION);
  set(CURLOPT_HEADERFUNCTION, &on_header), set(CURLOPT_HEADERDATA, &transfer);
  set(CURLOPT_WRITEFUNCTION, &on_data), set(CURLOPT_WRITEDATA, &transfer);
  set(CURLOPT_NOPROGRESS, 0L), set(CURLOPT_XFERINFOFUNCTION, &on_tick), set(CURLOPT_XFERINFODATA, &stop_);
  set(CURLOPT_OPENSOCKETFUNCTION, &open_public), set(CURLOPT_OPENSOCKETDATA, &guard);
  set(CURLOPT_CONNECTTIMEOUT, 20L), set(CURLOPT_LOW_SPEED_LIMIT, 1L), set(CURLOPT_LOW_SPEED_TIME, 30L);
  set(CURLOPT_TIMEOUT, request.seconds_max);
  const auto no_memory = [] { return std::unexpected(Failure({ErrorCode::kInsufficientMemory, "no memory"}, true)); };
  if (!ready) return no_memory();
  const CURLcode outcome = curl_easy_perform(curl.get());
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &transfer.reply.status);
  if (stop_.stop_requested()) return std::unexpected(Failure({ErrorCode::kCancelled, "the download was stopped"}));
  if (transfer.out_of_memory) return no_memory();
  if (guard.refused) return stays_wrong("a redirect into a private network is refused");
  if (!transfer.refused_by_sink) return std::unexpected(Failure(transfer.refused_by_sink.error()));
  if (outcome != CURLE_OK)
    return std::unexpected(
        Failure({ErrorCode::kDownloadFailed, fmt::format("the model server: {}", curl_easy_strerror(outcome))},
                is_transient(outcome)));
  return std::move(transfer.reply);
}

}  // namespace llorch::hive
