#include "keeper/attachment.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/utf8.h"
#include "config_file.h"
#include "keeper/given_file.h"

namespace llorch::keeper {
namespace {

constexpr std::size_t kFileBytesMax = 4u << 20;

bool is_file(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

bool begins_as_path(std::string_view text) {
  constexpr std::array<std::string_view, 4> kBeginnings{"/", "./", "../", "~/"};
  return std::ranges::any_of(kBeginnings, [&](std::string_view each) { return text.starts_with(each); });
}

bool is_named_as_picture(std::string_view path) {
  std::string lower(path);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 8> kEndings{".png",  ".jpg", ".jpeg", ".gif",
                                                     ".webp", ".bmp", ".tiff", ".heic"};
  return std::ranges::any_of(kEndings, [&](std::string_view each) { return lower.ends_with(each); });
}

/// By the first bytes of PNG, JPEG, GIF and WebP files.
bool is_picture(std::string_view bytes) {
  return bytes.starts_with("\x89PNG") || bytes.starts_with("\xff\xd8\xff") || bytes.starts_with("GIF8") ||
         (bytes.starts_with("RIFF") && bytes.substr(0, 12).ends_with("WEBP"));
}

std::unexpected<Error> no_pictures(std::string_view path, const std::string& model) {
  return fail(ErrorCode::kInvalidRequest, "{} is a picture, and {} takes text alone: no model here sees pictures", path,
              model);
}

}  // namespace

Status check_utf8(std::string_view text, std::string_view what) {
  std::size_t at = 0;
  for (int n = 0; at < text.size(); at += static_cast<std::size_t>(n))
    if (n = utf8_sequence(text.substr(at)); n <= 0)
      return fail(ErrorCode::kInvalidRequest,
                  "{} is no UTF-8: byte {} is 0x{:02x} (`iconv -f LATIN1 -t UTF-8` makes UTF-8 of Latin-1)", what,
                  at + 1, static_cast<unsigned char>(text[at]));
  return {};
}

std::string path_of(std::string_view typed) {
  while (!typed.empty() && std::isspace(static_cast<unsigned char>(typed.back()))) typed.remove_suffix(1);
  while (!typed.empty() && std::isspace(static_cast<unsigned char>(typed.front()))) typed.remove_prefix(1);
  const bool quoted =
      typed.size() >= 2 && (typed.front() == '\'' || typed.front() == '"') && typed.back() == typed.front();
  std::string path;
  if (quoted) {
    path = typed.substr(1, typed.size() - 2);
  } else {
    for (std::size_t i = 0; i < typed.size(); ++i) {
      if (typed[i] == '\\' && i + 1 < typed.size()) ++i;
      path += typed[i];
    }
  }
  return path.starts_with("~/") ? cli::variable("HOME") + path.substr(1) : path;
}

std::optional<std::string> file_meant(std::string_view typed) {
  if (typed.contains('\n')) return std::nullopt;
  const std::size_t begin = typed.find_first_not_of(" \t'\"");
  if (begin == typed.npos || !begins_as_path(typed.substr(begin))) return std::nullopt;
  std::string path = path_of(typed);
  return is_file(path) ? std::optional(std::move(path)) : std::nullopt;
}

Result<std::string> attachment(const std::string& path, const std::string& model) {
  LLORCH_TRY(std::string text, read_given_file(path, kFileBytesMax));
  if (is_picture(text)) return no_pictures(path, model);
  if (text.contains('\0')) return fail(ErrorCode::kInvalidRequest, "{} is no text", path);
  LLORCH_OK(check_utf8(text, path));
  if (!text.ends_with('\n')) text += '\n';
  return fmt::format("{}:\n```\n{}```\n\n", path.substr(path.rfind('/') + 1), text);
}

Status check_is_no_picture(std::string_view prompt, const std::string& model) {
  const auto path = file_meant(prompt);
  return path && is_named_as_picture(*path) ? no_pictures(*path, model) : Status();
}

}  // namespace llorch::keeper
