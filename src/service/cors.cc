#include "service/cors.h"

#include <algorithm>

namespace llorch::service {
namespace {

bool is_one_of(char c, std::string_view others) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || others.contains(c);
}

/// As browsers write it. Errors: kInvalidRequest.
Result<std::string> read_origin(std::string_view given) {
  std::string origin(given);
  for (char& c : origin)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (origin == "null") return origin;
  if (origin.ends_with('/') && !origin.ends_with("//")) origin.pop_back();
  const std::size_t mark = origin.find("://");
  const std::string_view scheme = std::string_view(origin).substr(0, mark);
  const std::string_view host = mark == std::string::npos ? "" : std::string_view(origin).substr(mark + 3);
  if (scheme.empty() || host.empty() || !std::ranges::all_of(scheme, [](char c) { return is_one_of(c, "+-."); }) ||
      !std::ranges::all_of(host, [](char c) { return is_one_of(c, "-._:[]"); }))
    return fail(ErrorCode::kInvalidRequest, "--cors-origin: '{}' is no origin, such as http://localhost:3000", given);
  for (const std::string_view own : {"http|:80", "https|:443"})
    if (const std::size_t bar = own.find('|'); scheme == own.substr(0, bar) && host.ends_with(own.substr(bar + 1)))
      return origin.substr(0, origin.size() - (own.size() - bar - 1));
  return origin;
}

}  // namespace

Result<CorsPolicy> CorsPolicy::make(const std::vector<std::string>& origins) {
  CorsPolicy policy;
  for (const std::string& origin : origins) {
    if (origin == "*") {
      policy.all_ = true;
      continue;
    }
    LLORCH_TRY(std::string read, read_origin(origin));
    policy.origins_.push_back(std::move(read));
  }
  return policy;
}

CorsAnswer CorsPolicy::answer(const std::optional<std::string>& origin) const {
  CorsAnswer answer;
  answer.varies = !all_ && !origins_.empty();
  if (!origin) return answer;
  const auto same = [&](const std::string& known) { return net::equal_ignoring_case(known, *origin); };
  if (all_)
    answer.allow_origin = "*";
  else if (std::ranges::any_of(origins_, same))
    answer.allow_origin = *origin;
  return answer;
}

void CorsAnswer::add_to(net::Headers& headers) const {
  if (varies) headers.add("Vary", "Origin");
  if (!allowed()) return;
  headers.add("Access-Control-Allow-Origin", allow_origin);
  headers.add("Access-Control-Expose-Headers",
              "X-Correlation-Id, x-request-id, Retry-After, retry-after-ms, x-should-retry, X-Llorch-Ignored, "
              "X-Llorch-Sampling, "
              "X-Sse-Url, X-Deadline-Exceeded-By-Ms, Idempotent-Replayed");
}

void add_preflight_headers(net::Headers& headers, const std::string& methods, std::string_view wanted) {
  constexpr std::size_t kWantedBytesMax = 1024;
  std::string names =
      "Authorization, Content-Type, x-api-key, anthropic-version, anthropic-beta, Idempotency-Key, Last-Event-ID, "
      "X-Correlation-Id, X-Deadline, X-Resumable, X-Llorch-Feed, traceparent";
  // Clients send headers of their own (X-Stainless-...), which nobody reads here.
  const auto plain = [](char c) { return is_one_of(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_, "); };
  if (!wanted.empty() && wanted.size() <= kWantedBytesMax && std::ranges::all_of(wanted, plain))
    names.append(", ").append(wanted);
  headers.add("Access-Control-Allow-Methods", methods);
  headers.add("Access-Control-Allow-Headers", names);
  headers.add("Access-Control-Max-Age", "3600");
  headers.add("Vary", "Access-Control-Request-Headers");
}

}  // namespace llorch::service
