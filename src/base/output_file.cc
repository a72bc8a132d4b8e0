#include "base/output_file.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace llorch {
namespace {

enum class Content { kNone, kGguf, kSafeTensors, kOther };

Content content_of(const std::string& path) {
  std::array<char, 9> head{};
  std::ifstream in(path, std::ios::binary);
  in.read(head.data(), head.size());
  const std::string_view got(head.data(), static_cast<std::size_t>(in.gcount()));
  if (got.empty()) return Content::kNone;
  if (got.starts_with("GGUF")) return Content::kGguf;
  return got.size() == head.size() && got.back() == '{' && got[7] == 0 ? Content::kSafeTensors : Content::kOther;
}

}  // namespace

Status may_replace_with_text(const std::string& path) {
  std::error_code problem;
  if (!std::filesystem::is_regular_file(path, problem)) return {};  // a terminal, a pipe, nothing
  const Content content = content_of(path);
  if (content == Content::kGguf || content == Content::kSafeTensors)
    return fail(ErrorCode::kInvalidRequest, "{} is a model: it is not written over", path);
  return {};
}

Status replace_with_text(const std::string& path, std::string_view text) {
  LLORCH_OK(may_replace_with_text(path));
  if (!(std::ofstream(path) << text << std::flush)) return fail(ErrorCode::kIo, "cannot write {}", path);
  return {};
}

Status check_writable_with_text(const std::string& path) {
  if (path.empty()) return {};
  LLORCH_OK(may_replace_with_text(path));
  std::error_code problem;
  const bool there = std::filesystem::exists(path, problem);
  if (std::filesystem::is_directory(path, problem))
    return fail(ErrorCode::kIo, "cannot write {}: it is a folder", path);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (access(there ? path.c_str() : folder.empty() ? "." : folder.c_str(), W_OK) != 0)
    return fail(ErrorCode::kIo, "cannot write {}: {}", path, std::strerror(errno));
  return {};
}

Status may_replace_with_model(const std::string& path) {
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) return {};
  if (!std::filesystem::is_regular_file(path, problem))
    return fail(ErrorCode::kInvalidRequest, "{} is there and is no regular file: it is not replaced", path);
  const Content content = content_of(path);
  if (content == Content::kNone || content == Content::kGguf) return {};
  return fail(ErrorCode::kInvalidRequest, "{} is there and is no GGUF file: it is not written over", path);
}

}  // namespace llorch
