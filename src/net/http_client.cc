#include "net/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "net/curl_loop.h"
#include "net/resolver.h"
#include "net/tls_state.h"

namespace llorch::net {
namespace {

constexpr std::string_view kCannotResolve = "cannot resolve", kCannotConnect = "cannot connect to";
constexpr std::size_t kHeadBytesMax = 256u << 10;

/// What is sent may hold text of others (a job's "sse_url"): nothing in it may end a line.
Status check_request(const ClientRequest& r) {
  const auto bad = [](std::string_view what) { return fail(ErrorCode::kInvalidRequest, "cannot send {}", what); };
  const auto token = [](char c) { return c > 0x20 && c < 0x7f && c != ':'; };
  if (r.method.empty() || !std::ranges::all_of(r.method, token)) return bad("this method");
  if (!is_request_target(r.url.path)) return bad("this path: it has a character that must be escaped");
  for (const auto& [name, value] : r.headers.fields())
    if (name.empty() || !std::ranges::all_of(name, token) || std::ranges::any_of(value, [](char c) {
          return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
        }))
      return bad("a header that has a control character");
  return {};
}

std::string authority(const Url& url) {
  return fmt::format(fmt::runtime(url.host.contains(':') ? "[{}]:{}" : "{}:{}"), url.host, url.port);
}

/// What curl was doing when it failed.
std::string_view place_of(CURLcode outcome) {
  switch (outcome) {
    case CURLE_COULDNT_RESOLVE_HOST: return kCannotResolve;
    case CURLE_COULDNT_CONNECT: return kCannotConnect;
    case CURLE_SEND_ERROR: return "cannot send to";
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING: return "malformed answer from";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_PEER_FAILED_VERIFICATION: return kNoSecureConnection;
    default: return "cut off by";
  }
}

using List = std::unique_ptr<curl_slist, void (*)(curl_slist*)>;
void append(List& list, const std::string& line) {
  curl_slist* longer = curl_slist_append(list.get(), line.c_str());
  if (!longer) throw std::bad_alloc();
  (void)list.release();
  list.reset(longer);
}

}  // namespace

bool never_sent(const Error& error) {
  const auto begins = [&](std::string_view where) { return error.message.starts_with(where); };
  return error.code == ErrorCode::kInvalidRequest || begins(kCannotResolve) || begins(kCannotConnect) ||
         begins(kNoSecureConnection);
}

struct Call::State final : Transfer, std::enable_shared_from_this<Call::State> {
  State(EventLoop& loop, ClientRequest r, ClientCallbacks c)
      : request(std::move(r)), callbacks(std::move(c)), loop_impl(loop.impl()), timer(loop.impl().io) {
    own_tls = request.tls != nullptr;
    if (!own_tls) request.tls = loop.tls_client();
  }
  ~State() override = default;

  void start();
  void connect(const std::vector<std::string>& addresses);
  bool set_options();
  void set_fields();
  void set_tls();
  template<class Value>
  void set(CURLoption option, Value value) {
    options_set = options_set && curl_easy_setopt(easy.get(), option, value) == CURLE_OK;
  }
  void end(Status outcome);
  void stop();
  void drop();
  void deliver() override;
  void finish(CURLcode outcome) override;
  [[nodiscard]] CURL* handle() const override { return easy.get(); }
  void begun() override { arm(request.connect_timeout); }
  [[nodiscard]] std::string destination() const override { return authority(request.url); }

  void arm(std::chrono::milliseconds timeout);
  void wait();
  [[nodiscard]] Status broken(std::string_view where, std::string_view what) const {
    return fail(ErrorCode::kIo, "{} {}: {}", where, authority(request.url), timed_out ? "timed out" : what);
  }

  static std::size_t on_head_line(char* bytes, std::size_t size, std::size_t count, void* self);
  static std::size_t on_body(char* bytes, std::size_t size, std::size_t count, void* self);
  static CURLcode on_tls_context(CURL*, void* context, void* self);
  static int on_connected(void* self, char*, char*, int, int);
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t sent);
  bool take_head_line(std::string_view line);
  void news();

