// What a hive can be told to do: the hive takes these, the queen passes them on.
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>

namespace llorch::colony {

inline constexpr std::string_view kHiveOperations[] = {
    "worker_spawn",   "worker_install", "worker_process_list", "worker_process_get", "worker_process_delete",
    "model_download", "model_list",     "model_get",           "model_delete"};

[[nodiscard]] inline bool is_hive_operation(std::string_view name) {
  return std::ranges::find(kHiveOperations, name) != std::end(kHiveOperations);
}

}  // namespace llorch::colony
