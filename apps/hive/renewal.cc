#include "hive/renewal.h"

#include "hive/joining.h"
#include "service/log.h"

namespace llorch::hive {
namespace {

constexpr std::chrono::hours kLookAgain{1};

using security::now_in_seconds;

}  // namespace

service::Procedure renew(service::FlowPtr flow, Renewal& renewal) {
  Renewal::Parts& parts = renewal.parts_;
  const auto own = parts.front.tls().now().own;
  const auto left = std::chrono::duration_cast<std::chrono::seconds>(own->not_after - now_in_seconds());
  // The next try comes when a part of what is left is over: often at the end, never in a storm.
  const auto give_up = [&](const Error& why) {
    service::log(service::Level::kError, "certificate_not_renewed", why.message);
    renewal.again_in(std::clamp<std::chrono::seconds>(left / 10, std::chrono::seconds(1), kLookAgain));
  };
  auto make = [] { return make_wish(); };
  const auto wish = co_await service::in_background(flow, parts.files, make);
  if (!wish) co_return give_up(wish.error());
  if (!*wish) co_return give_up(wish->error());
  const auto queen = parts.queen();
  if (!queen) co_return give_up(queen.error());
  const boost::json::object body{
      {"hive_id", parts.hive_id}, {"certificate_request", (*wish)->request}, {"url", parts.front.url()}};
  const service::Asked request("POST", "/v1/hive/certificate", boost::json::serialize(body));
  const auto answer = co_await service::ask(flow, *queen, request);
  if (!answer) co_return give_up(answer.error());
  if (const Status s = service::check(*answer); !s) co_return give_up(s.error());
  auto keep = [folder = parts.folder, id = parts.hive_id, key = (*wish)->private_key, given = answer->body,
               root = parts.front.tls().now().root]() -> Result<bool> {
    LLORCH_OK(keep_certificate(folder, id, key, given, root));
    return true;
  };
  const auto kept = co_await service::in_background(flow, parts.files, keep);
  if (!kept) co_return give_up(kept.error());
  if (!*kept) co_return give_up(kept->error());
  service::log(service::Level::kInfo, "certificate_renewed", "the queen has signed the next certificate");
  parts.front.read_certificates();
  renewal.again_in(std::chrono::seconds(1));
}

void Renewal::again_in(std::chrono::seconds time) {
  timer_ = parts_.loop.after(time, [this] { wait(); });
}

void Renewal::wait() {
  const auto& own = parts_.front.tls().now().own;
  if (!own) return;
  if (own->not_after <= now_in_seconds()) {
    service::log(service::Level::kError, "certificate_ended", must_join_again(parts_.hive_id).message);
    return again_in(kLookAgain);
  }
  const auto left = std::chrono::duration_cast<std::chrono::seconds>(security::renewal_time(*own) - now_in_seconds());
  if (left > std::chrono::seconds(0)) return again_in(std::min<std::chrono::seconds>(left, kLookAgain));
  renew(parts_.gate.flow(), *this);
}

}  // namespace llorch::hive
