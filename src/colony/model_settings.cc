#include "colony/model_settings.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>

#include "base/integer.h"
#include "base/nearest.h"

namespace llorch::colony {
namespace {

constexpr int kParallelDefault = 8;  // as the worker's --max-batch

struct Kind {
  std::string_view key;
  double low = 0, high = 0;
  bool whole = false;
  std::vector<std::string_view> words = {};  // instead of a number
  bool path = false;
};
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {{"ctx", 1, 1 << 24, true},
                                        {"threads", 1, 1024, true},
                                        {"max-batch", 1, 1024, true},
                                        {"kv-type", 0, 0, false, {"f32", "f16", "q8_0"}},
                                        {"chat-template", 0, 0, false, {}, true},
                                        {"temperature", 0, 2},
                                        {"top-p", 0, 1},
                                        {"min-p", 0, 1},
                                        {"top-k", 0, 1 << 21, true},
                                        {"repetition-penalty", 1e-9, 2}};
  return all;
}

/// Why a value is none of its kind; empty: it is one.
std::string flaw(const Kind& kind, std::string_view value) {
  if (kind.path) return value.starts_with('/') && !value.contains('\0') ? "" : "an absolute path";
  if (!kind.words.empty())
    return std::ranges::find(kind.words, value) != kind.words.end() ? ""
                                                                    : fmt::format("{}", fmt::join(kind.words, ", "));
  if (kind.whole) {
    const auto number = parse_integer<std::int64_t>(value);
    const bool fits = number && static_cast<double>(*number) >= kind.low && static_cast<double>(*number) <= kind.high;
    return fits ? "" : fmt::format("a whole number from {} to {}", kind.low, kind.high);
  }
  const std::string text(value);
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const bool fits = !text.empty() && *end == '\0' && number >= kind.low && number <= kind.high;
  return fits ? "" : fmt::format("a number from {} to {}", kind.low, kind.high);
}

}  // namespace

Status ModelSettings::set(std::string_view key, std::string_view value) {
  const auto kind = std::ranges::find(kinds(), key, &Kind::key);
  if (kind == kinds().end()) {
    std::vector<std::string> names;
    for (const Kind& k : kinds()) names.emplace_back(k.key);
    return fail(ErrorCode::kInvalidRequest, "'{}' is no setting of a model{}", key, did_you_mean(key, names));
  }
  if (const std::string wanted = flaw(*kind, value); !wanted.empty())
    return fail(ErrorCode::kInvalidRequest, "'{}' must be {}", key, wanted);
  values_[std::string(key)] = value;
  return {};
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
  for (const auto& [key, value] : values_) out.push_back("--" + key), out.push_back(value);
  return out;
}

std::string ModelSettings::text(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? "" : found->second;
}

int ModelSettings::context() const { return parse_integer<int>(text("ctx")).value_or(0); }
int ModelSettings::parallel() const { return parse_integer<int>(text("max-batch")).value_or(kParallelDefault); }

const ModelSettings* find_settings(const SettingsByModel& all, const ModelRef& ref) {
  if (const auto found = all.find(ref.text()); found != all.end()) return &found->second;
  if (ref.kind != ModelRef::Kind::kHub) return nullptr;
  ModelRef whole = ref;
  whole.file.clear();
  const auto found = all.find(whole.text());
  return found == all.end() ? nullptr : &found->second;
}

}  // namespace llorch::colony
