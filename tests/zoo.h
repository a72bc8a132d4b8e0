// Which models of the zoo (test data, models/zoo) load, the family of each, and how far it may be from its truth.
#pragma once

#include <ostream>

namespace llorch {

struct ZooModel {
  const char* folder;
  const char* family;
  /// Of the largest true value: what float activations may add (the zoo's README measures 3e-6 for other float32 code,
  /// and more for the delta rule, which makes errors grow).
  double bound = 1e-5;
  friend std::ostream& operator<<(std::ostream& out, const ZooModel& m) { return out << m.folder; }
};

inline constexpr ZooModel kZoo[] = {
    {"bert", "bert"},
    {"cohere2", "cohere2"},
    {"deepseek_v2", "deepseek2"},
    {"deepseek_v3", "deepseek2"},
    {"ernie4_5", "ernie4_5"},
    {"ernie4_5_moe", "ernie4_5-moe"},
    {"exaone4", "exaone4"},
    {"gemma2", "gemma2"},
    {"gemma3", "gemma3"},
    {"gemma4", "gemma4"},
    {"gemma4_dense", "gemma4"},
    {"gemma4_moe", "gemma4"},
    {"gemma_embedding", "gemma-embedding"},
    {"glm4", "glm4"},
    {"glm4_moe", "glm4moe"},
    {"glm4_moe_lite", "deepseek2"},
    {"granite", "granite"},
    {"granite_swa", "granite_swa"},
    {"granitemoe", "granitemoe"},
    {"granitemoehybrid", "granitehybrid"},
    {"granitemoehybrid_dense", "granitehybrid"},
    {"hunyuan_dense", "hunyuan-dense"},
    {"lfm2", "lfm2"},
    {"lfm2_moe", "lfm2moe"},
    {"llama4", "llama4"},
    {"ministral3", "mistral3"},
    {"mistral", "llama"},
    {"mixtral", "llama"},
    {"modernbert", "modern-bert"},
    {"nemotron_h", "nemotron_h"},
    {"nemotron_h_moe", "nemotron_h_moe"},
    {"nomic_bert", "nomic-bert"},
    {"olmo2", "olmo2"},
    {"olmo3", "olmo2"},
    {"phi3", "phi3"},
    {"phi3_long", "phi3"},
    {"qwen3", "qwen3"},
    {"qwen3_5", "qwen35", 5e-5},
    {"qwen3_5_moe", "qwen35moe", 5e-5},
    {"qwen3_moe", "qwen3moe"},
    {"qwen3_next", "qwen3next", 5e-5},
    {"seed_oss", "seed_oss"},
    {"smollm3", "smollm3"},
};

}  // namespace llorch
