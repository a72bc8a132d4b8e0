// Names of the parts of a model that is split over several files: <stem>-00001-of-00003.gguf and so on. Source: the
// GGUF ecosystem's convention. Threads: any.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/integer.h"
#include "base/limits.h"

namespace llorch {

/// Of one part: its number, from 1 on, and how many there are; parts 0: the name is none of a split file.
struct SplitName {
  std::string_view stem;
  std::uint64_t part = 0, parts = 0;
};

[[nodiscard]] inline SplitName split_name(std::string_view name) {
  constexpr std::string_view kForm = "-00001-of-00001.gguf";
  if (name.size() < kForm.size() || !name.ends_with(".gguf")) return {};
  const std::string_view end = name.substr(name.size() - kForm.size());
  if (end[0] != '-' || end.substr(6, 4) != "-of-") return {};
  const auto part = parse_integer<std::uint64_t>(end.substr(1, 5)),
             parts = parse_integer<std::uint64_t>(end.substr(10, 5));
  if (!part || !parts || *part < 1 || *part > *parts || *parts > limits::kSplitFilesMax) return {};
  return {name.substr(0, name.size() - kForm.size()), *part, *parts};
}

/// Part number `part` of `parts`.
[[nodiscard]] inline std::string split_part(std::string_view stem, std::uint64_t part, std::uint64_t parts) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", stem, part, parts);
}

/// All parts in their order of what `name` is a part of; `name` alone where it is none.
[[nodiscard]] inline std::vector<std::string> split_parts(const std::string& name) {
  const SplitName of = split_name(name);
  if (of.parts < 2) return {name};
  std::vector<std::string> all;
  for (std::uint64_t part = 1; part <= of.parts; ++part) all.push_back(split_part(of.stem, part, of.parts));
  return all;
}

/// Bytes of a file, or of all parts of a split one; nothing where one is missing. Blocks.
[[nodiscard]] inline std::optional<std::int64_t> size_of_parts(const std::string& name) {
  std::int64_t size = 0;
  for (const std::string& part : split_parts(name)) {
    std::error_code problem;
    const auto bytes = std::filesystem::file_size(part, problem);
    if (problem) return std::nullopt;
    size += static_cast<std::int64_t>(bytes);
  }
  return size;
}

}  // namespace llorch
