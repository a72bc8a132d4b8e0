#include "hive/standing.h"

#include <unistd.h>

#include <boost/json.hpp>

#include "net/http_client.h"
#include "security/keys.h"
#include "security/validate.h"
#include "service/log.h"

namespace llorch::hive {

Error with_advice(Error refusal, const std::string& hive_id) {
  const bool refused = refusal.code == ErrorCode::kForbidden || refusal.code == ErrorCode::kInvalidApiKey ||
                       refusal.code == ErrorCode::kMissingApiKey;
  const bool ended = refusal.message.starts_with(net::kNoSecureConnection) && refusal.message.contains("expired");
  if ((!refused && !ended) || refusal.message.contains("join again")) return refusal;
  refusal.message += fmt::format(
      ": this hive must join again, with what `llorch hive invite --hive-id {}` prints on the queen's machine (here "
      "`llorch hive stop` first)",
      hive_id);
  return refusal;
}

Standing::Standing(service::Background& files, std::string file) : files_(files), file_(std::move(file)) {
  unlink(file_.c_str());
}

void Standing::heard(const Status& outcome) {
  const boost::json::object o{{"taken", outcome.has_value()},
                              {"code", outcome ? "" : name(outcome.error().code)},
                              {"message", outcome ? "" : security::sanitize(outcome.error().message)}};
  std::string text = boost::json::serialize(o);
  if (text == known_) return;
  if (outcome) service::log(service::Level::kInfo, "heartbeat_taken", "the queen takes this hive's heartbeats");
  known_ = text;
  files_.run([file = file_, text = std::move(text)] {
    if (const Status s = security::write_secret_file(file, text); !s)
      service::log(service::Level::kWarn, "standing_not_kept", s.error().message);
  });
}

}  // namespace llorch::hive
