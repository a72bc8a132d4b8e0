// What config.json may say (arch/hf_fields.h): fields of a wrong type, numbers that cannot be, and other maths are
// refused by name for every family of the zoo (test data, models/zoo), in memory.
#include <gtest/gtest.h>

#include <set>

#include "arch/hf_fields.h"
#include "arch/hf_source.h"
#include "format/safetensors.h"
#include "test_data.h"
#include "zoo.h"

namespace llorch {
namespace {

/// The error, or "read".
std::string outcome(const json::object& config) {
  const auto model = arch::read_hf(config);
  if (!model) return model.error().message;
  // What passes is used: the list of tensors multiplies sizes.
  EXPECT_FALSE(model->family->tensors(model->hyper).empty());
  return "read";
}
std::string with(json::object config, std::string_view key, const json::value& value) {
  config[key] = value;
  return outcome(config);
}
json::value parsed(const std::string& text) { return json::parse(text, "test").value(); }

/// Fields of the zoo's configurations that say nothing of the maths of a forward pass, only repeat what others say, or
/// are looked at apart (time_step_limit, sliding_window_pattern).
const std::set<std::string_view> kOfNoConsequence = {"_name_or_path",
                                                     "_sliding_window_pattern",
                                                     "architectures",
                                                     "attention_dropout",
                                                     "attention_k_eq_v",
                                                     "attention_probs_dropout_prob",
                                                     "auto_map",
                                                     "bos_token_id",
                                                     "chunk_size",
                                                     "classifier_bias",
                                                     "classifier_dropout",
                                                     "cls_token_id",
                                                     "decoder_bias",
                                                     "deterministic_flash_attn",
                                                     "dtype",
                                                     "embd_pdrop",
                                                     "embedding_dropout",
                                                     "eod_token_id",
                                                     "eos_token_id",
                                                     "expand",
                                                     "full_attn_idxs",
                                                     "hidden_dropout",
                                                     "hidden_dropout_prob",
                                                     "initializer_cutoff_factor",
                                                     "initializer_range",
                                                     "mamba_chunk_size",
                                                     "mamba_expand",
                                                     "mamba_ssm_cache_dtype",
                                                     "max_trained_positions",
                                                     "max_window_layers",
                                                     "mlp_dropout",
                                                     "moe_latent_size",
                                                     "moe_norm_min",
                                                     "moe_shared_expert_overlap",
                                                     "no_rope_layer_interval",
                                                     "num_logits_to_keep",
                                                     "output_router_logits",
                                                     "pad_token_id",
                                                     "pretraining_tp",
                                                     "qk_head_dim",
                                                     "rescale_prenorm_residual",
                                                     "resid_pdrop",
                                                     "residual_dropout",
                                                     "residual_in_fp32",
                                                     "rotary_emb_scale_base",
                                                     "router_aux_loss_coef",
                                                     "router_jitter_noise",
                                                     "sep_token_id",
                                                     "sliding_window_pattern",
                                                     "sparse_pred_ignore_index",
                                                     "sparse_prediction",
                                                     "time_step_floor",
                                                     "time_step_limit",
                                                     "time_step_max",
                                                     "time_step_min",
                                                     "torch_dtype",
                                                     "transformers_version",
                                                     "use_cache",
                                                     "use_mamba_kernels"};

class Config : public testing::TestWithParam<ZooModel> {
 protected:
  void SetUp() override {
    LLORCH_NEED_TEST_DATA(path, fmt::format("models/zoo/{}/hf", GetParam().folder));
    config_ = read_hf_config(path).value().get_object();
  }
  json::object config_;
};

TEST_P(Config, every_field_is_known_to_matter_or_not) {
  EXPECT_EQ(outcome(config_), "read");
  for (const auto& [key, value] : config_)
    EXPECT_NE(arch::hf_field_is_typed(key), kOfNoConsequence.contains(key)) << key;
}

TEST_P(Config, a_field_of_another_type_is_refused_by_its_name) {
  int fields = 0;
  for (const auto& [key, value] : config_) {
    if (!arch::hf_field_is_typed(key) || value.is_null()) continue;
    const json::value wrong = value.is_string() ? json::value(17) : json::value("x");
    for (const json::value& other : {wrong, json::value(json::array{wrong, json::object{}})}) {
      const std::string error = with(config_, key, other);
      EXPECT_NE(error.find(key == "model_type" ? "model_type" : "'" + std::string(key) + "'"), std::string::npos)
          << key << ": " << error;
    }
    ++fields;
  }
  EXPECT_GT(fields, 10);
  for (const char* whole : {"rope_parameters", "rope_scaling"}) {
    const json::object* rope = json::find_object(config_, whole);
    for (const auto& [key, value] : rope ? *rope : json::object()) {
      if (key.starts_with("mrope")) continue;  // text alone
      json::object changed = *rope;
      changed[key] = value.is_string() ? json::value(17) : json::value("x");
      const std::string error = with(config_, whole, changed);
      EXPECT_NE(error.find(fmt::format("'{}.{}'", whole, std::string_view(key))), std::string::npos)
          << key << ": " << error;
    }
  }
}

/// Whatever is said of these, nothing crashes; and lists for each layer have one entry for each.
TEST_P(Config, numbers_that_cannot_be_are_harmless) {
  int read = 0, refused = 0;
  const auto note = [&](const std::string& error) { ++(error == "read" ? read : refused); };
  for (const auto& [key, value] : config_) {
    if (!arch::hf_field_is_typed(key)) continue;
    if (value.is_number())
      for (const char* other : {"0", "1", "3", "-1", "-2.5", "0.5", "1e30", "-1e300", "4294967295", "4294967296",
                                "9223372036854775807", "18446744073709551615"})
        note(with(config_, key, parsed(other)));
    if (value.is_number()) note(with(config_, key, parsed(R"({"__float__":"NaN"})")));
    if (value.is_bool()) note(with(config_, key, !value.get_bool()));
    if (!value.is_array() || value.get_array().empty()) continue;
    json::array shorter = value.get_array(), longer = shorter;
    shorter.pop_back(), longer.push_back(longer.back());
    for (const json::array& list : {shorter, longer})
      EXPECT_NE(with(config_, key, list).find(std::string(key)), std::string::npos) << key;
  }
  const json::object* rope = json::find_object(config_, "rope_parameters");
  for (const auto& [key, value] : rope ? *rope : json::object())
    for (const char* other : {"0", "-1", "1e30", "-1e300", "1e-300"}) {
      if (!value.is_number()) continue;
      json::object changed = *rope;
      changed[key] = parsed(other);
      note(with(config_, "rope_parameters", changed));
    }
  EXPECT_GT(refused, 30) << read << " were read";
}

INSTANTIATE_TEST_SUITE_P(all, Config, testing::ValuesIn(kZoo), [](const auto& p) { return p.param.folder; });

struct Other {
  const char *folder, *key, *value;
};

/// Maths that the family does not compute, in a field that it may not read.
TEST(ConfigValues, other_maths_is_refused_by_name) {
  constexpr Other kOthers[] = {
      {"qwen3", "hidden_act", R"("gelu")"},
      {"seed_oss", "hidden_act", R"("relu")"},
      {"gemma3", "hidden_activation", R"("silu")"},
      {"bert", "hidden_act", R"("gelu_new")"},
      {"nemotron_h", "mamba_hidden_act", R"("gelu")"},
      {"nemotron_h", "mlp_hidden_act", R"("silu")"},
      {"deepseek_v2", "scoring_func", R"("sqrtsoftplus")"},
      {"deepseek_v2", "topk_method", R"("noaux_tc")"},
      {"deepseek_v3", "scoring_func", R"("softmax")"},
      {"deepseek_v3", "topk_method", R"("greedy")"},
      {"deepseek_v3", "rope_interleave", "false"},
      {"deepseek_v3", "moe_layer_freq", "[0, 1]"},
      {"glm4_moe", "scoring_func", R"("softmax")"},
      {"qwen3_moe", "scoring_func", R"("sigmoid")"},
      {"qwen3_moe", "routed_scaling_factor", "2.5"},
      {"granitemoehybrid", "time_step_limit", "[0.0, 0.1]"},
      {"granitemoehybrid", "time_step_limit", R"([0.001, {"__float__": "Infinity"}])"},
      {"nemotron_h", "time_step_limit", R"("none")"},
      {"qwen3", "attn_logit_softcapping", "50.0"},
      {"mistral", "final_logit_softcapping", "30.0"},
      {"mistral", "query_pre_attn_scalar", "64"},
      {"mistral", "clip_qkv", "8.0"},
      {"olmo2", "logit_scale", "0.5"},
      {"qwen3", "attention_multiplier", "0.5"},
      {"qwen3", "residual_multiplier", "0.5"},
      {"cohere2", "rotary_pct", "0.5"},
      {"smollm3", "partial_rotary_factor", "0"},
      {"qwen3", "layer_types", R"(["full_attention", "sliding_attention"])"},
      {"mistral", "layer_types", R"(["sliding_attention", "sliding_attention"])"},
      {"gemma3", "layer_types", R"(["a", "a", "a", "a", "a", "a", "a"])"},
      {"glm4_moe_lite", "mlp_layer_types", R"(["sparse", "sparse"])"},
      {"qwen3", "quantization_config", R"({"quant_method": "fp8", "weight_block_size": [128, 128]})"},
      {"mistral", "rope_parameters", R"({"rope_type": "longrope", "rope_theta": 10000.0})"},
      {"mistral", "rope_parameters", R"({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0})"},
      {"mistral", "rope_parameters", R"({"rope_type": "yarn", "factor": 4.0, "truncate": false})"},
      {"olmo3", "rope_parameters", R"({"sliding_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2}})"},
  };
  for (const Other& o : kOthers) {
    LLORCH_NEED_TEST_DATA(path, fmt::format("models/zoo/{}/hf", o.folder));
    const json::object config = read_hf_config(path).value().get_object();
    const std::string error = with(config, o.key, parsed(o.value));
    const std::string name = std::string_view(o.key) == "rope_parameters" ? "rope" : o.key;
    EXPECT_NE(error, "read") << o.folder << " " << o.key << " " << o.value;
    EXPECT_NE(error.find(name), std::string::npos) << o.folder << " " << o.key << ": " << error;
    // Fields that are null count as absent.
    if (json::find(config, o.key)) continue;
    EXPECT_EQ(with(config, o.key, nullptr), "read") << o.folder << " " << o.key;
  }
}

/// What published configurations say although it changes nothing.
TEST(ConfigValues, what_changes_nothing_is_read) {
  constexpr Other kOthers[] = {{"qwen3", "hidden_act", R"("swish")"},
                               {"gemma2", "hidden_act", R"("gelu_pytorch_tanh")"},
                               {"deepseek_v2", "topk_method", R"("group_limited_greedy")"},
                               {"mistral", "final_logit_softcapping", "null"},
                               {"mistral", "attn_logit_softcapping", "0"},
                               {"mistral", "logit_scale", "1.0"},
                               {"mistral", "layer_types", R"(["full_attention", "full_attention"])"},
                               {"granitemoehybrid", "time_step_limit", R"([0.0, {"__float__": "Infinity"}])"},
                               {"mistral", "rope_scaling", "null"}};
  for (const Other& o : kOthers) {
    LLORCH_NEED_TEST_DATA(path, fmt::format("models/zoo/{}/hf", o.folder));
    EXPECT_EQ(with(read_hf_config(path).value().get_object(), o.key, parsed(o.value)), "read")
        << o.folder << " " << o.key;
  }
}

}  // namespace
}  // namespace llorch
