#include "keeper/gpu_trial.h"

#include "service/process.h"

namespace llorch::keeper {
namespace {

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

}  // namespace

Result<std::string> try_gpu(const std::string& worker, int index) {
  constexpr std::chrono::seconds kLimit{60};
  // CUDA counts GPUs by their speed unless it is told to count as NVML does.
  const auto ran = service::run_program(
      {"env", "CUDA_DEVICE_ORDER=PCI_BUS_ID", worker, "generate", "--model", "builtin:haiku", "--prompt",
       "Write a haiku about health", "--max-tokens", "1", "--device", std::to_string(index)},
      -1, service::Stderr::kJoined, {.label = "a token of the GPU", .time = kLimit, .silent = true});
  if (!ran) return std::unexpected(ran.error());
  if (ran->exit_code != 0)
    return fail(ErrorCode::kWorkerUnhealthy, "it ended with {}: {}", ran->exit_code, last_line(ran->output));
  return last_line(ran->output);
}

}  // namespace llorch::keeper
