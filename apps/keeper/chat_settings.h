// What `/set` changes of a conversation's questions: the flags of `llorch chat` that shape an answer.
#pragma once

#include <map>
#include <string>

#include "keeper/asking.h"

namespace llorch::keeper {

class ChatSettings {
 public:
  /// `name` as the flag or as the field of the API has it; no value takes the setting back. Errors: kInvalidRequest
  /// naming the settings there are, or what is wrong with the value; then nothing has changed.
  [[nodiscard]] Status set(std::string name, const std::string& value);
  /// The request with what was set in place of what it says.
  void apply(boost::json::object& request) const;
  /// By name.
  [[nodiscard]] const std::map<std::string, std::string>& all() const { return values_; }
  /// Of all settings there are, for help.
  [[nodiscard]] static std::string names();

 private:
  std::map<std::string, std::string> values_;
  boost::json::object fields_;  // the same as fields of a request
};

}  // namespace llorch::keeper
