// What a hive can be told to do: the hive takes these, the queen passes them on.
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>

namespace llorch::colony {

inline constexpr std::string_view kHiveOperations[] = {
    "worker_spawn",        "worker_install", "worker_process_list", "worker_process_get", "worker_process_delete",
    "worker_process_logs", "worker_pin",     "model_download",      "model_list",         "model_get",
    "model_delete"};
/// What only the queen knows.
inline constexpr std::string_view kQueenOperations[] = {"infer",      "status",       "queen_check", "hive_check",
                                                        "model_load", "model_unload", "model_alias", "model_pin"};

/// Parameters of a hive's GET /v1/memory-check, and the settings of a model that they are: all that memory depends on.
struct MemoryParameter {
  const char *name, *setting;
};
inline constexpr MemoryParameter kMemoryParameters[] = {{"ctx", "ctx"}, {"parallel", "max-batch"}, {"kv", "kv-type"}};

[[nodiscard]] inline bool is_hive_operation(std::string_view name) {
  return std::ranges::find(kHiveOperations, name) != std::end(kHiveOperations);
}
[[nodiscard]] inline bool is_queen_operation(std::string_view name) {
  return std::ranges::find(kQueenOperations, name) != std::end(kQueenOperations);
}

}  // namespace llorch::colony
