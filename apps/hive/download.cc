#include "hive/download.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/ids.h"
#include "format/json.h"
#include "security/manifest.h"
#include "security/validate.h"

namespace llorch::hive {
namespace {

using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

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

/// Loopback, private, link-local and the like: nothing that a redirect of a stranger may lead to.
bool is_private(const sockaddr* a) {
  if (a->sa_family == AF_INET) {
    const std::uint32_t ip = ntohl(reinterpret_cast<const sockaddr_in*>(a)->sin_addr.s_addr);
    const auto in = [ip](std::uint32_t net, int bits) { return ip >> (32 - bits) == net >> (32 - bits); };
    return in(0x7f000000, 8) || in(0x0a000000, 8) || in(0xac100000, 12) || in(0xc0a80000, 16) || in(0xa9fe0000, 16) ||
           in(0x64400000, 10) || in(0, 8) || in(0xe0000000, 4) || in(0xf0000000, 4);
  }
  if (a->sa_family != AF_INET6) return true;
  const auto* ip = reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr.s6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr)) {
    sockaddr_in inner{};
    inner.sin_family = AF_INET;
    std::memcpy(&inner.sin_addr, ip + 12, 4);
    return is_private(reinterpret_cast<const sockaddr*>(&inner));
  }
  return (ip[0] & 0xfe) == 0xfc || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) || ip[0] == 0xff ||
         std::all_of(ip, ip + 15, [](unsigned char c) { return c == 0; });
}

