// Text that a person gives: of a prompt, of a message, and of files that go along with one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llorch::keeper {

/// Errors: kInvalidRequest where `text` is no UTF-8, naming `what` it is and the byte.
[[nodiscard]] Status check_utf8(std::string_view text, std::string_view what);

/// A path as it is typed, pasted, or dragged into a terminal: with quotation marks, backslashes, or ~ for the home
/// directory.
[[nodiscard]] std::string path_of(std::string_view typed);
/// The file that `typed` is the path of, and nothing else: it begins with /, ./, ../ or ~/, and the file is there.
[[nodiscard]] std::optional<std::string> file_meant(std::string_view typed);

/// What a message begins with that a file goes along with. Errors: kInvalidRequest for what is no text, for pictures by
/// name, and for files that are too long; kIo.
[[nodiscard]] Result<std::string> attachment(const std::string& path, const std::string& model);
/// Errors: kInvalidRequest where `prompt` is the path of a picture and nothing else: `model` cannot see it. A path
/// among other words is text.
[[nodiscard]] Status check_is_no_picture(std::string_view prompt, const std::string& model);

}  // namespace llorch::keeper
