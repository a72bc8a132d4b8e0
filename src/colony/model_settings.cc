#include "colony/model_settings.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/integer.h"
#include "base/nearest.h"
#include "colony/facts.h"
#include "security/validate.h"

namespace llorch::colony {
namespace {

constexpr int kParallelDefault = 8;          // as the worker's --max-batch
constexpr std::size_t kPathBytesMax = 4095;  // of Linux

struct Kind {
  enum class Type { kWhole, kNumber, kChoice, kPath, kDevice, kDuration };
  std::string_view key;
  Type type;
  std::string_view about;
  double low = 0, high = 0;
  std::vector<std::string_view> choices = {};
};
using Type = Kind::Type;

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"ctx", Type::kWhole, "positions of context", 1, 1 << 24},
      {"max-batch", Type::kWhole, "sequences that run together", 1, 1024},
      {"kv-type", Type::kChoice, "numbers of the KV cache", 0, 0, {"f32", "f16", "q8_0"}},
      {"threads", Type::kWhole, "compute threads of a worker on the CPU", 1, 1024},
      {"device", Type::kDevice, "where its workers are made, for requests that name no device"},
      {"keep-alive", Type::kDuration, "how long an idle worker stays"},
      {"temperature", Type::kNumber, "of requests that name none", 0, 2},
      {"top-p", Type::kNumber, "of requests that name none", 0, 1},
      {"min-p", Type::kNumber, "of requests that name none", 0, 1},
      {"top-k", Type::kWhole, "of requests that name none", 0, 1 << 21},
      {"repetition-penalty", Type::kNumber, "of requests that name none", 1e-9, 2},
      {"chat-template", Type::kPath, "a Jinja template on the worker's machine, in place of the model's"}};
  return all;
}

/// Other names of a key.
constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {
    {"context", "ctx"}, {"context-length", "ctx"}, {"slots", "max-batch"}, {"parallel", "max-batch"}};

const char* type_name(Type type) {
  switch (type) {
    case Type::kWhole: return "integer";
    case Type::kNumber: return "number";
    case Type::kChoice: return "choice";
    case Type::kPath: return "path";
    case Type::kDevice: return "device";
    case Type::kDuration: return "duration";
  }
  return "";
}

/// "90", "90s", "5m", "2h"; "always".
std::optional<std::int64_t> seconds_of(std::string_view text) {
  if (text == "always") return ModelSettings::kAlways;
  std::int64_t unit = 1;
  for (const auto& [letter, seconds] : {std::pair('s', 1), {'m', 60}, {'h', 3600}})
    if (text.ends_with(letter)) unit = seconds;
  if (!text.empty() && text.find_last_not_of("smh") == text.size() - 2) text.remove_suffix(1);
  constexpr std::int64_t kMost = 365 * 86'400;
  const auto number = parse_integer<std::int64_t>(text);
  if (!number || text.starts_with('0') || *number < 1 || *number > kMost / unit) return std::nullopt;
  return *number * unit;
}

const Kind* find_kind(std::string_view key) {
  std::string spelled(key);
  std::ranges::replace(spelled, '_', '-');
  for (const auto& [other, own] : kOtherNames)
    if (spelled == other) spelled = own;
  const auto kind = std::ranges::find(kinds(), spelled, &Kind::key);
  return kind == kinds().end() ? nullptr : &*kind;
}

std::unexpected<Error> no_setting(std::string_view key) {
  std::vector<std::string> names;
  for (const Kind& k : kinds()) names.emplace_back(k.key);
  for (const auto& [other, own] : kOtherNames) names.emplace_back(other);
  return fail(ErrorCode::kInvalidRequest, "'{}' is no setting of a model{}", security::sanitize(key.substr(0, 64)),
              did_you_mean(key, names));
}

std::string wanted_of(const Kind& kind) {
  switch (kind.type) {
    case Type::kWhole: return fmt::format("a whole number from {} to {}", kind.low, kind.high);
    case Type::kNumber: return fmt::format("a number from {} to {}", kind.low, kind.high);
    case Type::kChoice: return fmt::format("{}", fmt::join(kind.choices, ", "));
    case Type::kPath:
      return fmt::format("an absolute path of at most {} bytes without control characters", kPathBytesMax);
    case Type::kDevice: return "cpu, gpu (any GPU) or one such as cuda:0";
    case Type::kDuration: return "a time such as 90s, 5m or 2h (a year at most), or always";
  }
  return "";
}

