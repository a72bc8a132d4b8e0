#include "security/manifest.h"

#include <filesystem>
#include <map>

#include "base/folder.h"
#include "base/ids.h"
#include "base/open_file.h"
#include "base/split_name.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

Result<std::string> hash_of_file(const std::string& path, const std::stop_token& stop) {
  LLORCH_TRY(const RegularFile file, open_regular_file(path));
  Sha256 sum;
  std::string part(1u << 20, '\0');
  for (std::uint64_t at = 0;;) {
    if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "hashing {} was cancelled", path);
    LLORCH_TRY(const std::size_t n, file.read_some(at, std::as_writable_bytes(std::span(part))));
    if (n == 0) break;
    sum.update({part.data(), n});
    at += n;
  }
  return to_hex(sum.finish());
}

}  // namespace

std::string manifest_of_parts(const std::vector<std::string>& paths, const std::vector<std::string>& hashes) {
  if (hashes.size() == 1) return hashes.front();
  Sha256 sum;
  for (std::size_t i = 0; i < paths.size(); ++i)
    sum.update(hashes[i] + "  " + std::filesystem::path(paths[i]).filename().string() + "\n");
  return to_hex(sum.finish());
}

Result<std::string> manifest_of(const std::string& path, const std::stop_token& stop) {
  std::error_code problem, dangling;  // a link to nothing is no file of the model's
  if (!std::filesystem::is_directory(path, problem)) {
    const std::vector<std::string> parts = split_parts(path);
    std::vector<std::string> hashes;
    for (const std::string& part : parts) {
      LLORCH_TRY(hashes.emplace_back(), hash_of_file(part, stop));
    }
    return manifest_of_parts(parts, hashes);
  }
  std::map<std::string, std::string> files, modules;  // by name
  LLORCH_TRY(const auto entries, entries_of(path));
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename();
    if (name.starts_with('.')) continue;
    if (entry.is_regular_file(dangling)) files[name] = entry.path();
    if (!entry.is_directory(dangling)) continue;
    const std::filesystem::path config = entry.path() / "config.json";
    if (std::filesystem::is_regular_file(config, dangling)) modules[name + "/config.json"] = config;
  }
  Sha256 sum;
  for (const auto* some : {&files, &modules})
    for (const auto& [name, file] : *some) {
      LLORCH_TRY(const std::string hash, hash_of_file(file, stop));
      sum.update(hash + "  " + name + "\n");
    }
  return to_hex(sum.finish());
}

std::string identity_of(const std::string& path) {
  std::string all;
  for (const std::string& part : split_parts(path)) {
    const auto identity = FileIdentity::of(part);
    if (!identity) return "";
    all += (all.empty() ? "" : " ") + identity->text();
  }
  return all;
}

}  // namespace llorch::security
