#include "arch/published.h"

#include <algorithm>

#include "base/limits.h"

namespace llorch::arch {
namespace {

/// Of a letter in PublishedShape::layers.
std::string_view kind_of(char letter) {
  switch (letter) {
    case 'A': return "attention";
    case 'C': return "conv";
    case 'L': return "linear_attention";
    case 'M': return "mamba";
    case 'S': return "sliding_attention";
    default: return "full_attention";  // F
  }
}

// Sources: the config.json of each model, as its makers publish it; fields that shape nothing are left out.
constexpr PublishedShape kPublished[] = {
    {"llama-3.1-8b", "",
     R"({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size":
       128256, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
       "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})"},
    {"mistral-7b", "",
     R"({"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768, "vocab_size":
       32768, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}})"},
    {"mixtral-8x7b", "",
     R"({"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768, "vocab_size":
       32000, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "num_local_experts": 8,
       "num_experts_per_tok": 2, "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}})"},
    {"ministral-3-3b", "",
     R"({"model_type": "ministral3", "hidden_size": 3072, "intermediate_size": 9216, "num_hidden_layers": 26,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 262144, "vocab_size":
       131072, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "rope_parameters": {"rope_type": "yarn", "type": "yarn", "rope_theta": 1000000.0, "factor": 16,
       "original_max_position_embeddings": 16384, "beta_fast": 32, "beta_slow": 1, "mscale": 1, "mscale_all_dim":
       1, "llama_4_scaling_beta": 0.1}})"},
    {"qwen3-0.6b", "",
     R"({"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
       "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 40960, "vocab_size":
       151936, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-06, "head_dim": 128,
       "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}})"},
    {"qwen3-30b-a3b", "",
     R"({"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
       "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 40960, "vocab_size":
       151936, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "head_dim": 128,
       "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true,
       "decoder_sparse_step": 1, "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}})"},
    {"qwen3.5-2b", "LLLF",
     R"({"model_type": "qwen3_5_text", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
       "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 262144, "vocab_size":
       248320, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-06, "head_dim": 256,
       "linear_num_value_heads": 16, "rope_parameters": {"rope_theta": 10000000.0, "rope_type": "default",
       "partial_rotary_factor": 0.25, "mrope_interleaved": true, "mrope_section": [11, 11, 10]},
       "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
       "linear_num_key_heads": 16})"},
    {"qwen3.5-35b-a3b", "LLLF",
     R"({"model_type": "qwen3_5_moe_text", "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads":
       16, "num_key_value_heads": 2, "max_position_embeddings": 262144, "vocab_size": 248320,
       "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "head_dim": 256,
       "linear_num_value_heads": 32, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
       "num_experts": 256, "num_experts_per_tok": 8, "rope_parameters": {"rope_theta": 10000000.0, "rope_type":
       "default", "partial_rotary_factor": 0.25, "mrope_interleaved": true, "mrope_section": [11, 11, 10]},
       "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
       "linear_num_key_heads": 16})"},
    {"qwen3-next-80b-a3b", "LLLF",
     R"({"model_type": "qwen3_next", "hidden_size": 2048, "intermediate_size": 5120, "num_hidden_layers": 48,
       "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 262144, "vocab_size":
       151936, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "head_dim": 256,
       "linear_num_value_heads": 32, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
       "num_experts": 512, "num_experts_per_tok": 10, "norm_topk_prob": true, "decoder_sparse_step": 1,
       "rope_parameters": {"rope_theta": 10000000.0, "rope_type": "default", "partial_rotary_factor": 0.25},
       "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
       "linear_num_key_heads": 16})"},
    {"gemma-2-2b", "SF",
     R"({"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
       "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 8192, "vocab_size": 256000,
       "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06, "head_dim":
       256, "query_pre_attn_scalar": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0,
       "final_logit_softcapping": 30.0, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}})"},
    {"gemma-3-270m", "SSSSSF",
     R"({"model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
       "num_attention_heads": 4, "num_key_value_heads": 1, "max_position_embeddings": 32768, "vocab_size":
       262144, "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06,
       "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 512, "rope_parameters":
       {"full_attention": {"rope_theta": 1000000.0, "rope_type": "default"}, "sliding_attention": {"rope_theta":
       10000.0, "rope_type": "default"}}})"},
    {"gemma-3-4b", "SSSSSF",
     R"({"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
       "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131072, "vocab_size":
       262208, "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06,
       "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 1024, "rope_parameters":
       {"full_attention": {"rope_theta": 1000000.0, "rope_type": "linear", "factor": 8.0}, "sliding_attention":
       {"rope_theta": 10000.0, "rope_type": "default"}}})"},
    {"embeddinggemma-300m", "SSSSSF",
     R"({"model_type": "gemma3_text", "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 24,
       "num_attention_heads": 3, "num_key_value_heads": 1, "max_position_embeddings": 2048, "vocab_size": 262144,
       "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06, "head_dim":
       256, "query_pre_attn_scalar": 256, "sliding_window": 512, "use_bidirectional_attention": true,
       "rope_parameters": {"full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
       "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}}})"},
    {"gemma-4-e4b", "SSSSSF",
     R"({"model_type": "gemma4_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 42,
       "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 131072, "vocab_size":
       262144, "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06,
       "head_dim": 256, "global_head_dim": 512, "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input":
       262144, "num_kv_shared_layers": 18, "sliding_window": 512, "final_logit_softcapping": 30.0,
       "rope_parameters": {"full_attention": {"rope_theta": 1000000.0, "rope_type": "proportional",
       "partial_rotary_factor": 0.25}, "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}}})"},
    {"gemma-4-26b-a4b", "SSSSSF",
     R"({"model_type": "gemma4_text", "hidden_size": 2816, "intermediate_size": 2112, "num_hidden_layers": 30,
       "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 262144, "vocab_size":
       262144, "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-06,
       "head_dim": 256, "global_head_dim": 512, "num_global_key_value_heads": 2, "attention_k_eq_v": true,
       "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 262144, "num_kv_shared_layers": 0,
       "sliding_window": 1024, "final_logit_softcapping": 30.0, "enable_moe_block": true, "num_experts": 128,
       "top_k_experts": 8, "moe_intermediate_size": 704, "rope_parameters": {"full_attention": {"rope_theta":
       1000000.0, "rope_type": "proportional", "partial_rotary_factor": 0.25}, "sliding_attention":
       {"rope_theta": 10000.0, "rope_type": "default"}}})"},
    {"lfm2-1.2b", "CCFCCFCCFCFCFCFC",
     R"({"model_type": "lfm2", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 128000, "vocab_size":
       65536, "tie_word_embeddings": true, "hidden_act": "silu", "norm_eps": 1e-05, "conv_L_cache": 3,
       "conv_bias": false, "block_auto_adjust_ff_dim": false, "rope_parameters": {"rope_theta": 1000000.0,
       "rope_type": "default"}})"},
    {"lfm2-8b-a1b", "CCFCCCFCCCFCCCFCCCFCCFCC",
     R"({"model_type": "lfm2_moe", "hidden_size": 2048, "intermediate_size": 7168, "num_hidden_layers": 24,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 128000, "vocab_size":
       65536, "tie_word_embeddings": true, "hidden_act": "silu", "norm_eps": 1e-05, "conv_L_cache": 3,
       "conv_bias": false, "moe_intermediate_size": 1792, "num_dense_layers": 2, "num_experts": 32,
       "num_experts_per_tok": 4, "norm_topk_prob": true, "use_expert_bias": true, "routed_scaling_factor": 1.0,
       "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}})"},
    {"granite-3.3-2b", "",
     R"({"model_type": "granite", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 40,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size":
       49159, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "attention_multiplier":
       0.015625, "logits_scaling": 8, "rope_parameters": {"rope_theta": 10000000.0, "rope_type": "default"},
       "embedding_multiplier": 12, "residual_multiplier": 0.22})"},
    {"granite-3.1-1b-a400m", "",
     R"({"model_type": "granitemoe", "hidden_size": 1024, "intermediate_size": 512, "num_hidden_layers": 24,
       "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size":
       49155, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-06, "attention_multiplier":
       0.015625, "logits_scaling": 6, "num_local_experts": 32, "num_experts_per_tok": 8, "rope_parameters":
       {"rope_theta": 1500000.0, "rope_type": "default"}, "embedding_multiplier": 12, "residual_multiplier":
       0.22})"},
    {"granite-4-h-tiny", "MMMMMAMMMM",
     R"({"model_type": "granitemoehybrid", "hidden_size": 1536, "intermediate_size": 512, "num_hidden_layers": 40,
       "num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 131072, "vocab_size":
       100352, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "attention_multiplier":
       0.0078125, "logits_scaling": 6, "num_local_experts": 64, "num_experts_per_tok": 6,
       "shared_intermediate_size": 1024, "mamba_chunk_size": 256, "mamba_conv_bias": true, "mamba_d_conv": 4,
       "mamba_d_head": 64, "mamba_d_state": 128, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 48,
       "mamba_proj_bias": false, "position_embedding_type": "nope", "rope_parameters": {"rope_theta": 10000.0,
       "rope_type": "default"}, "embedding_multiplier": 12, "residual_multiplier": 0.22})"},
    {"granite-swa-2b", "FSSF",
     R"({"model_type": "granite_swa", "hidden_size": 2560, "intermediate_size": 8192, "num_hidden_layers": 24,
       "num_attention_heads": 20, "num_key_value_heads": 4, "max_position_embeddings": 8192, "vocab_size":
       100352, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "attention_multiplier":
       0.0078125, "logits_scaling": 8, "sliding_window": 128, "rope_parameters": {"rope_theta": 10000.0,
       "rope_type": "default"}, "embedding_multiplier": 12, "residual_multiplier": 0.22})"},
    {"deepseek-v2-lite", "",
     R"({"model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "num_hidden_layers": 27,
       "num_attention_heads": 16, "num_key_value_heads": 16, "max_position_embeddings": 163840, "vocab_size":
       102400, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "q_lora_rank": null,
       "qk_nope_head_dim": 128, "v_head_dim": 128, "moe_intermediate_size": 1408, "n_routed_experts": 64,
       "num_experts_per_tok": 6, "n_shared_experts": 2, "norm_topk_prob": false, "routed_scaling_factor": 1.0,
       "scoring_func": "softmax", "topk_method": "greedy", "rope_parameters": {"rope_type": "yarn", "rope_theta":
       10000.0, "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1,
       "mscale": 0.707, "mscale_all_dim": 0.707}, "attention_bias": false, "n_group": 1, "topk_group": 1,
       "qk_rope_head_dim": 64, "kv_lora_rank": 512, "first_k_dense_replace": 1})"},
    {"deepseek-v3", "",
     R"({"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
       "num_attention_heads": 128, "num_key_value_heads": 128, "max_position_embeddings": 163840, "vocab_size":
       129280, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "q_lora_rank": 1536,
       "qk_nope_head_dim": 128, "v_head_dim": 128, "moe_intermediate_size": 2048, "n_routed_experts": 256,
       "num_experts_per_tok": 8, "n_shared_experts": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
       "scoring_func": "sigmoid", "topk_method": "noaux_tc", "rope_interleave": true, "num_nextn_predict_layers":
       0, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40,
       "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
       "mscale_all_dim": 1.0}, "attention_bias": false, "n_group": 8, "topk_group": 4, "qk_rope_head_dim": 64,
       "kv_lora_rank": 512, "first_k_dense_replace": 3})"},
    {"glm-4.7-flash", "",
     R"({"model_type": "glm4_moe_lite", "hidden_size": 2048, "intermediate_size": 10240, "num_hidden_layers": 47,
       "num_attention_heads": 20, "num_key_value_heads": 20, "max_position_embeddings": 202752, "vocab_size":
       154880, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "q_lora_rank": 768,
       "qk_nope_head_dim": 192, "v_head_dim": 256, "moe_intermediate_size": 1536, "n_routed_experts": 64,
       "num_experts_per_tok": 4, "n_shared_experts": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.8,
       "scoring_func": "sigmoid", "topk_method": "noaux_tc", "rope_interleave": true, "num_nextn_predict_layers":
       0, "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}, "attention_bias": false,
       "n_group": 1, "topk_group": 1, "qk_rope_head_dim": 64, "kv_lora_rank": 512, "first_k_dense_replace": 1})"},
    {"glm-4-9b", "",
     R"({"model_type": "glm4", "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
       "num_attention_heads": 32, "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size":
       151552, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "attention_bias": true, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default",
       "partial_rotary_factor": 0.5}})"},
    {"glm-4.5-air", "",
     R"({"model_type": "glm4_moe", "hidden_size": 4096, "intermediate_size": 10944, "num_hidden_layers": 46,
       "num_attention_heads": 96, "num_key_value_heads": 8, "max_position_embeddings": 131072, "vocab_size":
       151552, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "attention_bias": true, "moe_intermediate_size": 1408, "n_routed_experts": 128, "num_experts_per_tok": 8,
       "n_shared_experts": 1, "first_k_dense_replace": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.0,
       "n_group": 1, "topk_group": 1, "use_qk_norm": false, "num_nextn_predict_layers": 0, "rope_parameters":
       {"rope_theta": 1000000.0, "rope_type": "default", "partial_rotary_factor": 0.5}})"},
    {"nemotron-h-8b", "",
     R"({"model_type": "nemotron_h", "hidden_size": 4096, "intermediate_size": 21504, "num_hidden_layers": 52,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "vocab_size":
       131072, "tie_word_embeddings": false, "head_dim": 128, "mamba_num_heads": 128, "hybrid_override_pattern":
       "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-", "mamba_head_dim": 64, "ssm_state_size": 128,
       "n_groups": 8, "conv_kernel": 4, "expand": 2, "use_conv_bias": true, "use_bias": false, "attention_bias":
       false, "mlp_bias": false, "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu", "layer_norm_epsilon":
       1e-05, "residual_in_fp32": false})"},
    {"nemotron-3-nano-30b-a3b", "",
     R"({"model_type": "nemotron_h", "hidden_size": 2688, "intermediate_size": 1856, "num_hidden_layers": 52,
       "num_attention_heads": 32, "num_key_value_heads": 2, "max_position_embeddings": 8192, "vocab_size":
       131072, "tie_word_embeddings": false, "head_dim": 128, "mamba_num_heads": 64, "hybrid_override_pattern":
       "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", "moe_intermediate_size": 1856,
       "moe_shared_expert_intermediate_size": 3712, "n_routed_experts": 128, "num_experts_per_tok": 6,
       "n_shared_experts": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.5, "n_group": 1, "topk_group":
       1, "num_nextn_predict_layers": 0, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8,
       "conv_kernel": 4, "expand": 2, "use_conv_bias": true, "use_bias": false, "attention_bias": false,
       "mlp_bias": false, "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu", "layer_norm_epsilon": 1e-05,
       "residual_in_fp32": false})"},
    {"smollm3-3b", "",
     R"({"model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
       "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 65536, "vocab_size":
       128256, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-06,
       "no_rope_layer_interval": 4, "rope_parameters": {"rope_theta": 5000000.0, "rope_type": "default"}})"},
    {"olmo-2-1b", "",
     R"({"model_type": "olmo2", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
       "num_attention_heads": 16, "num_key_value_heads": 16, "max_position_embeddings": 4096, "vocab_size":
       100352, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "rope_parameters":
       {"rope_theta": 500000.0, "rope_type": "default"}})"},
    {"olmo-3-7b", "SSSF",
     R"({"model_type": "olmo3", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
       "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 65536, "vocab_size":
       100278, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "sliding_window": 4096,
       "rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 500000.0, "factor": 8.0,
       "original_max_position_embeddings": 8192, "beta_fast": 32, "beta_slow": 1, "attention_factor":
       1.2079441541679836}, "sliding_attention": {"rope_theta": 500000.0, "rope_type": "default"}}})"},
    {"command-r7b", "SSSF",
     R"({"model_type": "cohere2", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 132096, "vocab_size":
       256000, "tie_word_embeddings": true, "hidden_act": "silu", "head_dim": 128, "layer_norm_eps": 1e-05,
       "logit_scale": 0.25, "sliding_window": 4096, "rope_parameters": {"rope_theta": 50000.0, "rope_type":
       "default"}})"},
    {"ernie-4.5-0.3b", "",
     R"({"model_type": "ernie4_5", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18,
       "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 131072, "vocab_size":
       103424, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "use_bias": false, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}})"},
    {"ernie-4.5-21b-a3b", "",
     R"({"model_type": "ernie4_5_moe", "hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 28,
       "num_attention_heads": 20, "num_key_value_heads": 4, "max_position_embeddings": 131072, "vocab_size":
       103424, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "use_bias": false,
       "moe_intermediate_size": 1536, "moe_num_experts": 64, "moe_k": 6, "moe_num_shared_experts": 2,
       "moe_layer_start_index": 1, "moe_layer_end_index": 27, "moe_layer_interval": 1, "rope_parameters":
       {"rope_theta": 500000.0, "rope_type": "default"}})"},
    {"exaone-4.0-1.2b", "F",
     R"({"model_type": "exaone4", "hidden_size": 2048, "intermediate_size": 4096, "num_hidden_layers": 30,
       "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 65536, "vocab_size":
       102400, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 64,
       "sliding_window": null, "rope_parameters": {"rope_type": "llama3", "rope_theta": 1000000.0, "factor":
       16.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})"},
    {"hunyuan-1.8b", "",
     R"({"model_type": "hunyuan_v1_dense", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers":
       32, "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 32768, "vocab_size":
       120818, "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}})"},
    {"seed-oss-36b", "",
     R"({"model_type": "seed_oss", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
       "num_attention_heads": 80, "num_key_value_heads": 8, "max_position_embeddings": 524288, "vocab_size":
       155136, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-06, "head_dim": 128,
       "attention_bias": true, "attention_out_bias": false, "rope_parameters": {"rope_theta": 10000000.0,
       "rope_type": "default"}})"},
    {"llama-4-scout", "",
     R"({"model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192, "num_hidden_layers": 48,
       "num_attention_heads": 40, "num_key_value_heads": 8, "max_position_embeddings": 8192, "vocab_size":
       202048, "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-05, "head_dim": 128,
       "intermediate_size_mlp": 16384, "num_local_experts": 16, "num_experts_per_tok": 1,
       "interleave_moe_layer_step": 1, "use_qk_norm": true, "attention_chunk_size": 8192,
       "attn_temperature_tuning": true, "floor_scale": 8192, "attn_scale": 0.1, "no_rope_layer_interval": 4,
       "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 16.0, "low_freq_factor": 1.0,
       "high_freq_factor": 1.0, "original_max_position_embeddings": 8192}})"},
    {"bge-base", "",
     R"({"model_type": "bert", "intermediate_size": 3072, "num_hidden_layers": 12, "hidden_act": "gelu",
       "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2, "vocab_size": 30522,
       "hidden_size": 768, "num_attention_heads": 12})"},
    {"nomic-embed", "",
     R"({"model_type": "nomic_bert", "intermediate_size": 3072, "num_hidden_layers": 12, "hidden_act": "silu",
       "layer_norm_eps": 1e-12, "max_position_embeddings": 2048, "type_vocab_size": 2, "vocab_size": 30528,
       "head_dim": 64, "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"}, "hidden_size": 768,
       "num_attention_heads": 12})"},
    {"modernbert-base", "FSS",
     R"({"model_type": "modernbert", "intermediate_size": 1152, "num_hidden_layers": 22, "hidden_activation":
       "gelu", "norm_eps": 1e-05, "norm_bias": false, "max_position_embeddings": 8192, "local_attention": 128,
       "global_attn_every_n_layers": 3, "vocab_size": 50368, "rope_parameters": {"full_attention": {"rope_theta":
       160000.0, "rope_type": "default"}, "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}},
       "hidden_size": 768, "num_attention_heads": 12})"},
};

}  // namespace

std::span<const PublishedShape> published_shapes() { return kPublished; }

Result<json::object> config_of(const PublishedShape& shape, std::string_view fields) {
  LLORCH_TRY(json::value root, json::parse(shape.config, shape.name));
  if (!root.is_object()) return fail(ErrorCode::kInvalidRequest, "{} is no JSON object", shape.name);
  json::object config = root.get_object();
  if (!fields.empty()) {
    auto over = json::parse(fields, "fields");
    if (!over || !over->is_object())
      return fail(ErrorCode::kInvalidRequest, "fields over a config.json must be a JSON object: {}",
                  over ? std::string(fields) : over.error().message);
    for (const auto& [key, value] : over->get_object()) config[key] = value;
  }
  if (shape.layers.empty() || config.contains("layer_types")) return config;
  json::array kinds;
  const std::uint64_t layers = json::find_unsigned(config, "num_hidden_layers").value_or(0);
  for (std::uint64_t i = 0; i < std::min(layers, limits::kLayersMax); ++i)
    kinds.emplace_back(kind_of(shape.layers[i % shape.layers.size()]));
  config["layer_types"] = std::move(kinds);
  return config;
}

}  // namespace llorch::arch