struct Guard {
  bool trusted = false, refused = false;
};
int open_public(void* guard, curlsocktype, curl_sockaddr* address) {
  auto& g = *static_cast<Guard*>(guard);
  if (!g.trusted && is_private(&address->addr)) return g.refused = true, CURL_SOCKET_BAD;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

struct Exchange {
  long status = 0;
  std::map<std::string, std::string> headers;  // lower-case names; of the last answer
};

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* to) {
  auto& headers = static_cast<Exchange*>(to)->headers;
  std::string line(data, size * count);
  if (line.starts_with("HTTP/")) headers.clear();
  const std::size_t colon = line.find(':');
  if (colon == std::string::npos) return size * count;
  std::string key = line.substr(0, colon);
  std::ranges::transform(key, key.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::size_t first = line.find_first_not_of(" \t", colon + 1), last = line.find_last_not_of(" \t\r\n");
  headers[key] = first == std::string::npos || last < first ? "" : line.substr(first, last - first + 1);
  return size * count;
}

using Sink = std::function<bool(std::string_view)>;
std::size_t on_data(char* data, std::size_t size, std::size_t count, void* to) {
  return (*static_cast<Sink*>(to))({data, size * count}) ? size * count : 0;
}
int on_tick(void* stop, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<std::stop_source*>(stop)->stop_requested() ? 1 : 0;
}

std::string unquoted(std::string s) {
  if (s.starts_with("W/")) s.erase(0, 2);
  std::erase(s, '"');
  return s;
}

std::unexpected<Error> cancelled() { return fail(ErrorCode::kCancelled, "the download was stopped"); }

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

/// One request; redirects are followed here, each looked at first.
struct Download::Http {
  Download& d;
  Exchange exchange;

  Status get(std::string url, bool head_only, bool follow, const std::vector<std::string>& headers, Sink sink) {
    for (int hop = 0; hop < 8; ++hop) {
      LLORCH_OK(once(url, head_only, headers, sink));
      if (exchange.status < 300 || exchange.status >= 400) return {};
      const std::string to = exchange.headers["location"];
      if (to.empty()) return fail(ErrorCode::kDownloadFailed, "a redirect that leads nowhere");
      const bool relative = to.starts_with("/");
      if (!follow && !relative) return {};
      const Parts here = parts_of(url);
      url = relative ? here.scheme + "://" + here.host + to : to;
    }
    return fail(ErrorCode::kDownloadFailed, "too many redirects");
  }

  Status once(const std::string& url, bool head_only, const std::vector<std::string>& headers, Sink& sink) {
    const Parts at = parts_of(url), home = parts_of(d.options_.endpoint);
    if ((at.scheme != "https" && at.scheme != "http") || (at.scheme == "http" && home.scheme == "https"))
      return fail(ErrorCode::kForbidden, "a redirect to another scheme is refused");
    if (at.host.empty() || at.host.contains('@'))
      return fail(ErrorCode::kForbidden, "an address with user information is refused");
    const bool own = at.host == home.host;
    Guard guard{
        own || holds(d.options_.allowed_hosts, at.host) || holds(d.options_.allowed_hosts, without_port(at.host)),
        false};
    const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
    curl_slist* list = nullptr;
    for (const std::string& h : headers) list = curl_slist_append(list, h.c_str());
    if (own && !d.options_.token.empty())
      list = curl_slist_append(list, ("Authorization: Bearer " + d.options_.token).c_str());
    const std::unique_ptr<curl_slist, void (*)(curl_slist*)> keep(list, curl_slist_free_all);
    exchange = {};
    const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(curl.get(), option, value); };
    set(CURLOPT_URL, url.c_str()), set(CURLOPT_NOSIGNAL, 1L), set(CURLOPT_NOBODY, head_only ? 1L : 0L);
    set(CURLOPT_HTTPHEADER, list), set(CURLOPT_USERAGENT, "llorch/" LLORCH_VERSION);
    set(CURLOPT_HEADERFUNCTION, &on_header), set(CURLOPT_HEADERDATA, &exchange);
    Sink guarded = [&](std::string_view bytes) {
      curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &exchange.status);
      return exchange.status / 100 != 2 || sink(bytes);
    };
    set(CURLOPT_WRITEFUNCTION, &on_data), set(CURLOPT_WRITEDATA, &guarded);
    set(CURLOPT_NOPROGRESS, 0L), set(CURLOPT_XFERINFOFUNCTION, &on_tick), set(CURLOPT_XFERINFODATA, &d.stop_);
    set(CURLOPT_OPENSOCKETFUNCTION, &open_public), set(CURLOPT_OPENSOCKETDATA, &guard);
    set(CURLOPT_CONNECTTIMEOUT, 20L), set(CURLOPT_LOW_SPEED_LIMIT, 1L), set(CURLOPT_LOW_SPEED_TIME, 30L);
    const CURLcode outcome = curl_easy_perform(curl.get());
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &exchange.status);
    if (d.stop_.stop_requested()) return cancelled();
    if (guard.refused) return fail(ErrorCode::kForbidden, "a redirect into a private network is refused");
    if (outcome != CURLE_OK)
      return fail(ErrorCode::kDownloadFailed, "the model server: {}", curl_easy_strerror(outcome));
    return {};
  }
};

namespace {

Status status_error(long status) {
  if (status / 100 == 2) return {};
  if (status == 404 || status == 401 || status == 403)
    return fail(ErrorCode::kModelNotFound,
                "the model server knows no such model, revision or file, or does not show it to us ({})", status);
  return fail(ErrorCode::kDownloadFailed, "the model server answered {}", status);
}

bool hopeless(const Error& e) {
  return e.code == ErrorCode::kModelNotFound || e.code == ErrorCode::kCancelled || e.code == ErrorCode::kIo;
}

}  // namespace

