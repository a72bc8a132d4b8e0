// What a worker for a model will need, from the model file's header alone (H-12); and the context that it gets where
// nobody says one: the model's own, as far as memory allows.
//
// Opens the file: background thread. Errors: those of the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "colony/facts.h"
#include "colony/model_settings.h"
#include "model/state.h"

namespace llorch::hive {

/// How a worker runs, as far as its memory depends on it.
struct RunSize {
  std::int64_t context = 0;   // positions; 0: the model's own, as far as `room` allows
  bool cut_context = false;   // one that is longer than the model's is cut, and no error
  bool own_mistake = false;   // the worker is told of no context: it says what is wrong with the file's
  std::int64_t parallel = 8;  // sequences
  std::int64_t rows = 512;    // of a step
  KvPrecision kv = KvPrecision::kF16;
  std::int64_t kv_bytes = 0;         // of the cache; 0: default_pages()
  std::int64_t cache_ram_bytes = 0;  // what is kept beside the cache
  std::string device = "cpu";
  std::optional<std::int64_t> room;  // bytes that the worker may take there; nothing: not known

  /// What a model's settings say, over those of all workers of this machine.
  RunSize(const colony::ModelSettings& of_model, const struct WorkerDefaults& of_all);
  RunSize() = default;
};

/// The [worker] section of this user's configuration file, as far as memory depends on it: a worker reads the same.
/// What it does not take there, it says itself.
struct WorkerDefaults {
  colony::ModelSettings settings;  // ctx, max-batch, kv-type
  bool context_is_wrong = false;   // the file has one that cannot be
  double kv_mb = 0, cache_ram_mb = 0;
  std::int64_t prefill_chunk = 0;  // 0: not set
  [[nodiscard]] static WorkerDefaults read(const std::string& config_file);
};

struct Need {
  std::int64_t weights = 0, kv = 0, scratch = 0;  // bytes
  std::string architecture, quant;
  std::vector<std::string> capabilities;  // of the model, as its workers tell them: text-gen, chat, embedding, rerank
  std::int64_t context = 0, own_context = 0, parallel = 0;  // own_context: the model's
  std::int64_t asked_context = 0;                           // longer than the model's own, which it was cut to; 0: no
  bool context_is_set = false;                              // by a person
  bool context_is_told = true;                              // to the worker
  std::string device = "cpu";
  [[nodiscard]] std::int64_t total() const {
    return (weights + kv + scratch) / 10 * 11 + (colony::is_gpu(device) ? kGpuProcessBytes : 0);
  }
  /// What it says of the model itself.
  void tell(colony::Model& m) const {
    m.capabilities = capabilities, m.context = own_context, m.needed_bytes = total();
  }
  /// The context that was chosen, for the worker.
  [[nodiscard]] Status tell(colony::ModelSettings& worker) const {
    return context_is_told ? worker.set("ctx", std::to_string(context)) : Status();
  }
  /// The context that was chosen, and why, for people.
  [[nodiscard]] std::string context_text() const;
  /// What a driver takes of a GPU for a process that computes there: its context and the code of kernels.
  static constexpr std::int64_t kGpuProcessBytes = 512 << 20;
};

/// A context that nobody has set is not lowered below this for lack of memory: then the model has no room.
inline constexpr std::int64_t kLeastContext = 4096;

/// `location`: a path or "builtin:name". Errors: kModelNotFound; kModelLoadFailed where a worker could not load it
/// either; kModelIncompatible for more sequences than any machine has memory for; kInvalidRequest for a context that is
/// longer than the model's.
[[nodiscard]] Result<Need> memory_need(const std::string& location, const RunSize& size);
/// Of a worker of which nothing is said but what holds for all of this machine, where its context is the least.
[[nodiscard]] Result<Need> default_need(const std::string& location);
/// Of --kv-type; kF16 of an empty text.
[[nodiscard]] KvPrecision kv_precision(std::string_view text);

}  // namespace llorch::hive
