#include "worker/hive_link.h"

#include <algorithm>
#include <cstdlib>

#include "service/log.h"

namespace llorch::worker {

Status HiveLink::check() const {
  for (const std::string& url : {options_.hive_url, options_.callback_url})
    if (!url.empty()) LLORCH_OK(net::parse_url(url));
  return {};
}

/// POSTs with the spawn token; a status other than 2xx is an error.
net::Call HiveLink::post(net::Url url, boost::json::object body, std::function<void(Status)> then) {
  if (const char* spawn = std::getenv("LLORCH_SPAWN_TOKEN")) body["spawn_token"] = spawn;
  net::ClientRequest call;
  call.method = "POST";
  call.url = std::move(url);
  call.tls_name = options_.tls_name;
  call.headers.add("Content-Type", "application/json");
  front_.sign(call.headers);
  call.body = boost::json::serialize(body);
  auto status = std::make_shared<int>(0);
  return net::start_call(loop_, std::move(call),
                         {.on_head = [status](int s, const net::Headers&) { *status = s; },
                          .on_data = {},
                          .on_end =
                              [status, then = std::move(then)](Status s) {
                                if (s && *status / 100 != 2) s = fail(ErrorCode::kIo, "the hive answered {}", *status);
                                then(std::move(s));
                              }});
}

void HiveLink::report_ready(boost::json::object report, std::function<void(Status)> then) {
  if (options_.callback_url.empty()) return then({});
  callback_call_ = post(net::parse_url(options_.callback_url).value(), std::move(report), std::move(then));
}

void HiveLink::start_heartbeats(std::function<boost::json::object()> report) {
  report_ = std::move(report);
  if (!options_.hive_url.empty()) beat();
}

void HiveLink::beat() {
  net::Url url = net::parse_url(options_.hive_url).value().below("/v1/heartbeat");
  beat_call_ = post(std::move(url), report_(), [this](const Status& s) {
    failures_ = s ? 0 : failures_ + 1;
    if (!s) service::log(service::Level::kWarn, "heartbeat_failed", s.error().message, {{"failures", failures_}});
  });
  // A hive that does not answer is asked less often, at most eight times the interval.
  timer_ = loop_.after(options_.interval * (1 << std::min(failures_, 3)), [this] { beat(); });
}

}  // namespace llorch::worker
