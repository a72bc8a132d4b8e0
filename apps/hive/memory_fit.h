// What a worker for a model will need, from the model file's header alone (H-12).
//
// Opens the file: background thread. Errors: those of the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "colony/facts.h"
#include "model/state.h"

namespace llorch::hive {

struct Need {
  std::int64_t weights = 0, kv = 0, scratch = 0;  // bytes
  std::string architecture, quant;
  std::vector<std::string> capabilities;  // of the model, as its workers tell them: text-gen, chat, embedding, rerank
  std::int64_t context = 0, parallel = 0;
  [[nodiscard]] std::int64_t total() const { return (weights + kv + scratch) / 10 * 11; }
  [[nodiscard]] std::int64_t total_on(std::string_view device) const {
    return total() + (colony::is_gpu(device) ? kGpuProcessBytes : 0);
  }
  /// What a driver takes of a GPU for a process that computes there: its context and the code of kernels.
  static constexpr std::int64_t kGpuProcessBytes = 512 << 20;
};

/// `location`: a path or "builtin:name". `context` 0: arch::default_context(), as the worker chooses. `kv`: the type of
/// keys and values. Errors: kModelNotFound; kModelIncompatible where a worker could not load it either.
[[nodiscard]] Result<Need> memory_need(const std::string& location, std::int64_t context, std::int64_t parallel,
                                       KvPrecision kv = KvPrecision::kF16);
/// Of --kv-type; kF16 of an empty text.
[[nodiscard]] KvPrecision kv_precision(std::string_view text);

}  // namespace llorch::hive
