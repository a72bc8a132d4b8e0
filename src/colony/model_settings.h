// How a model is to be served, wherever its workers run: settings of the person who runs the queen, which she hands to
// the hive and the hive to the worker, as flags of `serve`.
//
// Each is checked where it is written, so that a wrong one is named there and not by a worker that does not start.
// Threads: any. Errors: kInvalidRequest with the key.
#pragma once

#include <boost/json.hpp>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "colony/model_ref.h"

namespace llorch::colony {

class ModelSettings {
 public:
  /// Errors: no such setting, with the nearest name; a value that it does not take.
  [[nodiscard]] Status set(std::string_view key, std::string_view value);
  [[nodiscard]] static Result<ModelSettings> from_json(const boost::json::value& v);
  [[nodiscard]] boost::json::object json() const;
  /// For `serve`.
  [[nodiscard]] std::vector<std::string> arguments() const;
  [[nodiscard]] bool empty() const { return values_.empty(); }
  /// The text of a setting; empty: it is not set.
  [[nodiscard]] std::string text(std::string_view key) const;
  /// What memory depends on: positions, 0 where they are not set; sequences that run together.
  [[nodiscard]] int context() const;
  [[nodiscard]] int parallel() const;

  bool operator==(const ModelSettings&) const = default;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

/// Of many models: those of a reference, else those of its repository without a file or quantization.
using SettingsByModel = std::map<std::string, ModelSettings, std::less<>>;  // by ModelRef::text()
[[nodiscard]] const ModelSettings* find_settings(const SettingsByModel& all, const ModelRef& ref);

}  // namespace llorch::colony