/// "0128" may be meant as octal, or be cut from something longer.
bool has_leading_zero(std::string_view number) {
  return number.size() > 1 && number[0] == '0' && number[1] >= '0' && number[1] <= '9';
}

bool takes(const Kind& kind, std::string_view value) {
  const auto within = [&](double number) { return number >= kind.low && number <= kind.high; };
  switch (kind.type) {
    case Type::kPath:
      return value.starts_with('/') && value.size() <= kPathBytesMax && !security::check_display(value) &&
             value.find_first_of("\t\r\n") == value.npos;
    case Type::kChoice: return std::ranges::find(kind.choices, value) != kind.choices.end();
    case Type::kDevice: return parse_device(value).has_value();
    case Type::kDuration: return seconds_of(value).has_value();
    case Type::kWhole: {
      const auto number = parse_integer<std::int64_t>(value);
      return number && within(static_cast<double>(*number)) && !has_leading_zero(value);
    }
    case Type::kNumber: break;
  }
  const char* end = value.data() + value.size();
  double number = 0;
  const auto [read, problem] = std::from_chars(value.data(), end, number);
  return problem == std::errc{} && read == end && within(number) && !has_leading_zero(value);
}

}  // namespace

Result<std::string> ModelSettings::key_of(std::string_view key) {
  const Kind* kind = find_kind(key);
  if (!kind) return no_setting(key);
  return std::string(kind->key);
}

Status ModelSettings::set(std::string_view key, std::string_view value) {
  const Kind* kind = find_kind(key);
  if (!kind) return no_setting(key);
  if (!takes(*kind, value)) return fail(ErrorCode::kInvalidRequest, "'{}' must be {}", kind->key, wanted_of(*kind));
  values_[std::string(kind->key)] = value;
  return {};
}

Status ModelSettings::unset(std::string_view key) {
  LLORCH_TRY(const std::string own, key_of(key));
  values_.erase(own);
  return {};
}

void ModelSettings::merge(const ModelSettings& over) {
  for (const auto& [key, value] : over.values_) values_[key] = value;
}

boost::json::array ModelSettings::description() {
  boost::json::array out;
  for (const Kind& k : kinds()) {
    boost::json::object o{{"key", k.key}, {"type", type_name(k.type)}, {"about", k.about}, {"takes", wanted_of(k)}};
    if (k.type == Type::kWhole)
      o["low"] = static_cast<std::int64_t>(k.low), o["high"] = static_cast<std::int64_t>(k.high);
    if (k.type == Type::kNumber) o["low"] = k.low, o["high"] = k.high;
    if (k.type == Type::kChoice) o["values"] = boost::json::value_from(k.choices);
    out.push_back(std::move(o));
  }
  return out;
}

Result<ModelSettings> ModelSettings::from_json(const boost::json::value& v) {
  const auto* o = v.if_object();
  if (!o) return fail(ErrorCode::kInvalidRequest, "settings must be an object of texts");
  ModelSettings out;
  for (const auto& [key, value] : *o) {
    if (!value.is_string()) return fail(ErrorCode::kInvalidRequest, "settings must be an object of texts");
    LLORCH_OK(out.set(key, value.get_string()));
  }
  return out;
}

boost::json::object ModelSettings::json() const {
  boost::json::object o;
  for (const auto& [key, value] : values_) o[key] = value;
  return o;
}

std::vector<std::string> ModelSettings::arguments() const {
  std::vector<std::string> out;
  for (const auto& [key, value] : values_)
    if (key != "device" && key != "keep-alive") out.push_back("--" + key), out.push_back(value);
  return out;
}

std::string ModelSettings::text(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? "" : found->second;
}

int ModelSettings::context() const { return parse_integer<int>(text("ctx")).value_or(0); }
int ModelSettings::parallel() const { return parse_integer<int>(text("max-batch")).value_or(kParallelDefault); }

std::string ModelSettings::device() const {
  const std::string named = text("device");
  return named.empty() ? "" : parse_device(named).value_or("");
}

std::optional<std::int64_t> ModelSettings::keep_alive() const { return seconds_of(text("keep-alive")); }

ModelSettings settings_for(const SettingsByModel& all, const ModelRef& ref) {
  ModelSettings out;
  const auto take = [&](const ModelRef& from) {
    if (const auto found = all.find(from.text()); found != all.end()) out.merge(found->second);
  };
  if (ref.kind == ModelRef::Kind::kHub && !ref.file.empty()) {
    ModelRef whole = ref;
    whole.file.clear();
    take(whole);
  }
  take(ref);
  return out;
}

}  // namespace llorch::colony
