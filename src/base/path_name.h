// The one check of names that come from outside (a model server, an index file, a request) and become paths.
//
// A good path is relative, has one to 32 components of at most 255 bytes and 1024 bytes in all, is valid UTF-8 without
// control characters, and has no empty, "." or ".." component. It says nothing about links on the disk: writes go
// through base/contained_folder.h. Threads: any.
#pragma once

#include <string_view>

namespace llorch {

enum class PathFlaw { kNone, kEmpty, kTooLong, kNul, kControlCharacter, kBackslash, kAbsolute, kTraversal, kNotUtf8 };
/// "is absolute": completes "the file name ...".
[[nodiscard]] std::string_view describe(PathFlaw flaw);

[[nodiscard]] PathFlaw check_relative_path(std::string_view path);
/// The same for a path of one component: a slash is kAbsolute or kTraversal.
[[nodiscard]] PathFlaw check_file_name(std::string_view name);

}  // namespace llorch
