// What a sequence remembers, outside of a device: the content of a page or of a checkpoint, under the hash of the
// tokens that it stands for.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/pages.h"

namespace llorch {

/// A page group's number, or this.
constexpr int kCheckpointGroup = -1;

struct ContentKey {
  int group = 0;
  PageHash hash{};
  auto operator<=>(const ContentKey&) const = default;
};

using Content = std::vector<std::byte>;

/// SHA-256 over key and content: bytes that were meant for another key are as wrong as bytes that changed.
[[nodiscard]] PageHash content_hash(const ContentKey& key, std::span<const std::byte> content);

}  // namespace llorch
