// How a model is to be served, wherever its workers run: settings of the person who runs the queen, which she hands to
// the hive and the hive to the worker, as flags of `serve`. The device is the queen's own matter, how long an idle
// worker stays the hive's.
//
// Each is checked where it is written, so that a wrong one is named there and not by a worker that does not start.
// Threads: any. Errors: kInvalidRequest with the key.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "colony/model_ref.h"

namespace llorch::colony {

class ModelSettings {
 public:
  /// `key` may also be a name that people use for it: context, slots, or with "_" for "-". Errors: no such setting,
  /// with the nearest name; a value that it does not take.
  [[nodiscard]] Status set(std::string_view key, std::string_view value);
  /// It is not set any more. Errors: no such setting, with the nearest name.
  [[nodiscard]] Status unset(std::string_view key);
  /// What `over` sets replaces what is here.
  void merge(const ModelSettings& over);
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
  /// As parse_device() gives it; empty: any.
  [[nodiscard]] std::string device() const;
  /// Seconds for which an idle worker stays, kAlways: it is never stopped for being idle; nothing: as its hive has it.
  [[nodiscard]] std::optional<std::int64_t> keep_alive() const;
  static constexpr std::int64_t kAlways = -1;
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& all() const { return values_; }

  /// Every setting that there is, for people and forms: {key, type, what it takes, about}.
  [[nodiscard]] static boost::json::array description();
  /// The one spelling of a key. Errors: as set().
  [[nodiscard]] static Result<std::string> key_of(std::string_view key);

  bool operator==(const ModelSettings&) const = default;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

using SettingsByModel = std::map<std::string, ModelSettings, std::less<>>;  // by ModelRef::text()
/// Of many models: those of a reference over those of its repository without a file or quantization.
[[nodiscard]] ModelSettings settings_for(const SettingsByModel& all, const ModelRef& ref);

}  // namespace llorch::colony
