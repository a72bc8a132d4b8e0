#include "arch/hf_config.h"

#include "base/limits.h"

namespace llorch::arch {

Status hf_copy_integer(const json::object& config, std::string_view from, std::string to, Metadata& out,
                       bool required) {
  const auto v = json::find_unsigned(config, from);
  if (!v || *v > UINT32_MAX) {
    const json::value* stored = json::find(config, from);
    if (!required && (!stored || stored->is_null())) return {};
    return bad_model("config.json: '{}' is missing or no small integer", from);
  }
  out.set(std::move(to), MetaValue::u32(static_cast<std::uint32_t>(*v)));
  return {};
}

Status hf_copy_number(const json::object& config, std::string_view from, std::string to, Metadata& out, bool required) {
  const auto v = json::find_number(config, from);
  if (v) out.set(std::move(to), MetaValue::f32(static_cast<float>(*v)));
  const json::value* stored = json::find(config, from);
  if (!v && (required || (stored && !stored->is_null())))
    return bad_model("config.json: '{}' is missing or no number", from);
  return {};
}

Status hf_refuse(const json::object& config, std::initializer_list<std::string_view> fields) {
  for (const std::string_view field : fields)
    if (const json::value* v = json::find(config, field); v && !v->is_null() && !(v->is_bool() && !v->get_bool()))
      return bad_model("config.json: '{}' is not supported for this model", field);
  return {};
}

std::vector<bool> hf_layers(const json::object& config, std::string_view kind) {
  std::vector<bool> layers;
  if (const json::array* types = json::find_array(config, "layer_types"))
    for (const json::value& v : *types) layers.push_back(v.is_string() && std::string_view(v.get_string()) == kind);
  return layers;
}

MetaValue pattern_value(const std::vector<bool>& pattern) {
  MetaValue::Integers each(pattern.begin(), pattern.end());
  return {MetaType::kArray, MetaType::kBool, std::move(each)};
}

/// Base, scaling and the part of a head that turns. Newer configurations keep all of it inside rope_parameters, some
/// of them for full and sliding layers apart.
Status hf_rope(const json::object& config, const std::string& p, Metadata& out) {
  const json::object* rope = json::find_object(config, "rope_parameters");
  if (!rope) rope = json::find_object(config, "rope_scaling");
  const json::object* sliding = rope ? json::find_object(*rope, "sliding_attention") : nullptr;
  if (const json::object* full = rope ? json::find_object(*rope, "full_attention") : nullptr) rope = full;
  if (sliding) LLORCH_OK(hf_copy_number(*sliding, "rope_theta", p + "rope.freq_base_swa", out));
  auto base = json::find_number(config, "rope_theta");
  if (!base && rope) base = json::find_number(*rope, "rope_theta");
  out.set(p + "rope.freq_base", MetaValue::f32(static_cast<float>(base.value_or(10000))));
  auto partial = json::find_number(config, "partial_rotary_factor");
  if (!partial && rope) partial = json::find_number(*rope, "partial_rotary_factor");
  auto kind = rope ? json::find_text(*rope, "rope_type") : std::nullopt;
  if (!kind && rope) kind = json::find_text(*rope, "type");
  const auto head_dim = out.integer_in(p + "attention.key_length", 1, limits::kHeadDimMax),
             dim = out.integer_in(p + "embedding_length", 1, limits::kEmbeddingMax),
             heads = out.integer_in(p + "attention.head_count", 1, limits::kHeadsMax);
  if (partial && *partial > 0 && *partial < 1 && kind != "proportional" && dim && heads)
    out.set(p + "rope.dimension_count", MetaValue::u32(static_cast<std::uint32_t>(
                                            static_cast<double>(head_dim ? *head_dim : *dim / *heads) * *partial)));
  if (!kind || *kind == "default" || *kind == "proportional") return {};
  const std::string scaling = p + "rope.scaling.";
  if (*kind == "linear" || *kind == "yarn") {
    out.set(scaling + "type", MetaValue::text(*kind));
    out.set(scaling + "factor", MetaValue::f32(static_cast<float>(json::find_number(*rope, "factor").value_or(1))));
    LLORCH_OK(
        hf_copy_integer(*rope, "original_max_position_embeddings", scaling + "original_context_length", out, false));
    LLORCH_OK(hf_copy_number(*rope, "attention_factor", scaling + "yarn_attn_factor", out, false));
    LLORCH_OK(hf_copy_number(*rope, "beta_fast", scaling + "yarn_beta_fast", out, false));
    LLORCH_OK(hf_copy_number(*rope, "beta_slow", scaling + "yarn_beta_slow", out, false));
  } else if (*kind != "llama3" && *kind != "longrope" && *kind != "su") {
    return bad_model("config.json: rope scaling '{}' is not supported", *kind);
  }
  return {};
}

Status hf_common(const json::object& config, std::string_view prefix, Metadata& out) {
  const std::string p(prefix);
  LLORCH_OK(hf_copy_integer(config, "max_position_embeddings", p + "context_length", out));
  LLORCH_OK(hf_copy_integer(config, "hidden_size", p + "embedding_length", out));
  LLORCH_OK(hf_copy_integer(config, "num_hidden_layers", p + "block_count", out));
  const bool experts = json::find(config, "moe_intermediate_size") != nullptr;
  LLORCH_OK(hf_copy_integer(config, "intermediate_size", p + "feed_forward_length", out, !experts));
  LLORCH_OK(hf_copy_integer(config, "num_attention_heads", p + "attention.head_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_key_value_heads", p + "attention.head_count_kv", out, false));
  LLORCH_OK(hf_copy_integer(config, "head_dim", p + "attention.key_length", out, false));
  LLORCH_OK(hf_copy_integer(config, "head_dim", p + "attention.value_length", out, false));
  const auto one_of = [&config](std::initializer_list<const char*> fields) {
    const auto there = std::ranges::find_if(fields, [&](const char* field) { return json::find(config, field); });
    return there == fields.end() ? std::nullopt : json::find_number(config, *there);
  };
  const auto rms = one_of({"rms_norm_eps", "norm_eps"}), plain = one_of({"layer_norm_eps", "layer_norm_epsilon"});
  if (!rms && !plain) return bad_model("config.json: 'rms_norm_eps' is missing");
  out.set(p + (rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
          MetaValue::f32(static_cast<float>(rms ? *rms : *plain)));
  return hf_rope(config, p, out);
}

Status hf_attention_layers(const json::object& config, const std::string& p, std::string_view attention,
                           std::string_view other, Metadata& out) {
  const std::vector<bool> attends = hf_layers(config, attention), others = hf_layers(config, other);
  if (attends.empty()) return bad_model("config.json: 'layer_types' is missing");
  LLORCH_TRY(const auto kv_heads, out.integer_in(p + "attention.head_count_kv", 1, limits::kHeadsMax));
  MetaValue::Integers each;
  for (std::size_t l = 0; l < attends.size(); ++l) {
    if (attends[l] == others[l]) return bad_model("config.json: 'layer_types' has an unknown kind in layer {}", l);
    each.push_back(attends[l] ? static_cast<std::int64_t>(kv_heads) : 0);
  }
  out.set(p + "attention.head_count_kv", MetaValue::i32s(std::move(each)));
  return {};
}

Status hf_turned_layers(const json::object& config, int interval) {
  const json::array* turned = json::find_array(config, "no_rope_layers");  // 1: a layer that turns
  for (std::size_t l = 0; turned && l < turned->size(); ++l)
    if (json::as_unsigned((*turned)[l]) !=
        static_cast<std::uint64_t>((l + 1) % static_cast<std::size_t>(interval) != 0))
      return bad_model("config.json: 'no_rope_layers' of layer {} is not supported for this model", l);
  return {};
}

Status hf_inner_size(const json::object& config, std::string_view heads, std::string_view head_dim,
                     const std::string& p, Metadata& out) {
  const auto count = json::find_unsigned(config, heads), dim = json::find_unsigned(config, head_dim);
  if (!count || !dim || *count > limits::kHeadsMax || *dim > limits::kRecurrentDimMax)
    return bad_model("config.json: '{}' or '{}' is missing or too large", heads, head_dim);
  out.set(p + "ssm.inner_size", MetaValue::u32(static_cast<std::uint32_t>(*count * *dim)));
  return {};
}

Status hf_log_multiplier(const json::object& rope, double factor, const std::string& p, Metadata& out) {
  const auto all = json::find_number(rope, "mscale_all_dim"), one = json::find_number(rope, "mscale");
  if (!all) return {};
  if (one.value_or(1) != *all)
    return bad_model("config.json: 'mscale' is {}, 'mscale_all_dim' {}", one.value_or(1), *all);
  out.set(p + "rope.scaling.yarn_log_multiplier", MetaValue::f32(static_cast<float>(factor * *all)));
  return {};
}

Status hf_routed_experts(const json::object& config, const std::string& p, Metadata& out) {
  if (json::find_unsigned(config, "moe_layer_freq").value_or(1) != 1)
    return bad_model("config.json: 'moe_layer_freq' is not 1");
  LLORCH_OK(hf_copy_integer(config, "n_routed_experts", p + "expert_count", out));
  LLORCH_OK(hf_copy_integer(config, "num_experts_per_tok", p + "expert_used_count", out));
  LLORCH_OK(hf_copy_integer(config, "moe_intermediate_size", p + "expert_feed_forward_length", out));
  LLORCH_OK(hf_copy_integer(config, "n_shared_experts", p + "expert_shared_count", out, false));
  LLORCH_OK(hf_copy_integer(config, "n_group", p + "expert_group_count", out, false));
  LLORCH_OK(hf_copy_integer(config, "topk_group", p + "expert_group_used_count", out, false));
  LLORCH_OK(hf_copy_number(config, "routed_scaling_factor", p + "expert_weights_scale", out, false));
  out.set(p + "expert_weights_norm", MetaValue::boolean(json::find_bool(config, "norm_topk_prob").value_or(false)));
  const auto drafts = json::find_unsigned(config, "num_nextn_predict_layers").value_or(0);
  if (drafts == 0) return {};
  LLORCH_TRY(const auto layers, out.integer_in(p + "block_count", 1, limits::kLayersMax));
  if (drafts > limits::kLayersMax) return bad_model("config.json: 'num_nextn_predict_layers' is {}", drafts);
  out.set(p + "nextn_predict_layers", MetaValue::u32(static_cast<std::uint32_t>(drafts)));
  out.set(p + "block_count", MetaValue::u32(static_cast<std::uint32_t>(layers + drafts)));
  return {};
}

}  // namespace llorch::arch
