// Models that are part of the program: builtin:haiku, trained from nothing by tools/haiku (H-20).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace llorch::builtin {
/// The GGUF file's bytes, or nothing for an unknown name.
[[nodiscard]] std::span<const std::byte> find(std::string_view name);
}  // namespace llorch::builtin
