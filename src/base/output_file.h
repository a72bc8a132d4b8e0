// Which files a command may write its results over.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch {

/// A report, a log, a receipt: nothing is lost that is not easily made again. Errors: kInvalidRequest where `path` is a
/// model's file (GGUF or SafeTensors), as when an input stands in the output's place.
[[nodiscard]] Status may_replace_with_text(const std::string& path);
/// Writes it there. Errors: the same; kIo.
[[nodiscard]] Status replace_with_text(const std::string& path, std::string_view text);
/// Whether replace_with_text() will do, before there is anything to write. An empty path is none. Errors: the same.
[[nodiscard]] Status check_writable_with_text(const std::string& path);
/// A model: `path` is no file yet, or one of GGUF. Errors: kInvalidRequest where it is something else, a device too.
[[nodiscard]] Status may_replace_with_model(const std::string& path);

}  // namespace llorch
