#include "security/manifest.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/ids.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

Result<std::string> hash_of_file(const std::string& path, const std::stop_token& stop) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::kIo, "cannot open {}", path);
  Sha256 sum;
  std::string part(1u << 20, '\0');
  while (in) {
    if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "hashing {} was called off", path);
    in.read(part.data(), static_cast<std::streamsize>(part.size()));
    sum.update({part.data(), static_cast<std::size_t>(in.gcount())});
  }
  if (!in.eof()) return fail(ErrorCode::kIo, "cannot read {}", path);
  return to_hex(sum.finish());
}

}  // namespace

Result<std::string> manifest_of(const std::string& path, const std::stop_token& stop) {
  std::error_code problem, dangling;  // a link to nothing is no file of the model's
  if (!std::filesystem::is_directory(path, problem)) return hash_of_file(path, stop);
  std::map<std::string, std::string> files;  // by name
  for (const auto& entry : std::filesystem::directory_iterator(path, problem))
    if (const std::string name = entry.path().filename(); !name.starts_with('.') && entry.is_regular_file(dangling))
      files[name] = entry.path();
  if (problem) return fail(ErrorCode::kIo, "cannot list {}: {}", path, problem.message());
  Sha256 sum;
  for (const auto& [name, file] : files) {
    LLORCH_TRY(const std::string hash, hash_of_file(file, stop));
    sum.update(hash + "  " + name + "\n");
  }
  return to_hex(sum.finish());
}

std::string identity_of(const std::string& path) {
  struct stat s {};
  if (stat(path.c_str(), &s) != 0) return "";
  const auto ns = [](const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; };
  return fmt::format("{}:{}:{}:{}:{}", s.st_dev, s.st_ino, s.st_size, ns(s.st_mtim), ns(s.st_ctim));
}

}  // namespace llorch::security
