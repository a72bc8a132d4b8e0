// The logit log of parity work: what was computed at which position, for comparison with other engines (P-10 to P-13).
//
// ORCH_LOG_FILE names the file (unset: off), ORCH_LOG_TEAM the producer, ORCH_LOG_VALUES how many first values of a
// tensor are written. Records are lines of JSON, kept in memory while tokens stream and written by flush(), at the
// process's end and when it crashes. A build without LLORCH_ORCH_LOGGING has no code of it in its steps.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"

namespace llorch::orch_log {

/// Reads the environment once and opens the file. Errors: kIo, kInvalidRequest for ORCH_LOG_VALUES.
[[nodiscard]] Status open();
[[nodiscard]] bool on();
/// One tensor on the host, of one row. `token_idx`: absolute position of the input token whose output it is.
/// A value that is not finite is written as null, and counted over the whole row. Memory is bounded: beyond it records
/// are dropped and counted.
void record(std::string_view checkpoint, int token_idx, std::span<const float> values, std::string_view file, int line);
/// Writes what has been kept. Errors: kIo.
[[nodiscard]] Status flush_now();

}  // namespace llorch::orch_log

#ifdef LLORCH_ORCH_LOGGING
#define ORCH_LOG(checkpoint, token_idx, values)                                                              \
  do {                                                                                                       \
    if (llorch::orch_log::on()) llorch::orch_log::record(checkpoint, token_idx, values, __FILE__, __LINE__); \
  } while (false)
#define ORCH_LOG_ON() llorch::orch_log::on()
#else
#define ORCH_LOG(checkpoint, token_idx, values) ((void)0)
#define ORCH_LOG_ON() false
#endif
