#include "format/json_keys.h"

#include <boost/json/basic_parser_impl.hpp>
#include <set>
#include <vector>

namespace llorch::json {
namespace {

class DoubledKeys {
 public:
  static constexpr std::size_t max_object_size = std::size_t(-1), max_array_size = std::size_t(-1),
                               max_key_size = std::size_t(-1), max_string_size = std::size_t(-1);
  using error_code = boost::json::error_code;
  using view = boost::json::string_view;
  std::optional<std::string> found;
  std::size_t keys = 0;  // seen so far

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) { return open_.emplace_back(), true; }
  bool on_object_end(std::size_t, error_code&) { return open_.pop_back(), value(); }
  bool on_array_begin(error_code&) { return open_.emplace_back().list = true; }
  bool on_array_end(std::size_t, error_code&) { return open_.pop_back(), value(); }
  bool on_key_part(view part, std::size_t, error_code&) { return key_.append(part.data(), part.size()), true; }
  bool on_key(view part, std::size_t, error_code&) {
    key_.append(part.data(), part.size());
    ++keys;
    const auto [at, added] = open_.back().keys.insert(std::exchange(key_, {}));
    open_.back().key = &*at;
    if (!added && !found) found = place();
    return true;
  }
  bool on_string_part(view, std::size_t, error_code&) { return true; }
  bool on_string(view, std::size_t, error_code&) { return value(); }
  bool on_number_part(view, error_code&) { return true; }
  bool on_int64(std::int64_t, view, error_code&) { return value(); }
  bool on_uint64(std::uint64_t, view, error_code&) { return value(); }
  bool on_double(double, view, error_code&) { return value(); }
  bool on_bool(bool, error_code&) { return value(); }
  bool on_null(error_code&) { return value(); }
  bool on_comment_part(view, error_code&) { return true; }
  bool on_comment(view, error_code&) { return true; }

 private:
  /// A list or an object that has not ended.
  struct Open {
    std::set<std::string> keys;
    const std::string* key = nullptr;  // the last one
    std::size_t values = 0;            // of a list, that have ended
    bool list = false;
  };
  bool value() {
    if (!open_.empty()) ++open_.back().values;
    return true;
  }
  [[nodiscard]] std::string place() const {
    std::string text;
    for (const Open& each : open_)
      text += each.list ? fmt::format("[{}]", each.values) : (text.empty() ? "" : ".") + *each.key;
    return text;
  }

  std::vector<Open> open_;
  std::string key_;
};

constexpr std::size_t kKeysPortion = 65'536, kUnitsOfKey = 32;

}  // namespace

Result<std::optional<std::string>> doubled_key(std::string_view text, WorkLimit* limit) {
  boost::json::basic_parser<DoubledKeys> parser({.max_depth = 64});
  boost::json::error_code problem;
  std::size_t charged = 0;
  for (std::size_t at = 0; at < text.size() && !problem; at += kKeysPortion) {
    const std::string_view part = text.substr(at, kKeysPortion);
    parser.write_some(at + kKeysPortion < text.size(), part.data(), part.size(), problem);
    const std::size_t keys = parser.handler().keys;
    if (limit) LLORCH_OK(limit->charge(part.size() + kUnitsOfKey * (keys - std::exchange(charged, keys))));
    if (parser.handler().found) return parser.handler().found;
  }
  return std::nullopt;
}

}  // namespace llorch::json