/// The file that the reference means, from the repository's list; a quantization, or nothing, chooses one.
Result<std::string> Download::choose_file(std::string& commit) {
  Http http{*this, {}};
  std::string text;
  LLORCH_OK(http.get(fmt::format("{}/api/models/{}/revision/{}", options_.endpoint, ref_.repo, ref_.revision), false,
                     true, {}, [&](std::string_view bytes) {
                       text += bytes;
                       return text.size() < 32u << 20;
                     }));
  LLORCH_OK(status_error(http.exchange.status));
  const auto parsed = json::parse(text, "list of files");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  const auto* files = o ? o->if_contains("siblings") : nullptr;
  commit = o ? json::find_text(*o, "sha").value_or("") : "";
  if (!files || !files->is_array() || commit.empty() || commit.size() > 64 ||
      commit.find_first_not_of("0123456789abcdef") != std::string::npos)
    return fail(ErrorCode::kDownloadFailed, "the model server's list of files cannot be read");
  std::vector<std::string> names;
  for (const auto& f : files->get_array())
    if (const auto* item = f.if_object())
      if (auto name = json::find_text(*item, "rfilename"); name && name->ends_with(".gguf"))
        names.push_back(std::move(*name));
  if (ref_.file.ends_with(".gguf")) {
    if (holds(names, ref_.file)) return ref_.file;
    return fail(ErrorCode::kModelNotFound, "the repository has no such file");
  }
  std::vector<std::string> wanted{"Q4_K_M", "Q5_K_M", "Q4_0", "Q5_0", "Q8_0", "F16"};
  if (!ref_.file.empty()) {
    wanted = {ref_.file};
    std::ranges::transform(wanted[0], wanted[0].begin(), [](unsigned char c) { return std::toupper(c); });
  }
  for (const std::string& quant : wanted)
    for (const std::string& name : names)
      if (colony::quant_in_name(name) == quant) return name;
  if (ref_.file.empty() && !names.empty()) return names.front();
  return fail(ErrorCode::kModelNotFound, "the repository has no GGUF file of that kind");
}

/// Commit, size and hash, from the answer before any redirect to where the bytes are.
Result<Download::Remote> Download::look(const std::string& url) {
  Http http{*this, {}};
  LLORCH_OK(http.get(url, true, false, {"Accept-Encoding: identity"}, [](std::string_view) { return true; }));
  if (http.exchange.status / 100 != 3) LLORCH_OK(status_error(http.exchange.status));
  auto& h = http.exchange.headers;
  Remote r;
  r.commit = h["x-repo-commit"];
  r.etag = unquoted(h.contains("x-linked-etag") ? h["x-linked-etag"] : h["etag"]);
  const std::string size = h.contains("x-linked-size") ? h["x-linked-size"] : h["content-length"];
  r.size = std::atoll(size.c_str());
  if (security::check_object_id(r.etag) || r.size <= 0)
    return fail(ErrorCode::kDownloadFailed, "the model server does not say the file's size and identity");
  if (!security::check_digest(r.etag)) r.sha256 = r.etag;
  return r;
}

Status Download::fetch(const std::string& url, const Remote& remote, const std::string& partial,
                       const OnProgress& on_progress) {
  std::error_code problem;
  std::int64_t have = fs::exists(partial, problem) ? static_cast<std::int64_t>(fs::file_size(partial, problem)) : 0;
  if (have > remote.size) fs::remove(partial, problem), have = 0;
  struct statvfs disk {};
  if (statvfs(fs::path(partial).parent_path().c_str(), &disk) == 0 &&
      static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize) < remote.size - have + (16 << 20))
    return fail(ErrorCode::kIo, "the disk has no room for {} MB", (remote.size - have) >> 20);
  if (have == remote.size) return {};
  std::ofstream out(partial, std::ios::binary | std::ios::app);
  if (!out) return fail(ErrorCode::kIo, "cannot write to the model cache");
  Http http{*this, {}};
  const auto start = Clock::now();
  auto told = start - std::chrono::seconds(1);
  std::int64_t done = have;
  std::vector<std::string> headers{"Accept-Encoding: identity"};
  if (have > 0) headers.push_back(fmt::format("Range: bytes={}-", have));
  bool first = true;
  const Status got = http.get(url, false, true, headers, [&](std::string_view bytes) {
    if (std::exchange(first, false) && have > 0 && http.exchange.status != 206) {  // it sends the whole
      out.close();
      out.open(partial, std::ios::binary | std::ios::trunc);
      done = 0;
    }
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    done += static_cast<std::int64_t>(bytes.size());
    if (done > remote.size || !out) return false;
    if (Clock::now() - told >= std::chrono::milliseconds(250)) {
      told = Clock::now();
      const double seconds = std::chrono::duration<double>(told - start).count();
      on_progress(done, remote.size, seconds > 0 ? static_cast<double>(done - have) / seconds / 1e6 : 0);
    }
    return true;
  });
  out.close();
  LLORCH_OK(got);
  LLORCH_OK(status_error(http.exchange.status));
  if (done != remote.size)
    return fail(ErrorCode::kDownloadFailed, "the transfer ended after {} of {} bytes", done, remote.size);
  return {};
}

