#include "queen/options.h"

#include <algorithm>
#include <cstdlib>
#include <random>

#include "colony/model_ref.h"

namespace llorch::queen {

Status QueenOptions::check() const {
  if (default_deadline_ms > max_deadline_ms)
    return fail(ErrorCode::kInvalidRequest, "timeout.default_ms is above timeout.max_ms");
  if (retry_first_ms > retry_max_ms)
    return fail(ErrorCode::kInvalidRequest, "retry.initial_delay_ms is above retry.max_delay_ms");
  if (mode == "lab" && local_mode)
    return fail(ErrorCode::kInvalidRequest, "mode lab and local-mode exclude each other");
  if (mode == "lab" && token_file.empty() && keys_file.empty() && !std::getenv("LLORCH_API_TOKEN") &&
      !std::getenv("LLORCH_API_TOKEN_FILE"))
    return fail(ErrorCode::kInvalidRequest, "mode lab needs a token");
  for (const std::string& model : pinned) LLORCH_OK(colony::parse_model_ref(model));
  return {};
}

std::chrono::milliseconds QueenOptions::retry_pause(int n) const {
  double ms = retry_first_ms;
  for (int i = 1; i < n && ms < retry_max_ms; ++i) ms *= retry_multiplier;
  ms = std::min<double>(ms, retry_max_ms);
  // Those that failed together do not come back together.
  if (retry_jitter) ms *= 0.8 + 0.2 * static_cast<double>(std::random_device{}() % 1000) / 1000;
  return std::chrono::milliseconds(static_cast<std::int64_t>(ms));
}

}  // namespace llorch::queen