  ClientRequest request;
  ClientCallbacks callbacks, dropped;
  EventLoop::Impl& loop_impl;
  std::weak_ptr<CurlLoop> curl;
  std::unique_ptr<CURL, void (*)(CURL*)> easy{nullptr, curl_easy_cleanup};
  List fields{nullptr, curl_slist_free_all}, addresses{nullptr, curl_slist_free_all},
      place{nullptr, curl_slist_free_all};
  std::array<char, CURL_ERROR_SIZE> problem{};
  Resolver::Lookup lookup;

  int status = 0;
  Headers head;
  std::size_t head_bytes = 0;
  std::string body;  // what has arrived and was not told yet
  bool head_complete = false, head_told = false, has_news = false, out_of_memory = false;
  curl_off_t sent = 0;

  asio::steady_timer timer;  // one for the whole call: what arrives moves the limit, the timer looks when it fires
  Clock::time_point limit;
  bool delivering = false;
  bool connected = false, timed_out = false, waiting = false, own_tls = false, options_set = true,
       left_unanswered = false;
};

void Call::State::arm(std::chrono::milliseconds timeout) {
  limit = Clock::now() + timeout;
  if (!waiting || timer.expiry() > limit) wait();
}
void Call::State::wait() {
  waiting = true;
  timer.expires_at(limit);
  timer.async_wait([weak = weak_from_this()](const error_code& called_off) {
    const auto self = weak.lock();
    if (called_off || !self) return;
    if (Clock::now() < self->limit) return self->wait();
    self->timed_out = true;
    self->end(self->broken(self->connected ? "cut off by" : kCannotConnect, ""));
  });
}

void Call::State::stop() {
  lookup = {};
  timer.cancel();
  if (const auto alive = curl.lock()) alive->remove(*this);
  curl.reset();
}
/// Nobody waits any more. A callback that drops its own call still runs: it goes when it has returned.
void Call::State::drop() {
  ClientCallbacks gone = std::exchange(callbacks, {});
  if (delivering) dropped = std::move(gone);
  stop();
}
void Call::State::end(Status outcome) {
  const auto self = shared_from_this();
  stop();
  const auto told = std::exchange(callbacks.on_end, nullptr);
  callbacks = {};
  if (told) told(std::move(outcome));
}

void Call::State::start() {
  if (!callbacks.on_end) return;  // dropped before it began
  if (const Status sound = check_request(request); !sound) return end(sound);
  arm(request.connect_timeout);
  const bool first = request.url.tls && !has_own_authorities(request.tls.get()) && !system_authorities_were_read();
  const bool named = !is_ip_address(request.url.host);
  if (!first && !named) return connect({});
  lookup = loop_impl.resolver().find(request.url.host, first, [weak = weak_from_this(), named](auto found) {
    const auto self = weak.lock();
    if (!self) return;
    if (!named) return self->connect({});
    if (!found) return self->end(self->broken(kCannotResolve, found.error().message));
    self->connect(*found);
  });
}

/// `found`: what the host's name stands for; empty when it is an address.
void Call::State::connect(const std::vector<std::string>& found) {
  if (!found.empty()) {
    std::string pinned = fmt::format("+{}:", authority(request.url));
    for (const std::string& address : found) pinned += address + ",";
    pinned.pop_back();
    append(addresses, pinned);
  }
  std::shared_ptr<CurlLoop> ready;
  try {
    ready = loop_impl.curl_loop();
  } catch (const std::exception& e) {  // of memory, or of descriptors
    return end(fail(ErrorCode::kInternal, "the call has failed: {}", e.what()));
  }
  curl = ready;
  constexpr std::chrono::seconds kOthersConnect{60};
  arm(kOthersConnect);
  if (!set_options() || !ready->add(shared_from_this()))
    end(fail(ErrorCode::kInternal, "the call has failed: out of memory, most likely"));
}

void Call::State::set_fields() {
  for (const auto& [name, value] : request.headers.fields())
    append(fields, value.empty() ? name + ";" : fmt::format("{}: {}", name, value));
  append(fields, "Host: " + authority(request.url));
  if (!request.headers.get("Accept")) append(fields, "Accept:");
  const bool with_body = !request.body.empty() || request.method == "POST";
  if (with_body && !request.headers.get("Content-Type")) append(fields, "Content-Type:");
  set(CURLOPT_HTTPHEADER, fields.get());
  if (with_body) {
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_POSTFIELDS, request.body.data());
  } else if (request.method == "HEAD") {
    set(CURLOPT_NOBODY, 1L);
  }
  set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

