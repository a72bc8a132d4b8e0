// Errors that are expected: a damaged file, a wrong argument, memory that ran out.
//
// `Result<T>` carries a value or an `Error`. An Error has a stable code (spelled as on the wire), and a message for
// people that says what and where. Programmer's errors use LLORCH_ASSERT (base/assert.h) instead; no input may reach
// one. Thread-safe: values only.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace llorch {

enum class ErrorCode {
#define LLORCH_ERROR(id, spelling, status, type, retriable) id,
#include "base/error_codes.inc"
#undef LLORCH_ERROR
};

struct ErrorKind {
  std::string_view name;  // the code's spelling on the wire and in logs
  int http_status;
  std::string_view type;
  bool retriable;
};
inline constexpr ErrorKind kErrorKinds[] = {
#define LLORCH_ERROR(id, spelling, status, type, retriable) {spelling, status, type, retriable},
#include "base/error_codes.inc"
#undef LLORCH_ERROR
};
constexpr const ErrorKind& kind(ErrorCode code) { return kErrorKinds[static_cast<std::size_t>(code)]; }
constexpr std::string_view name(ErrorCode code) { return kind(code).name; }

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;

  /// The same error with "where: " in front of its message.
  [[nodiscard]] Error in(std::string_view where) && {
    message = fmt::format("{}: {}", where, message);
    return std::move(*this);
  }
};

template<class T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

/// `return fail(ErrorCode::kIo, "cannot open {}", path);`
template<class... Args>
[[nodiscard]] std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

/// A model file that is damaged or that we do not understand.
template<class... Args>
[[nodiscard]] std::unexpected<Error> bad_model(fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorCode::kModelLoadFailed, format, std::forward<Args>(args)...);
}

}  // namespace llorch

#define LLORCH_JOIN2(a, b) a##b
#define LLORCH_JOIN(a, b) LLORCH_JOIN2(a, b)

/// LLORCH_TRY(auto x, f()): x is f()'s value, or the error is returned to the caller.
#define LLORCH_TRY(declaration, expression) LLORCH_TRY_(declaration, expression, LLORCH_JOIN(llorch_result_, __LINE__))
#define LLORCH_TRY_(declaration, expression, result)              \
  auto result = (expression);                                     \
  if (!result) return std::unexpected(std::move(result).error()); \
  declaration = *std::move(result)

/// LLORCH_OK(f()): returns f()'s error to the caller, if there is one.
#define LLORCH_OK(expression)                                                                                        \
  do {                                                                                                               \
    if (auto llorch_status = (expression); !llorch_status) return std::unexpected(std::move(llorch_status).error()); \
  } while (false)
