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
/// Errors: kInvalidRequest where `text` has the path of a picture, which `model` cannot see.
[[nodiscard]] Status check_pictures(std::string_view text, const std::string& model);

}  // namespace llorch::keeper
