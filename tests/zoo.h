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
    {"granite", "granite"},
    {"granite_swa", "granite_swa"},
    {"granitemoe", "granitemoe"},
    {"granitemoehybrid", "granitehybrid"},
    {"granitemoehybrid_dense", "granitehybrid"},
    {"lfm2", "lfm2"},
    {"lfm2_moe", "lfm2moe"},
    {"mistral", "llama"},
    {"nemotron_h", "nemotron_h"},
    {"nemotron_h_moe", "nemotron_h_moe"},
    {"phi3", "phi3"},
    {"phi3_long", "phi3"},
    {"qwen3", "qwen3"},
    {"qwen3_5", "qwen35", 5e-5},
    {"qwen3_5_moe", "qwen35moe", 5e-5},
    {"qwen3_moe", "qwen3moe"},
    {"qwen3_next", "qwen3next", 5e-5},
};

}  // namespace llorch
