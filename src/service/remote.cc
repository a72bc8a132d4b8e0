#include "service/remote.h"

#include <fmt/format.h>

#include "format/json.h"
#include "net/sse.h"

namespace llorch::service {
namespace {

constexpr std::size_t kJsonBytesMax = 1u << 20;  // of an answer or an event: it is parsed on the loop

/// Nothing is null; what is no JSON is an error.
Result<boost::json::value> parse(std::string_view text) {
  if (text.empty()) return boost::json::value();
  auto value = json::parse(text, "answer");
  if (!value) return fail(ErrorCode::kIo, "the answer is no JSON");
  return *std::move(value);
}

/// The same of a refusal, whose status tells enough.
boost::json::value parse_refusal(std::string_view text) { return parse(text).value_or(boost::json::value()); }

}  // namespace

net::ClientRequest request_to(const Peer& peer, Asked asked) {
  net::ClientRequest r;
  r.method = std::move(asked.method);
  r.url = peer.base.below(asked.path);
  r.tls_name = peer.tls_name;
  r.headers = std::move(asked.headers);
  r.idle_timeout = asked.idle_timeout;
  if (!asked.body.empty()) r.headers.add("Content-Type", "application/json");
  r.body = std::move(asked.body);
  if (!peer.token.empty()) r.headers.add("Authorization", "Bearer " + peer.token);
  return r;
}

Result<Peer> make_peer(std::string_view url, std::string token, std::string_view tls_name) {
  LLORCH_TRY(net::Url base, net::parse_url(url));
  return Peer{std::move(base), std::move(token), std::string(tls_name)};
}

ErrorCode code_of(std::string_view wanted) {
  for (std::size_t i = 0; i < std::size(kErrorKinds); ++i)
    if (net::equal_ignoring_case(kErrorKinds[i].name, wanted)) return static_cast<ErrorCode>(i);
  return ErrorCode::kInternal;
}

Status check(const JsonAnswer& answer) {
  if (answer.status / 100 == 2) return {};
  Error error{ErrorCode::kInternal, fmt::format("answered {}", answer.status)};
  if (const auto* o = answer.body.if_object())
    if (const auto* e = json::find_object(*o, "error")) {
      error.code = code_of(json::find_text(*e, "code").value_or(""));
      error.message = json::find_text(*e, "message").value_or(error.message);
    }
  return std::unexpected(std::move(error));
}

Step<JsonAnswer> ask(const FlowPtr& flow, const Peer& peer, Asked asked) {
  return {flow, [&loop = flow->loop(), peer, asked = std::move(asked)](Step<JsonAnswer>::Done done) -> std::any {
            struct Collected {
              JsonAnswer answer;
              std::string text;
            };
            const auto got = std::make_shared<Collected>();
            return std::make_shared<net::Call>(net::start_call(
                loop, request_to(peer, asked),
                {.on_head = [got](int s, const net::Headers& h) { got->answer.status = s, got->answer.headers = h; },
                 .on_data =
                     [got, done](std::string_view bytes) {
                       got->text += bytes.substr(0, kJsonBytesMax + 1 - std::min(kJsonBytesMax + 1, got->text.size()));
                       if (got->text.size() > kJsonBytesMax)
                         done(fail(ErrorCode::kIo, "the answer is longer than {} MiB", kJsonBytesMax >> 20));
                     },
                 .on_end =
                     [got, done](Status s) {
                       if (!s) return done(std::unexpected(std::move(s).error()));
                       auto body = parse(got->text);
                       if (!body && got->answer.status / 100 == 2) return done(std::unexpected(body.error()));
                       got->answer.body = std::move(body).value_or(boost::json::value());
                       done(std::move(got->answer));
                     }}));
          }};
}

Step<bool> follow(const FlowPtr& flow, const Peer& peer, std::string path, OnEvent& on_event, const OnLine& on_line) {
  Asked asked("GET", std::move(path));
  return {flow, [flow, peer, asked = std::move(asked), on_event, on_line](const Step<bool>::Done& done) -> std::any {
            struct Stream {
              int status = 0;
              std::string refusal;
              std::shared_ptr<bool> sound;
              net::SseParser parser;
            };
            const auto sound = std::make_shared<bool>(true);
            const auto stream =
                std::make_shared<Stream>(Stream{0,
                                                {},
                                                sound,
                                                net::SseParser(
                                                    [flow, on_event, on_line, sound](const net::SseEvent& e) {
                                                      if (e.data == "[DONE]" || !*sound || flow->cancelled()) return;
                                                      if (on_line && on_line(e.type, e.data)) return;
                                                      const auto data = parse(e.data);
                                                      *sound = data && data->is_object();
                                                      if (*sound) on_event(e.type, data->get_object());
                                                    },
                                                    kJsonBytesMax)});
            return std::make_shared<net::Call>(net::start_call(
                flow->loop(), request_to(peer, asked),
                {.on_head = [stream](int status, const net::Headers&) { stream->status = status; },
                 .on_data =
                     [stream, done](std::string_view bytes) {
                       if (stream->status != 200) {
                         if (stream->refusal.size() < 65'536) stream->refusal += bytes.substr(0, 65'536);
                       } else if (!stream->parser.push(bytes)) {
                         done(fail(ErrorCode::kIo, "an event of the stream is too long"));
                       } else if (!*stream->sound) {
                         done(fail(ErrorCode::kIo, "an event of the stream is no JSON object"));
                       }
                     },
                 .on_end =
                     [stream, done](Status s) {
                       if (!s) return done(std::unexpected(std::move(s).error()));
                       if (Status refused = check({stream->status, parse_refusal(stream->refusal), {}}); !refused)
                         return done(std::unexpected(std::move(refused).error()));
                       if (!stream->parser.done()) return done(fail(ErrorCode::kIo, "the stream broke off"));
                       done(true);
                     }}));
          }};
}

}  // namespace llorch::service
