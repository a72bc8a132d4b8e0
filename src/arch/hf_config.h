// What families have in common of how config.json says it: fields become metadata under GGUF's keys.
//
// Fields come from a stranger: what is missing, mistyped or larger than a limit is refused by its name.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "format/json.h"
#include "format/metadata.h"

namespace llorch::arch {

[[nodiscard]] Status hf_copy_integer(const json::object& config, std::string_view from, std::string to, Metadata& out,
                                     bool required = true);
[[nodiscard]] Status hf_copy_number(const json::object& config, std::string_view from, std::string to, Metadata& out,
                                    bool required = true);
/// Each of these must be absent, null or false.
[[nodiscard]] Status hf_refuse(const json::object& config, std::initializer_list<std::string_view> fields);
/// For each layer whether layer_types has `kind` there; empty where there is no such list.
[[nodiscard]] std::vector<bool> hf_layers(const json::object& config, std::string_view kind);
[[nodiscard]] MetaValue pattern_value(const std::vector<bool>& pattern);
[[nodiscard]] Status hf_rope(const json::object& config, const std::string& prefix, Metadata& out);
/// The keys that all Llama-like configurations share: sizes, heads, norm epsilon, rotary base and scaling.
[[nodiscard]] Status hf_common(const json::object& config, std::string_view prefix, Metadata& out);
/// The same number of heads for each layer that layer_types calls `attention`, 0 for `other`.
[[nodiscard]] Status hf_attention_layers(const json::object& config, const std::string& prefix,
                                         std::string_view attention, std::string_view other, Metadata& out);
/// no_rope_layers, where it is there: all layers but every `interval`th turn.
[[nodiscard]] Status hf_turned_layers(const json::object& config, int interval);
/// ssm.inner_size, the product of two fields.
[[nodiscard]] Status hf_inner_size(const json::object& config, std::string_view heads, std::string_view head_dim,
                                   const std::string& prefix, Metadata& out);
/// mscale_all_dim times `factor`, which must be mscale's too.
[[nodiscard]] Status hf_log_multiplier(const json::object& rope, double factor, const std::string& prefix,
                                       Metadata& out);
/// What configurations of DeepSeek's and GLM's mixtures have in common.
[[nodiscard]] Status hf_routed_experts(const json::object& config, const std::string& prefix, Metadata& out);

}  // namespace llorch::arch
