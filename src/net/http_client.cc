#include "net/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "net/asio.h"

namespace llorch::net {

namespace http = boost::beast::http;

namespace {

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

}  // namespace

struct Call::State : std::enable_shared_from_this<Call::State> {
  State(EventLoop& loop, ClientRequest r, ClientCallbacks c)
      : request(std::move(r)),
        callbacks(std::move(c)),
        resolver(loop.impl().io),
        socket(loop.impl().io),
        timer(loop.impl().io) {}

  /// One timer for the whole call: every read moves the limit, and the timer looks at it when it fires.
  void arm(std::chrono::milliseconds timeout) {
    limit = Clock::now() + timeout;
    if (!waiting || timer.expiry() > limit) wait();
  }
  void wait() {
    waiting = true;
    timer.expires_at(limit);
    timer.async_wait([weak = weak_from_this()](const error_code& problem) {
      const auto self = weak.lock();
      if (problem || !self) return;
      if (Clock::now() < self->limit) return self->wait();
      self->timed_out = true;
      self->stop();
    });
  }
  void stop() {
    error_code ignored;
    resolver.cancel();
    (void)socket.close(ignored);
    timer.cancel();
  }
  void end(Status outcome) {
    stop();
    const auto told = std::exchange(callbacks.on_end, nullptr);
    callbacks = {};
    if (told) told(std::move(outcome));
  }
  Status broken(std::string_view where, const error_code& problem) const {
    return fail(ErrorCode::kIo, "{} {}:{}: {}", where, request.url.host, request.url.port,
                timed_out ? "timed out" : problem.message());
  }

  asio::awaitable<void> run();

  ClientRequest request;
  ClientCallbacks callbacks;
  tcp::resolver resolver;
  tcp::socket socket;
  asio::steady_timer timer;
  Clock::time_point limit;
  bool timed_out = false, waiting = false;
};

asio::awaitable<void> Call::State::run() {
  const auto self = shared_from_this();
  if (const Status sound = check_request(request); !sound) co_return end(sound);
  arm(request.connect_timeout);
  const auto [unresolved, endpoints] =
      co_await resolver.async_resolve(request.url.host, std::to_string(request.url.port), kTuple);
  if (unresolved) co_return end(broken("cannot resolve", unresolved));
  error_code problem = asio::error::host_not_found;
  for (const auto& entry : endpoints) {
    error_code ignored;
    (void)socket.close(ignored);
    std::tie(problem) = co_await socket.async_connect(entry.endpoint(), kTuple);
    if (!problem || timed_out || !callbacks.on_end) break;
  }
  if (problem) co_return end(broken("cannot connect to", problem));
  std::string out = fmt::format("{} {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n", request.method,
                                request.url.path, request.url.host, request.url.port);
  for (const auto& [name, value] : request.headers.fields()) out += fmt::format("{}: {}\r\n", name, value);
  if (!request.body.empty() || request.method == "POST")
    out += fmt::format("Content-Length: {}\r\n", request.body.size());
  out += "\r\n" + request.body;
  arm(request.idle_timeout);
  error_code ignored;
  (void)socket.set_option(tcp::no_delay(true), ignored);
  std::tie(problem, std::ignore) = co_await asio::async_write(socket, asio::buffer(out), kTuple);
  if (problem) co_return end(broken("cannot send to", problem));
  http::response_parser<http::string_body> parser;
  parser.eager(true);
  parser.body_limit(boost::none);
  std::string in;
  bool head_told = false;
  while (callbacks.on_end) {
    std::array<char, 16384> bytes;  // NOLINT
    std::size_t n = 0;
    arm(request.idle_timeout);
    std::tie(problem, n) = co_await socket.async_read_some(asio::buffer(bytes), kTuple);
    if (!callbacks.on_end) co_return;
    in.append(bytes.data(), n);
    error_code broke;
    while (!in.empty() && !parser.is_done()) {
      const std::size_t used = parser.put(asio::buffer(in), broke);
      in.erase(0, used);
      if (broke || used == 0) break;
    }
    if (broke && broke != http::error::need_more) co_return end(broken("malformed answer from", broke));
    if (problem == asio::error::eof && parser.is_header_done() && !parser.is_done()) parser.put_eof(broke);
    if (parser.is_header_done() && !std::exchange(head_told, true)) {
      Headers headers;
      for (const auto& field : parser.get()) headers.add(std::string(field.name_string()), std::string(field.value()));
      if (callbacks.on_head) callbacks.on_head(static_cast<int>(parser.get().result_int()), headers);
    }
    if (std::string data = std::exchange(parser.get().body(), {}); !data.empty() && callbacks.on_data)
      callbacks.on_data(data);
    if (parser.is_done()) co_return end({});
    if (problem) co_return end(broken("cut off by", problem));
  }
}

Call::~Call() {
  if (!state_) return;
  state_->callbacks = {};
  state_->stop();
}
Call& Call::operator=(Call&& other) noexcept {
  if (this != &other) {
    if (state_) state_->callbacks = {}, state_->stop();
    state_ = std::move(other.state_);
  }
  return *this;
}

Call start_call(EventLoop& loop, ClientRequest request, ClientCallbacks callbacks) {
  Call call;
  call.state_ = std::make_shared<Call::State>(loop, std::move(request), std::move(callbacks));
  asio::co_spawn(
      loop.impl().io, [state = call.state_]() { return state->run(); },
      [state = call.state_](const std::exception_ptr& thrown) {
        if (thrown) state->end(fail(ErrorCode::kInternal, "the call has failed: out of memory, most likely"));
      });
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
                  .on_end = [&](Status s) { outcome = std::move(s), loop.stop(); }});
  loop.run();
  LLORCH_OK(std::move(outcome));
  return answer;
}

}  // namespace llorch::net
