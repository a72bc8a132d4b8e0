// A small text file that a person names on the command line: a path, `-` for stdin, or a pipe, as `<(command)` is.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"

namespace llorch::keeper {

inline constexpr const char* kStdin = "-";

/// The whole of it; a pipe is read to its end. Errors: kInvalidRequest above `bytes_max`; kIo.
[[nodiscard]] Result<std::string> read_given_file(const std::string& path, std::size_t bytes_max);

/// After stdin was read to its end as a file: what a person types from now on comes from the terminal. Errors:
/// kInvalidRequest where there is none.
[[nodiscard]] Status stdin_from_terminal();

}  // namespace llorch::keeper
