#include "arch/hf_sentence.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>

#include "arch/hyper.h"
#include "base/limits.h"
#include "base/path_name.h"
#include "format/json.h"

namespace llorch::arch {
namespace {

struct PoolingMode {
  std::string_view name, flag;
  std::uint32_t type;  // GGUF's; 0: not computed here
};
constexpr PoolingMode kModes[] = {
    {"mean", "pooling_mode_mean_tokens", 1},
    {"cls", "pooling_mode_cls_token", 2},
    {"lasttoken", "pooling_mode_lasttoken", 3},
    {"max", "pooling_mode_max_tokens", 0},
    {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", 0},
    {"weightedmean", "pooling_mode_weightedmean_tokens", 0},
};

/// A file's object; nothing where there is no such file.
Result<std::optional<json::value>> read_object(const std::string& path) {
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) return std::nullopt;
  LLORCH_TRY(json::value value, json::parse_file(path));
  if (!value.is_object()) return bad_model("{} is no object", path);
  return value;
}

/// The one mode of a Pooling module: by its name, or by the flag that is true.
Result<std::string_view> mode_of(const json::object& o, const std::string& path) {
  if (const json::value* named = json::find(o, "pooling_mode")) {
    if (!named->is_string()) return bad_model("{}: several modes in 'pooling_mode' are not supported", path);
    return std::string_view(named->get_string());
  }
  std::string_view found;
  for (const PoolingMode& mode : kModes) {
    const json::value* flag = json::find(o, mode.flag);
    if (!flag) continue;
    if (!flag->is_bool()) return bad_model("{}: '{}' is neither true nor false", path, mode.flag);
    if (!flag->get_bool()) continue;
    if (!found.empty()) return bad_model("{}: '{}' beside another mode is not supported", path, mode.flag);
    found = mode.name;
  }
  return found.empty() ? "mean" : found;  // as the library has it
}

Status read_pooling(const std::string& path, std::string_view family, Metadata& out) {
  LLORCH_TRY(const auto config, read_object(path));
  if (!config) return bad_model("{} is missing, which modules.json names", path);
  LLORCH_TRY(const std::string_view name, mode_of(config->get_object(), path));
  const auto* mode = std::ranges::find(kModes, name, &PoolingMode::name);
  if (mode == std::end(kModes) || mode->type == 0)
    return bad_model("{}: pooling mode '{}' is not supported (mean, cls and lasttoken are)", path, name);
  const std::string key = std::string(family) + ".pooling_type";
  if (const auto stated = out.unsigned_integer(key); stated && *stated == kRankPooling)
    return bad_model("{}: pooling beside a classification head is not supported", path);
  out.set(key, MetaValue::u32(mode->type));
  return {};
}

/// One module: its kind is the last part of its type's name, which has changed between versions.
Status read_module(const std::string& directory, const json::value& module, std::string_view family, Metadata& out) {
  const json::object* o = module.if_object();
  const auto type = o ? json::find_text(*o, "type") : std::nullopt;
  const auto path = o ? json::find_text(*o, "path") : std::nullopt;
  if (!type || !path) return bad_model("modules.json: a module lacks type or path");
  const std::string_view kind = std::string_view(*type).substr(type->rfind('.') + 1);
  if (kind == "Normalize") return {};
  if (kind == "Transformer" && path->empty()) return {};
  if (kind != "Pooling") return bad_model("modules.json: module '{}' in '{}' is not supported", *type, *path);
  // One folder down, where the model's manifest looks, too.
  if (const PathFlaw flaw = check_file_name(*path); flaw != PathFlaw::kNone)
    return bad_model("modules.json: the path of '{}' {}", *type, describe(flaw));
  if (path->starts_with('.')) return bad_model("modules.json: the path of '{}' is hidden", *type);
  return read_pooling(directory + "/" + *path + "/config.json", family, out);
}

Status read_text_length(const std::string& path, Metadata& out) {
  LLORCH_TRY(const auto config, read_object(path));
  if (!config) return {};
  const json::object& o = config->get_object();
  if (const json::value* lower = json::find(o, "do_lower_case"); lower && !(lower->is_bool() && !lower->get_bool()))
    return bad_model("{}: 'do_lower_case' is not supported beside the tokenizer's own", path);
  const json::value* most = json::find(o, "max_seq_length");
  if (!most) return {};
  const auto tokens = json::as_unsigned(*most);
  if (!tokens || *tokens < 1 || *tokens > limits::kContextMax)
    return bad_model("{}: 'max_seq_length' is no whole number within 1..{}", path, limits::kContextMax);
  out.set(std::string(kTextTokensKey), MetaValue::u32(static_cast<std::uint32_t>(*tokens)));
  return {};
}

}  // namespace

Status hf_read_sentence(const std::string& directory, std::string_view family, Metadata& out) {
  std::error_code problem;
  if (!std::filesystem::exists(directory + "/modules.json", problem)) return {};
  LLORCH_TRY(const json::value modules, json::parse_file(directory + "/modules.json"));
  const json::array* list = modules.if_array();
  if (!list) return bad_model("modules.json is no list");
  for (const json::value& module : *list) LLORCH_OK(read_module(directory, module, family, out));
  return read_text_length(directory + "/sentence_bert_config.json", out);
}

}  // namespace llorch::arch
