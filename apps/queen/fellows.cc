#include "queen/fellows.h"

#include "format/json.h"
#include "queen/queen.h"
#include "service/remote.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;
using service::FlowPtr;
using service::Procedure;
using service::Step;

constexpr const char* kPassedOn = "X-Llorch-Passed-On";
constexpr std::chrono::seconds kHeadTime{5};  // until an answer begins
constexpr std::size_t kPassedUnsentMax = 8u << 20, kPassedBytesMax = 32u << 20;

/// What one of them has answered.
struct Answered {
  net::Response response;
  bool streams = false;
  std::optional<Error> refused;  // by us: the answer cannot be passed on

  /// What only she who has the job says; others may refuse for reasons of their own.
  [[nodiscard]] bool is_answer() const {
    const int s = response.status;
    return (s >= 200 && s < 300) || s == 400 || s == 409 || s == 416;
  }
  [[nodiscard]] bool knows_none() const {
    if (streams || response.status != 404) return false;
    const auto body = json::parse(response.body, "answer");
    const auto* o = body ? body->if_object() : nullptr;
    const auto* error = o ? json::find_object(*o, "error") : nullptr;
    return error && json::find_text(*error, "code") == name(ErrorCode::kJobNotFound);
  }
};
using AnsweredPtr = std::shared_ptr<Answered>;

net::ClientRequest passed_on(const ContextPtr& c, const net::Url& queen) {
  net::ClientRequest call;
  call.method = c->request.method;
  net::UrlPath path = net::url_path(c->request.target.path);
  for (const auto& [name, value] : c->request.target.query) path.query(name, value);
  call.url = queen.below(path.text()), call.tls_name = security::queen_tls_name();
  for (const char* name : {"Authorization", "x-api-key", "Last-Event-ID", "Accept"})
    if (const auto value = c->request.headers.get(name)) call.headers.add(name, *value);
  call.headers.add("X-Correlation-Id", c->correlation_id);
  call.headers.add(kPassedOn, "1");
  call.connect_timeout = std::chrono::seconds(2);
  call.idle_timeout = std::chrono::seconds(600);  // a stream has comments
  return call;
}

void take_head(const ContextPtr& c, Answered& a, int status, const net::Headers& headers) {
  a.response.status = status < 200 || status > 599 ? 502 : status;
  a.response.content_type = headers.get("Content-Type").value_or("application/json");
  for (const char* name : {"Retry-After", "retry-after-ms", "x-should-retry", "Cache-Control", "X-Accel-Buffering"})
    if (const auto value = headers.get(name)) a.response.headers.add(name, *value);
  a.streams = a.is_answer() && (a.response.content_type.starts_with("text/event-stream") ||
                                a.response.content_type.starts_with("application/x-ndjson"));
  if (!a.streams) return;
  c->decorate(a.response.headers);
  c->exchange->start(a.response);
  c->streamed(a.response.status);
}

/// False: no more of it is wanted.
bool take_bytes(const ContextPtr& c, Answered& a, std::string_view bytes) {
  if (!a.streams) {
    a.response.body += bytes;
    if (a.response.body.size() <= kPassedBytesMax) return true;
    a.refused = Error{ErrorCode::kInternal, "the answer of another queen is longer than 32 MiB"};
    return false;
  }
  c->exchange->write(std::string(bytes));
  if (c->exchange->unsent() <= kPassedUnsentMax) return true;
  a.refused = Error{ErrorCode::kInternal, "the client does not take its stream"};
  return false;
}

Step<bool> ask(const FlowPtr& flow, const ContextPtr& c, net::ClientRequest call, const AnsweredPtr& a) {
  return {flow, [flow, c, a, call = std::move(call)](const Step<bool>::Done& done) -> std::any {
            net::ClientCallbacks on;
            const auto late = std::make_shared<net::EventLoop::Timer>(
                flow->loop().after(kHeadTime, [done] { done(fail(ErrorCode::kIo, "no answer in time")); }));
            on.on_head = [flow, c, a, late](int status, const net::Headers& headers) {
              late->cancel();
              if (!flow->cancelled()) take_head(c, *a, status, headers);
            };
            on.on_data = [flow, c, a, done](std::string_view bytes) {
              if (flow->cancelled() || a->refused) return;
              if (!take_bytes(c, *a, bytes)) done(std::unexpected(*a->refused));
            };
            on.on_end = [a, done](Status s) {
              if (a->refused) return;  // that was told
              done(s ? Result<bool>(true) : std::unexpected(std::move(s).error()));
            };
            return std::pair(late, std::make_shared<net::Call>(net::start_call(flow->loop(), call, std::move(on))));
          }};
}

Procedure ask_each(FlowPtr flow, ContextPtr c, std::vector<net::Url> queens) {
  std::string silent;  // and who would not say, with why
  for (const net::Url& queen : queens) {
    const auto a = std::make_shared<Answered>();
    auto asking = ask(flow, c, passed_on(c, queen), a);
    const auto outcome = co_await asking;
    if (!c->exchange->alive()) co_return;
    if (a->streams && !outcome) co_return c->exchange->abort();  // whoever reads it resumes, here or elsewhere
    if (a->streams) co_return c->exchange->finish();
    if (outcome && a->is_answer()) co_return c->reply(std::move(a->response));
    if (outcome && a->knows_none()) continue;
    if (a->refused) co_return c->fail(*a->refused);
    if (flow->cancelled()) co_return c->fail(*flow->cancelled());
    silent += fmt::format("{}{}:{}", silent.empty() ? "" : ", ", queen.host, queen.port);
    if (outcome) silent += fmt::format(" ({})", a->response.status);
  }
  if (silent.empty()) co_return c->fail({ErrorCode::kJobNotFound, "no such job"});
  c->fail({ErrorCode::kJobNotFound,
           fmt::format("no queen that answers knows such a job; {} may, and does not say", silent)});
}

}  // namespace

bool ask_fellows(Queen& q, const ContextPtr& c) {
  if (!q.sharing() || c->request.headers.get(kPassedOn)) return false;
  std::vector<net::Url> queens;
  const std::vector<std::string> urls = q.sharing()->fleet().urls();
  for (std::size_t i = 1; i < urls.size(); ++i)  // the first is she herself
    if (auto url = net::parse_url(urls[i])) queens.push_back(*std::move(url));
  if (queens.empty()) return false;
  const FlowPtr flow = q.gate().flow();
  c->exchange->on_gone = [weak = std::weak_ptr(flow)] {
    if (const auto alive = weak.lock()) alive->cancel({ErrorCode::kCancelled, "the client has left"});
  };
  ask_each(flow, c, std::move(queens));
  return true;
}

}  // namespace llorch::queen
