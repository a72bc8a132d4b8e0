// Which build of a program runs: what one build has computed and kept, another must not take for its own.
#pragma once

#include <string>

namespace llorch {

/// The linker's hash over the running program (the ELF note GNU build-id) in hex; empty where there is none.
[[nodiscard]] std::string build_id();
/// Of the system's library, whose functions (sin, exp) may have other last bits in another version.
[[nodiscard]] std::string system_maths();

}  // namespace llorch
