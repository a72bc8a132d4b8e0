#include "base/path_name.h"

#include <algorithm>

#include "base/utf8.h"

namespace llorch {
namespace {

constexpr std::size_t kPathBytesMax = 1024, kNameBytesMax = 255, kComponentsMax = 32;

/// C0, DEL, and C1 as UTF-8.
bool has_control_character(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0xff;
    if (c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0)) return true;
  }
  return false;
}

}  // namespace

std::string_view describe(PathFlaw flaw) {
  switch (flaw) {
    case PathFlaw::kNone: return "is good";
    case PathFlaw::kEmpty: return "is empty";
    case PathFlaw::kTooLong: return "is too long";
    case PathFlaw::kNul: return "has a NUL byte";
    case PathFlaw::kControlCharacter: return "has control characters";
    case PathFlaw::kBackslash: return "has a backslash";
    case PathFlaw::kAbsolute: return "is absolute";
    case PathFlaw::kTraversal: return "leaves its folder";
    case PathFlaw::kNotUtf8: break;
  }
  return "is not UTF-8";
}

PathFlaw check_relative_path(std::string_view path) {
  if (path.empty()) return PathFlaw::kEmpty;
  if (path.size() > kPathBytesMax) return PathFlaw::kTooLong;
  if (path.contains('\0')) return PathFlaw::kNul;
  if (!utf8_valid(path)) return PathFlaw::kNotUtf8;
  if (has_control_character(path)) return PathFlaw::kControlCharacter;
  if (path.contains('\\')) return PathFlaw::kBackslash;
  if (path.starts_with('/')) return PathFlaw::kAbsolute;
  std::size_t components = 0;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view name = path.substr(at, end - at);
    if (name.empty() || name == "." || name == "..") return PathFlaw::kTraversal;
    if (name.size() > kNameBytesMax || ++components > kComponentsMax) return PathFlaw::kTooLong;
    at = end + 1;
  }
  return PathFlaw::kNone;
}

PathFlaw check_file_name(std::string_view name) {
  const PathFlaw flaw = check_relative_path(name);
  return flaw == PathFlaw::kNone && name.contains('/') ? PathFlaw::kTraversal : flaw;
}

}  // namespace llorch
