#include "arch/hf_sampling.h"

#include <filesystem>
#include <limits>

#include "arch/hyper.h"
#include "format/json.h"

namespace llorch::arch {

Status hf_read_sampling(const std::string& directory, Metadata& out) {
  const std::string path = directory + "/generation_config.json";
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) return {};
  LLORCH_TRY(const json::value config, json::parse_file(path));
  if (!config.is_object()) return bad_model("{} is no object", path);
  const json::object& o = config.get_object();
  static constexpr std::pair<const char*, const char*> kNumbers[] = {
      {"temperature", "general.sampling.temp"},
      {"top_p", "general.sampling.top_p"},
      {"min_p", "general.sampling.min_p"},
      {"repetition_penalty", "general.sampling.penalty_repeat"}};
  for (const auto& [field, key] : kNumbers)
    if (const auto number = json::find_number(o, field)) out.set(key, MetaValue::f32(static_cast<float>(*number)));
  if (const auto k = json::find_unsigned(o, "top_k"); k && *k <= std::numeric_limits<std::int32_t>::max())
    out.set("general.sampling.top_k", MetaValue::i32(static_cast<std::int32_t>(*k)));
  return {};
}

}  // namespace llorch::arch