/// curl asks for the name in the URL; a name of the colony stands there, and the connection goes to the address.
void Call::State::set_tls() {
  std::string host = authority(request.url);
  if (request.url.tls && !request.tls_name.empty()) {
    append(place, fmt::format("{}:{}:{}", request.tls_name, request.url.port, host));
    set(CURLOPT_CONNECT_TO, place.get());
    host = fmt::format("{}:{}", request.tls_name, request.url.port);
  }
  set(CURLOPT_URL, fmt::format("{}://{}{}", request.url.tls ? "https" : "http", host, request.url.path).c_str());
  if (!request.url.tls) return;
  const bool inside = is_colony_name(request.tls_name);
  set(CURLOPT_SSLVERSION, static_cast<long>(inside ? CURL_SSLVERSION_TLSv1_3 : CURL_SSLVERSION_TLSv1_2));
  // curl would read the system's whole bundle for each connection: 20 ms of the loop's.
  set(CURLOPT_SSL_SESSIONID_CACHE, 0L);  // a resumed session would go on showing a certificate that was replaced
  set(CURLOPT_CAINFO, nullptr), set(CURLOPT_CAPATH, nullptr);
  set(CURLOPT_SSL_CTX_FUNCTION, &State::on_tls_context);
  set(CURLOPT_SSL_CTX_DATA, this);
  // curl does not see what was put into the context: a connection of another's trust must not be taken for ours.
  if (own_tls) set(CURLOPT_FRESH_CONNECT, 1L), set(CURLOPT_FORBID_REUSE, 1L);
}

bool Call::State::set_options() {
  easy.reset(curl_easy_init());
  if (!easy) return false;
  set_fields();
  set_tls();
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_SSL_ENABLE_ALPN, 0L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_BUFFERSIZE, 4096L);  // curl reads a hundred of them in one go: that is a turn of the loop
  set(CURLOPT_PROXY, "");
  if (addresses) set(CURLOPT_RESOLVE, addresses.get());
  set(CURLOPT_HEADERFUNCTION, &State::on_head_line), set(CURLOPT_HEADERDATA, this);
  set(CURLOPT_WRITEFUNCTION, &State::on_body), set(CURLOPT_WRITEDATA, this);
  set(CURLOPT_PREREQFUNCTION, &State::on_connected), set(CURLOPT_PREREQDATA, this);
  set(CURLOPT_NOPROGRESS, 0L), set(CURLOPT_XFERINFOFUNCTION, &State::on_progress), set(CURLOPT_XFERINFODATA, this);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_timeout.count()));
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(request.total_timeout.count()));
  set(CURLOPT_ERRORBUFFER, problem.data());
  return options_set;
}

CURLcode Call::State::on_tls_context(CURL*, void* context, void* self) {
  const auto& call = *static_cast<State*>(self);
  try {
    return apply(call.request.tls, call.request.tls_name, static_cast<SSL_CTX*>(context)) ? CURLE_OK
                                                                                          : CURLE_SSL_CERTPROBLEM;
  } catch (const std::exception&) {
    return CURLE_OUT_OF_MEMORY;
  }
}
int Call::State::on_connected(void* self, char*, char*, int, int) {
  auto& call = *static_cast<State*>(self);
  // curl comes here again when a kept connection was closed before the answer. The first request may have arrived.
  const bool again = std::exchange(call.connected, true);
  if (again && call.request.method != "GET" && call.request.method != "HEAD") {
    call.left_unanswered = true;
    return CURL_PREREQFUNC_ABORT;
  }
  call.arm(call.request.idle_timeout);
  if (const auto alive = call.curl.lock()) alive->connected(call);
  return CURL_PREREQFUNC_OK;
}
int Call::State::on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t sent) {
  auto& call = *static_cast<State*>(self);
  if (sent > std::exchange(call.sent, sent)) call.arm(call.request.idle_timeout);
  return 0;
}

void Call::State::news() {
  arm(request.idle_timeout);
  if (std::exchange(has_news, true)) return;
  if (const auto alive = curl.lock()) alive->has_news(*this);
}

