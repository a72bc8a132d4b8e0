// How a hive stands with its queen: taken, or not and why, in a file of its data directory for `llorch hive start` and
// `llorch hive status`, who have no other way to know of a hive that joined.
//
// The file `standing` is {"taken", "code", "message"}; it is written when that changes. Threads: the loop's.
#pragma once

#include <string>

#include "service/background.h"

namespace llorch::hive {

/// A queen's refusal with what to do about it, where joining again helps.
[[nodiscard]] Error with_advice(Error refusal, const std::string& hive_id);

class Standing {
 public:
  /// What the file says of an earlier run goes.
  Standing(service::Background& files, std::string file);
  /// A heartbeat was taken, or why not.
  void heard(const Status& outcome);

 private:
  service::Background& files_;
  std::string file_, known_;
};

}  // namespace llorch::hive
