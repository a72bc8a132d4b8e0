// Why a grammar was not compiled: where, by which keyword, and a sentence for people.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <utility>

#include "base/result.h"

namespace llorch {

struct Refusal {
  std::string pointer;  // JSON pointer into the schema ("" is its root); "byte N" or a rule's name for texts
  std::string keyword;  // of JSON Schema, or "regex", "gbnf", "grammar"
  std::string message;

  /// For a request's answer: kUnsupportedValue, naming pointer and keyword.
  [[nodiscard]] Error error() const {
    return {ErrorCode::kUnsupportedValue, fmt::format("{} at '{}': {}", keyword, pointer, message)};
  }
};

template<class T>
using Compiled = std::expected<T, Refusal>;

template<class... Args>
[[nodiscard]] std::unexpected<Refusal> refuse(std::string pointer, std::string_view keyword,
                                              fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(
      Refusal{std::move(pointer), std::string(keyword), fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace llorch