Result<Fetched> Download::run(const OnProgress& on_progress) {
  const auto again = [&](auto work) -> decltype(work()) {
    for (int attempt = 0;; ++attempt) {
      auto result = work();
      if (!result && result.error().code == ErrorCode::kForbidden)  // of no use to repeat
        return fail(ErrorCode::kDownloadFailed, "{}", result.error().message);
      if (result || hopeless(result.error()) || attempt >= options_.retries) return result;
      std::unique_lock lock(mutex_);
      stopped_.wait_for(lock, std::chrono::milliseconds(options_.first_delay_ms << attempt),
                        [this] { return stop_.stop_requested(); });
      if (stop_.stop_requested()) return cancelled();
    }
  };
  Fetched out;
  LLORCH_TRY(out.file, again([&] { return choose_file(out.revision); }));
  const std::string url = fmt::format("{}/{}/resolve/{}/{}", options_.endpoint, ref_.repo, out.revision, out.file);
  LLORCH_TRY(const Remote remote, again([&] { return look(url); }));
  std::string folder = ref_.repo;
  folder.replace(folder.find('/'), 1, "--");
  const fs::path base = fs::path(options_.home) / "hub" / ("models--" + folder), blob = base / "blobs" / remote.etag,
                 link = base / "snapshots" / out.revision / out.file;
  std::error_code problem;
  fs::create_directories(blob.parent_path(), problem);
  fs::create_directories(link.parent_path(), problem);
  fs::create_directories(base / "refs", problem);
  if (problem) return fail(ErrorCode::kIo, "cannot write to the model cache: {}", problem.message());
  if (fs::exists(blob)) {  // from an earlier time, or of another program
    LLORCH_TRY(out.sha256, security::manifest_of(blob, stop_.get_token()));
    if (!remote.sha256.empty() && out.sha256 != remote.sha256) fs::remove(blob, problem);
  }
  if (!fs::exists(blob)) {
    const std::string partial = blob.string() + ".incomplete";
    LLORCH_OK(again([&] { return fetch(url, remote, partial, on_progress); }));
    LLORCH_TRY(out.sha256, security::manifest_of(partial, stop_.get_token()));
    if (!remote.sha256.empty() && out.sha256 != remote.sha256) {
      fs::remove(partial, problem);
      return fail(ErrorCode::kDownloadFailed, "what arrived is not the file that the model server promised (SHA-256)");
    }
    fs::rename(partial, blob, problem);
    if (problem) return fail(ErrorCode::kIo, "cannot write to the model cache: {}", problem.message());
  }
  on_progress(remote.size, remote.size, 0);
  std::ofstream(base / "refs" / ref_.revision) << out.revision;
  fs::remove(link, problem);
  fs::create_symlink(fs::relative(blob, link.parent_path()), link, problem);
  if (problem) return fail(ErrorCode::kIo, "cannot write to the model cache: {}", problem.message());
  out.path = link.string(), out.size = remote.size, out.identity = security::identity_of(blob);
  return out;
}

}  // namespace llorch::hive
