// Small models, one for each way to remember: for tests that go through a whole engine on a slow device.
#pragma once

#include <algorithm>
#include <ostream>
#include <string>

#include "arch/synth.h"

namespace llorch {

struct TinyModel {
  const char* name;
  const char* shape;
  const char* fields = "";  // over those of a published shape
  friend std::ostream& operator<<(std::ostream& out, const TinyModel& m) { return out << m.name; }
};

// Layers, vocabulary, heads.
#define LLORCH_TINY \
  R"("num_hidden_layers": 2, "vocab_size": 320, "hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": 768)"
inline constexpr TinyModel kTinyModels[] = {
    {"gpt2", "tiny-gpt2"},
    {"gpt_oss", "tiny-gpt-oss"},
    {"mixtral", "mixtral-8x7b",
     R"({"num_local_experts": 4, "intermediate_size": 128, "num_key_value_heads": 2, )" LLORCH_TINY "}"},
    {"gemma3_windows", "gemma-3-270m",
     R"({"intermediate_size": 256, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 96,
         "layer_types": ["sliding_attention", "full_attention"], )" LLORCH_TINY "}"},
    {"qwen3_next_delta_rule", "qwen3-next-80b-a3b",
     R"({"intermediate_size": 128, "head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2,
         "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "linear_num_value_heads": 4,
         "linear_num_key_heads": 2, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
         "layer_types": ["linear_attention", "full_attention"], )" LLORCH_TINY "}"},
    {"lfm2_convolution", "lfm2-1.2b",
     R"({"intermediate_size": 256, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"], )" LLORCH_TINY
     "}"},
    {"granite_mamba2", "granite-4-h-tiny",
     R"({"intermediate_size": 64, "shared_intermediate_size": 64, "num_key_value_heads": 2, "num_local_experts": 4,
         "num_experts_per_tok": 2, "mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 32,
         "layer_types": ["mamba", "attention"], )" LLORCH_TINY "}"},
    {"deepseek_latent", "deepseek-v2-lite",
     R"({"intermediate_size": 128, "moe_intermediate_size": 64, "n_routed_experts": 4, "num_experts_per_tok": 2,
         "num_key_value_heads": 4, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32,
         "v_head_dim": 32, )" LLORCH_TINY "}"},
};
#undef LLORCH_TINY

/// Writes the model. K formats want 256 columns.
inline Status make_tiny(const TinyModel& model, const std::string& path) {
  arch::SynthRequest request;
  request.shape = model.shape, request.fields = model.fields, request.seed = 3;
  request.type = *model.fields ? "Q8_0" : "Q4_K_M";
  return arch::synthesize(request, path);
}

}  // namespace llorch