/// A status line, a field, or the empty line that ends a head. An informational answer (1xx) is followed by another.
bool Call::State::take_head_line(std::string_view line) {
  if (head_complete) return true;  // trailers
  if ((head_bytes += line.size()) > kHeadBytesMax) return false;
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {
    head = {};
    const std::size_t blank = line.find(' ');
    return blank != std::string_view::npos &&
           std::from_chars(line.data() + blank + 1, line.data() + line.size(), status).ec == std::errc{};
  }
  if (line.empty()) {
    if (status / 100 == 1) return true;
    head_complete = true;
    news();
    return true;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return true;
  const std::string_view name = line.substr(0, colon);
  line.remove_prefix(colon + 1);
  while (line.starts_with(' ') || line.starts_with('\t')) line.remove_prefix(1);
  while (line.ends_with(' ') || line.ends_with('\t')) line.remove_suffix(1);
  head.add(std::string(name), std::string(line));
  return true;
}

std::size_t Call::State::on_head_line(char* bytes, std::size_t size, std::size_t count, void* self) {
  auto& call = *static_cast<State*>(self);
  try {
    return call.take_head_line({bytes, size * count}) ? size * count : 0;
  } catch (const std::exception&) {
    call.out_of_memory = true;
    return 0;
  }
}
std::size_t Call::State::on_body(char* bytes, std::size_t size, std::size_t count, void* self) {
  auto& call = *static_cast<State*>(self);
  try {
    call.body.append(bytes, size * count);
    call.news();
    return size * count;
  } catch (const std::exception&) {
    call.out_of_memory = true;
    return CURL_WRITEFUNC_ERROR;
  }
}

void Call::State::deliver() {
  const auto self = shared_from_this();
  has_news = false;
  delivering = true;
  try {
    if (head_complete && !std::exchange(head_told, true) && callbacks.on_head)
      callbacks.on_head(status, std::exchange(head, {}));
    if (const std::string bytes = std::exchange(body, {}); !bytes.empty() && callbacks.on_data)
      callbacks.on_data(bytes);
  } catch (const std::exception& e) {
    end(fail(ErrorCode::kInternal, "the call has failed: {}", e.what()));
  }
  delivering = false;
  dropped = {};
}

void Call::State::finish(CURLcode outcome) {
  if (out_of_memory) return end(fail(ErrorCode::kInternal, "the call has failed: out of memory"));
  if (outcome == CURLE_OK && head_told) return end({});
  if (left_unanswered)
    return end(broken("cut off by",
                      "the connection was closed before the answer; the request may have been carried "
                      "out, and is not sent again"));
  if (outcome == CURLE_OPERATION_TIMEDOUT) timed_out = true;
  const std::string_view where = timed_out && !connected ? kCannotConnect : place_of(outcome);
  end(broken(where, problem[0] != '\0' ? problem.data() : curl_easy_strerror(outcome)));
}

Call::~Call() {
  if (state_) state_->drop();
}
Call& Call::operator=(Call&& other) noexcept {
  if (this != &other) {
    if (state_) state_->drop();
    state_ = std::move(other.state_);
  }
  return *this;
}

Call start_call(EventLoop& loop, ClientRequest request, ClientCallbacks callbacks) {
  Call call;
  if (!callbacks.on_end) callbacks.on_end = [](const Status&) {};  // without one a call is taken for dropped
  call.state_ = std::make_shared<Call::State>(loop, std::move(request), std::move(callbacks));
  loop.post([state = call.state_] { state->start(); });
  return call;
}

Result<Answer> fetch(ClientRequest request) {
  EventLoop loop;
  Answer answer;
  Status outcome;
  const Call call =
      start_call(loop, std::move(request),
                 {.on_head = [&](int status, const Headers& h) { answer.status = status, answer.headers = h; },
                  .on_data =
                      [&](std::string_view bytes) {
                        answer.body += bytes;
                        if (answer.body.size() <= kFetchedBytesMax) return;
                        outcome = fail(ErrorCode::kIo, "the answer is longer than {} MiB", kFetchedBytesMax >> 20);
                        loop.stop();
                      },
                  .on_end = [&](Status s) { outcome = outcome ? std::move(s) : outcome, loop.stop(); }});
  loop.run();
  LLORCH_OK(std::move(outcome));
  return answer;
}

}  // namespace llorch::net
