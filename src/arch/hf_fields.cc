#include "arch/hf_fields.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/limits.h"

namespace llorch::arch {
namespace {

enum class Kind { kCount, kNumber, kFlag, kText, kCounts, kNumbers, kTexts, kObject };

struct Fields {
  Kind kind;
  std::string_view must_be;
  std::span<const std::string_view> names;
};

constexpr std::string_view kCountFields[] = {"attention_chunk_size",
                                             "block_multiple_of",
                                             "conv_L_cache",
                                             "conv_kernel",
                                             "decoder_sparse_step",
                                             "first_k_dense_replace",
                                             "full_attention_interval",
                                             "global_attn_every_n_layers",
                                             "global_head_dim",
                                             "head_dim",
                                             "hidden_size",
                                             "hidden_size_per_layer_input",
                                             "interleave_moe_layer_step",
                                             "intermediate_size",
                                             "intermediate_size_mlp",
                                             "kv_lora_rank",
                                             "linear_conv_kernel_dim",
                                             "linear_key_head_dim",
                                             "linear_num_key_heads",
                                             "linear_num_value_heads",
                                             "linear_value_head_dim",
                                             "local_attention",
                                             "mamba_d_conv",
                                             "mamba_d_head",
                                             "mamba_d_state",
                                             "mamba_head_dim",
                                             "mamba_n_groups",
                                             "mamba_n_heads",
                                             "mamba_num_heads",
                                             "max_position_embeddings",
                                             "moe_intermediate_size",
                                             "moe_k",
                                             "moe_layer_freq",
                                             "moe_layer_interval",
                                             "moe_layer_start_index",
                                             "moe_num_experts",
                                             "moe_num_shared_experts",
                                             "moe_shared_expert_intermediate_size",
                                             "n_embd",
                                             "n_group",
                                             "n_groups",
                                             "n_head",
                                             "n_inner",
                                             "n_layer",
                                             "n_positions",
                                             "n_routed_experts",
                                             "n_shared_experts",
                                             "num_attention_heads",
                                             "num_dense_layers",
                                             "num_experts",
                                             "num_experts_per_tok",
                                             "num_global_key_value_heads",
                                             "num_hidden_layers",
                                             "num_key_value_heads",
                                             "num_kv_shared_layers",
                                             "num_local_experts",
                                             "num_nextn_predict_layers",
                                             "original_max_position_embeddings",
                                             "q_lora_rank",
                                             "qk_nope_head_dim",
                                             "qk_rope_head_dim",
                                             "shared_expert_intermediate_size",
                                             "shared_intermediate_size",
                                             "sliding_window",
                                             "ssm_state_size",
                                             "top_k_experts",
                                             "topk_group",
                                             "type_vocab_size",
                                             "v_head_dim",
                                             "vocab_size",
                                             "vocab_size_per_layer_input"};
constexpr std::string_view kNumberFields[] = {"attention_multiplier",
                                              "attn_logit_softcapping",
                                              "attn_scale",
                                              "block_ffn_dim_multiplier",
                                              "embedding_multiplier",
                                              "final_logit_softcapping",
                                              "floor_scale",
                                              "global_rope_theta",
                                              "layer_norm_eps",
                                              "layer_norm_epsilon",
                                              "local_rope_theta",
                                              "logit_scale",
                                              "logits_scaling",
                                              "moe_layer_end_index",
                                              "norm_eps",
                                              "partial_rotary_factor",
                                              "query_pre_attn_scalar",
                                              "residual_multiplier",
                                              "rms_norm_eps",
                                              "rope_local_base_freq",
                                              "rope_theta",
                                              "rotary_emb_base",
                                              "rotary_emb_fraction",
                                              "rotary_pct",
                                              "routed_scaling_factor",
                                              "swiglu_alpha",
                                              "swiglu_limit"};
constexpr std::string_view kFlagFields[] = {"add_cross_attention",
                                            "attention_bias",
                                            "attention_out_bias",
                                            "attn_temperature_tuning",
                                            "block_auto_adjust_ff_dim",
                                            "causal",
                                            "conv_bias",
                                            "enable_moe_block",
                                            "is_decoder",
                                            "mamba_conv_bias",
                                            "mamba_proj_bias",
                                            "mlp_bias",
                                            "mlp_fc1_bias",
                                            "mlp_fc2_bias",
                                            "norm_bias",
                                            "norm_topk_prob",
                                            "prenorm",
                                            "qkv_proj_bias",
                                            "rope_interleave",
                                            "rotary_emb_interleaved",
                                            "tie_word_embeddings",
                                            "use_bias",
                                            "use_bidirectional_attention",
                                            "use_conv_bias",
                                            "use_double_wide_mlp",
                                            "use_expert_bias",
                                            "use_qk_norm",
                                            "use_sliding_window"};
constexpr std::string_view kTextFields[] = {
    "activation_function", "classifier_activation",   "classifier_pooling", "hidden_act",
    "hidden_activation",   "hybrid_override_pattern", "mamba_hidden_act",   "mlp_hidden_act",
    "model_type",          "position_embedding_type", "scoring_func",       "topk_method"};
constexpr std::string_view kCountsFields[] = {"mlp_only_layers", "moe_layers", "no_rope_layers"};
constexpr std::string_view kNumbersFields[] = {"layer_rope_theta"};
constexpr std::string_view kTextsFields[] = {"layer_types", "mlp_layer_types"};
constexpr std::string_view kObjectFields[] = {"rope_parameters", "rope_scaling"};
constexpr Fields kTyped[] = {
    {Kind::kCount, "a whole number from 0", kCountFields},
    {Kind::kNumber, "a finite number", kNumberFields},
    {Kind::kFlag, "true or false", kFlagFields},
    {Kind::kText, "a text", kTextFields},
    {Kind::kCounts, "a list of whole numbers", kCountsFields},
    {Kind::kNumbers, "a list of finite numbers", kNumbersFields},
    {Kind::kTexts, "a list of texts", kTextsFields},
    {Kind::kObject, "an object", kObjectFields},
};

constexpr std::string_view kCountFieldsOfRope[] = {"original_max_position_embeddings"};
constexpr std::string_view kNumberFieldsOfRope[] = {"attention_factor", "beta_fast",
                                                    "beta_slow",        "factor",
                                                    "high_freq_factor", "llama_4_scaling_beta",
                                                    "low_freq_factor",  "mscale",
                                                    "mscale_all_dim",   "partial_rotary_factor",
                                                    "rope_theta"};
constexpr std::string_view kFlagFieldsOfRope[] = {"truncate"};
constexpr std::string_view kTextFieldsOfRope[] = {"rope_type", "type"};
constexpr std::string_view kNumbersFieldsOfRope[] = {"long_factor", "short_factor"};
constexpr std::string_view kObjectFieldsOfRope[] = {"full_attention", "sliding_attention"};
constexpr Fields kTypedOfRope[] = {
    {Kind::kCount, "a whole number from 0", kCountFieldsOfRope},
    {Kind::kNumber, "a finite number", kNumberFieldsOfRope},
    {Kind::kFlag, "true or false", kFlagFieldsOfRope},
    {Kind::kText, "a text", kTextFieldsOfRope},
    {Kind::kNumbers, "a list of finite numbers", kNumbersFieldsOfRope},
    {Kind::kObject, "an object", kObjectFieldsOfRope},
};

/// A value as an error shows it.
std::string shown(const json::value& v) {
  std::string text = boost::json::serialize(v);
  constexpr std::size_t kMost = 60;
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

bool is_count(const json::value& v) { return json::as_unsigned(v).has_value(); }
bool is_number(const json::value& v) {
  const auto number = json::as_number(v);
  return number && std::isfinite(*number);
}
bool is_text(const json::value& v) { return v.is_string(); }

bool has_kind(const json::value& v, Kind kind) {
  const auto each = [&](bool (*is)(const json::value&)) {
    return v.is_array() && std::ranges::all_of(v.get_array(), is);
  };
  switch (kind) {
    case Kind::kCount: return is_count(v);
    case Kind::kNumber: return is_number(v);
    case Kind::kFlag: return v.is_bool();
    case Kind::kText: return is_text(v);
    case Kind::kCounts: return each(is_count);
    case Kind::kNumbers: return each(is_number);
    case Kind::kTexts: return each(is_text);
    case Kind::kObject: return v.is_object();
  }
  return false;
}

Status check_types(const json::object& o, std::span<const Fields> table, std::string_view inside) {
  for (const Fields& fields : table)
    for (const std::string_view name : fields.names)
      if (const json::value* v = json::find(o, name); v && !has_kind(*v, fields.kind))
        return bad_model("config.json: '{}{}' is {}, expected {}", inside, name, shown(*v), fields.must_be);
  return {};
}

/// What a field that changes the maths may say where nothing else is computed: texts or numbers. The first row that
/// names the family counts, one without families for all others.
struct Allowed {
  std::string_view field;
  std::vector<std::string_view> families;
  std::vector<std::string_view> texts;
  std::vector<double> numbers = {};
};

/// Families that read a field themselves have a row without values.
const std::vector<Allowed>& allowed() {
  const std::vector<std::string_view> gemma = {"gemma2", "gemma3", "gemma4", "gemma-embedding"};
  const std::vector<std::string_view> granite = {"granite", "granitemoe", "granitehybrid", "granite_swa"};
  static const std::vector<Allowed> table = {
      {"hidden_act", {"bert", "modern-bert"}, {"gelu"}},
      {"hidden_act", gemma, {"gelu_pytorch_tanh"}},
      {"hidden_act", {"nemotron_h", "nemotron_h_moe"}, {"relu2", "silu"}},  // not what they go by
      {"hidden_act", {}, {"silu", "swish"}},
      {"hidden_activation", {"modern-bert"}, {"gelu"}},
      {"hidden_activation", gemma, {"gelu_pytorch_tanh"}},
      {"hidden_activation", {}, {"silu", "swish"}},
      {"classifier_activation", {}, {"gelu"}},
      {"activation_function", {"gpt2", "nomic-bert"}, {}},
      {"activation_function", {}, {"silu", "swish"}},
      {"mamba_hidden_act", {}, {"silu"}},
      {"mlp_hidden_act", {}, {"relu2"}},
      {"scoring_func", {"deepseek2"}, {}},
      {"scoring_func", {"glm4moe", "nemotron_h_moe", "lfm2moe"}, {"sigmoid"}},
      {"scoring_func", {}, {"softmax"}},
      {"topk_method", {"deepseek2"}, {}},
      {"topk_method", {"glm4moe", "nemotron_h_moe", "lfm2moe"}, {"noaux_tc"}},
      {"topk_method", {}, {"greedy"}},
      {"position_embedding_type", {"bert", "granitehybrid"}, {}},
      {"position_embedding_type", {"gpt2"}, {"absolute"}},
      {"position_embedding_type", {}, {"rope", "absolute"}},  // absolute: what old configurations say by default
      {"attn_logit_softcapping", gemma, {}},
      {"attn_logit_softcapping", {}, {}, {0}},
      {"final_logit_softcapping", gemma, {}},
      {"final_logit_softcapping", {}, {}, {0}},
      {"query_pre_attn_scalar", gemma, {}},
      {"logit_scale", {"cohere2"}, {}},
      {"logit_scale", {}, {}, {1}},
      {"attention_multiplier", granite, {}},
      {"embedding_multiplier", granite, {}},
      {"embedding_multiplier", {}, {}, {1}},
      {"residual_multiplier", granite, {}},
      {"residual_multiplier", {}, {}, {1}},
      {"logits_scaling", granite, {}},
      {"logits_scaling", {}, {}, {1}},
      {"routed_scaling_factor", {"deepseek2", "glm4moe", "nemotron_h_moe", "lfm2moe"}, {}},
      {"routed_scaling_factor", {}, {}, {1}},
      {"rotary_pct", {}, {}, {1}},
      {"rotary_emb_fraction", {"nomic-bert"}, {}},
      {"rotary_emb_fraction", {}, {}, {1}},
      {"swiglu_limit", {"gpt-oss"}, {}, {7}},
      {"swiglu_alpha", {"gpt-oss"}, {}, {1.702}},
      {"rope_local_base_freq", {"gemma3", "gemma4", "gemma-embedding"}, {}},
      {"rope_local_base_freq", {}, {}, {10000}},
  };
  return table;
}

Status check_values(const json::object& config, std::string_view family) {
  std::string_view done;  // of the rows of a field, which stand together
  for (const Allowed& row : allowed()) {
    if (row.field == done || (!row.families.empty() && std::ranges::find(row.families, family) == row.families.end()))
      continue;
    done = row.field;
    const json::value* v = json::find(config, row.field);
    if (!v || (row.texts.empty() && row.numbers.empty())) continue;
    const auto number = json::as_number(*v);
    const bool fits = v->is_string()
                          ? std::ranges::find(row.texts, std::string_view(v->get_string())) != row.texts.end()
                          : number && std::ranges::find(row.numbers, *number) != row.numbers.end();
    if (!fits) return bad_model("config.json: '{}' is {}, which is not supported for {}", row.field, shown(*v), family);
  }
  // Numbers that only some families can be asked for at all.
  for (const auto& [field, readers] :
       {std::pair{"query_pre_attn_scalar", std::string_view("gemma2 gemma3 gemma4 gemma-embedding")},
        std::pair{"attention_multiplier", std::string_view("granite granitemoe granitehybrid granite_swa")},
        std::pair{"clip_qkv", std::string_view()}, std::pair{"alibi", std::string_view()}}) {
    const json::value* v = json::find(config, field);
    if (v && !readers.contains(family) && !(v->is_bool() && !v->get_bool()))
      return bad_model("config.json: '{}' is {}, which is not supported for {}", field, shown(*v), family);
  }
  return {};
}

/// Steps of time without bounds: from 0 (or less) to infinity.
Status check_time_steps(const json::object& config) {
  const json::value* v = json::find(config, "time_step_limit");
  if (!v) return {};
  const auto infinite = [](const json::value& end) {
    const json::object* o = end.if_object();  // as read_hf_config() gives it
    return o && json::find_text(*o, "__float__") == "Infinity";
  };
  const json::array* ends = v->if_array();
  const auto first = ends && ends->size() == 2 ? json::as_number((*ends)[0]) : std::nullopt;
  if (!first || *first > 0 || !infinite((*ends)[1]))
    return bad_model("config.json: 'time_step_limit' is {}, only 0 to infinity is supported", shown(*v));
  return {};
}

/// Lists with one entry for each layer; and what layer_types may say to a family that does not read it.
Status check_layers(const json::object& config, std::string_view family) {
  const auto layers = json::find_unsigned(config, "num_hidden_layers");
  for (const char* field : {"layer_types", "mlp_layer_types", "no_rope_layers", "layer_rope_theta"}) {
    const json::array* list = json::find_array(config, field);
    if (list && layers && !list->empty() && list->size() != *layers)
      return bad_model("config.json: '{}' has {} entries for {} layers", field, list->size(), *layers);
  }
  const json::array* types = json::find_array(config, "layer_types");
  struct Types {
    std::string_view families, types;
  };
  constexpr Types kTypes[] = {
      {"gemma2 gemma3 gemma4 gemma-embedding cohere2 exaone4 granite_swa modern-bert olmo2 gpt-oss",
       "full_attention sliding_attention"},
      {"lfm2 lfm2moe", "full_attention conv"},
      {"qwen3next qwen35 qwen35moe", "full_attention linear_attention"},
      {"granitehybrid", "attention mamba"},
      {"llama4", "full_attention chunked_attention"},
      {"llama phi3 mistral3", "full_attention sliding_attention"},  // all alike
      {"nemotron_h nemotron_h_moe", "mamba attention moe mlp"},
  };
  std::string_view known = "full_attention";
  for (const Types& t : kTypes)
    if ((" " + std::string(t.families) + " ").contains(" " + std::string(family) + " ")) known = t.types;
  for (std::size_t l = 0; types && l < types->size(); ++l) {
    const std::string_view type = (*types)[l].get_string();
    if (!(" " + std::string(known) + " ").contains(" " + std::string(type) + " "))
      return bad_model("config.json: 'layer_types' of layer {} is '{}', which is not supported for {}", l, type,
                       family);
  }
  if (family == "llama" || family == "phi3" || family == "mistral3") {
    const std::string_view all = json::find(config, "sliding_window") ? "sliding_attention" : "full_attention";
    for (std::size_t l = 0; types && l < types->size(); ++l)
      if (std::string_view((*types)[l].get_string()) != all)
        return bad_model("config.json: 'layer_types' of layer {} is not '{}', as 'sliding_window' says", l, all);
  }
  // Older configurations give a period in place of the list: what the family takes for granted then.
  const auto period = json::find_number(config, "sliding_window_pattern");
  if (!types && period && *period != (family == "cohere2" ? 4 : family.starts_with("gemma") ? 6 : *period))
    return bad_model("config.json: 'sliding_window_pattern' {} is not supported for {}", *period, family);
  const auto dense = json::find_unsigned(config, "first_k_dense_replace");
  const json::array* mlps = json::find_array(config, "mlp_layer_types");
  for (std::size_t l = 0; mlps && l < mlps->size(); ++l)
    if (!dense || std::string_view((*mlps)[l].get_string()) != (l < *dense ? "dense" : "sparse"))
      return bad_model("config.json: 'mlp_layer_types' of layer {} is not what 'first_k_dense_replace' says", l);
  return {};
}

Status check_experts(const json::object& config, std::string_view family) {
  if (family != "deepseek2") return {};
  const bool second = json::find_text(config, "model_type") == "deepseek_v2";
  const auto check = [&](const char* field, std::initializer_list<std::string_view> texts) -> Status {
    const auto text = json::find_text(config, field);
    if (text && std::ranges::find(texts, *text) == texts.end())
      return bad_model("config.json: '{}' is '{}', which is not supported for {}", field, *text,
                       json::find_text(config, "model_type").value_or(""));
    return {};
  };
  if (second) {  // groups are refused where the hyper-parameters are read
    LLORCH_OK(check("scoring_func", {"softmax", "sigmoid"}));
    return check("topk_method", {"greedy", "group_limited_greedy"});
  }
  LLORCH_OK(check("scoring_func", {"sigmoid"}));
  if (!json::find_bool(config, "rope_interleave").value_or(true))
    return bad_model("config.json: 'rope_interleave' false is not supported for {}", family);
  return check("topk_method", {"noaux_tc"});
}

Status check_rope(const json::object& config, std::string_view family) {
  for (const char* field : {"rope_parameters", "rope_scaling"}) {
    const json::object* rope = json::find_object(config, field);
    if (!rope) continue;
    LLORCH_OK(check_types(*rope, kTypedOfRope, fmt::format("{}.", field)));
    for (const char* kind : {"full_attention", "sliding_attention"})
      if (const json::object* part = json::find_object(*rope, kind))
        LLORCH_OK(check_types(*part, kTypedOfRope, fmt::format("{}.{}.", field, kind)));
    if (const json::object* sliding = json::find_object(*rope, "sliding_attention")) {
      const std::string type = json::find_text(*sliding, "rope_type").value_or("default");
      if (type != "default" || json::find_number(*sliding, "partial_rotary_factor").value_or(1) != 1)
        return bad_model("config.json: '{}.sliding_attention' is {}, which is not supported", field, shown(*sliding));
    }
    const json::object* full = json::find_object(*rope, "full_attention");
    if (full) rope = full;
    const std::string type =
        json::find_text(*rope, "rope_type").value_or(json::find_text(*rope, "type").value_or("default"));
    if ((type == "longrope" || type == "su") && family != "phi3")
      return bad_model("config.json: rope scaling '{}' is not supported for {}", type, family);
    if ((type == "longrope" || type == "su") && json::find(*rope, "attention_factor"))
      return bad_model("config.json: '{}.attention_factor' is not supported for {}", field, type);
    const auto range = json::find_bool(*rope, "truncate");  // gpt-oss does not round the ends of YaRN's ramp
    if (type == "yarn" && range.value_or(family != "gpt-oss") != (family != "gpt-oss"))
      return bad_model("config.json: '{}.truncate' is not supported for {}", field, family);
    if (type == "yarn" && family != "deepseek2" && family != "mistral3")
      for (const char* name : {"mscale", "mscale_all_dim"})
        if (json::find(*rope, name))
          return bad_model("config.json: '{}.{}' is not supported for {}", field, name, family);
    const auto partial = json::find_number(*rope, "partial_rotary_factor");
    if (partial && !(*partial > 0 && *partial <= 1))
      return bad_model("config.json: '{}.partial_rotary_factor' is {}", field, *partial);
  }
  const auto partial = json::find_number(config, "partial_rotary_factor");
  if (partial && !(*partial > 0 && *partial <= 1))
    return bad_model("config.json: 'partial_rotary_factor' is {}", *partial);
  return {};
}

/// Which layers have experts, where a list says it.
Status check_expert_layers(const json::object& config, std::string_view family) {
  const json::array* with_experts = json::find_array(config, "moe_layers");
  const std::uint64_t layers = json::find_unsigned(config, "num_hidden_layers").value_or(0),
                      step = json::find_unsigned(config, "interleave_moe_layer_step").value_or(0);
  if (!with_experts) return {};
  bool regular = step > 0 && layers <= limits::kLayersMax && with_experts->size() == layers / step;
  for (std::size_t i = 0; regular && i < with_experts->size(); ++i)
    regular = json::as_unsigned((*with_experts)[i]) == (i + 1) * step - 1;
  if (!regular)
    return bad_model(
        "config.json: 'moe_layers' is not what 'interleave_moe_layer_step' says, which is not supported "
        "for {}",
        family);
  return {};
}

/// Weights whose values are more than their tensors say.
Status check_quantization(const json::object& config) {
  const json::value* v = json::find(config, "quantization_config");
  if (!v) return {};
  const json::object* o = v->if_object();
  const std::string method = o ? json::find_text(*o, "quant_method").value_or("without a name") : shown(*v);
  return bad_model("config.json: weights quantized by '{}' (quantization_config) are not supported: use a GGUF file",
                   method);
}

}  // namespace

bool hf_field_is_typed(std::string_view name) {
  return std::ranges::any_of(kTyped,
                             [&](const Fields& f) { return std::ranges::find(f.names, name) != f.names.end(); });
}

Status hf_check_fields(const json::object& config, std::string_view family) {
  LLORCH_OK(check_types(config, kTyped, ""));
  LLORCH_OK(check_values(config, family));
  LLORCH_OK(check_time_steps(config));
  LLORCH_OK(check_layers(config, family));
  LLORCH_OK(check_experts(config, family));
  LLORCH_OK(check_expert_layers(config, family));
  LLORCH_OK(check_rope(config, family));
  return check_quantization(config);
}

}  // namespace llorch::arch
