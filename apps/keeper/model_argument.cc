#include "keeper/model_argument.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "base/nearest.h"

namespace llorch::keeper {
namespace {

namespace fs = std::filesystem;

/// The part behind the host of an address on Hugging Face; nothing: it is no address. `other`: it is one of another
/// place.
std::optional<std::string> hub_path(std::string_view typed, bool& other) {
  bool address = false;
  for (const std::string_view scheme : {"https://", "http://"})
    if (typed.starts_with(scheme)) typed.remove_prefix(scheme.size()), address = true;
  for (const std::string_view host : {"huggingface.co/", "www.huggingface.co/", "hf.co/"})
    if (typed.starts_with(host)) return std::string(typed.substr(host.size()));
  other = address;
  return std::nullopt;
}

Result<std::string> of_hub(std::string_view path) {
  path = path.substr(0, path.find_first_of("?#"));
  std::vector<std::string> parts;
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    if (!part.empty()) parts.emplace_back(part);
    path.remove_prefix(std::min(path.size(), part.size() + 1));
  }
  if (parts.size() < 2 || parts[0] == "datasets" || parts[0] == "spaces" || parts[0] == "collections")
    return fail(ErrorCode::kInvalidRequest, "this address of Hugging Face is not a model's: org/repo is missing");
  std::string out = "hf:" + parts[0] + "/" + parts[1];
  if (parts.size() < 4) return out;
  constexpr std::array<std::string_view, 4> kViews = {"tree", "blob", "resolve", "raw"};
  if (std::ranges::find(kViews, parts[2]) == kViews.end()) return out;
  if (parts[3] != "main") out += "@" + parts[3];
  for (std::size_t i = 4; i < parts.size() && parts[2] != "tree"; ++i) out += (i == 4 ? ":" : "/") + parts[i];
  return out;
}

bool is_path(std::string_view typed) {
  constexpr std::array<std::string_view, 4> kBegins = {"/", "./", "../", "~/"};
  if (std::ranges::any_of(kBegins, [&](std::string_view begin) { return typed.starts_with(begin); })) return true;
  if (typed.contains(':')) return false;
  return typed.ends_with(".gguf") || typed.ends_with(".safetensors") || std::ranges::count(typed, '/') > 1;
}

}  // namespace

Result<std::string> model_meant(const std::string& typed, bool here) {
  bool other = false;
  if (const auto path = hub_path(typed, other)) return of_hub(*path);
  if (other)
    return fail(ErrorCode::kInvalidRequest,
                "models are files of this machine or repositories of Hugging Face: this address is neither");
  if (!is_path(typed)) return typed;
  std::error_code problem;
  fs::path path = typed;
  if (typed.starts_with("~/")) {
    const char* home = std::getenv("HOME");  // NOLINT(concurrency-mt-unsafe): nobody sets it
    if (!home || !*home) return fail(ErrorCode::kInvalidRequest, "~ is a folder of nobody: HOME is not set");
    path = fs::path(home) / typed.substr(2);
  }
  path = fs::absolute(path, problem).lexically_normal();
  if (problem) return fail(ErrorCode::kIo, "the working directory cannot be read: {}", problem.message());
  if (!here || fs::exists(path, problem)) return path.string();
  std::vector<std::string> beside;
  for (fs::directory_iterator i(path.parent_path(), problem), end; !problem && i != end && beside.size() < 10'000;
       i.increment(problem))
    beside.push_back(i->path().filename().string());
  return fail(ErrorCode::kModelNotFound, "there is no {}{}", path.string(),
              did_you_mean(path.filename().string(), beside));
}

}  // namespace llorch::keeper
