#include "hive/model_cache.h"

#include <fcntl.h>
#include <sys/file.h>

#include <filesystem>
#include <optional>

#include "base/contained_folder.h"
#include "base/path_name.h"
#include "base/split_name.h"

namespace llorch::hive {
namespace {

constexpr int kDepthMax = 16;
constexpr std::size_t kNamesMax = 100'000;

/// What the link `name` leads to, as a name below the same folder, by its text alone; nothing where it leads out.
std::optional<std::string> target_of(const std::string& name, const std::string& text) {
  if (text.starts_with('/')) return std::nullopt;
  std::string whole = (std::filesystem::path(name).parent_path() / text).lexically_normal().string();
  if (check_relative_path(whole) != PathFlaw::kNone) return std::nullopt;
  return whole;
}

/// Whether a link below `folder` leads to `blob`. What cannot be looked at counts as one that does.
bool is_linked(const ContainedFolder& cache, const std::string& folder, const std::string& blob, int depth) {
  const auto names = cache.list(folder, kNamesMax);
  if (!names || depth > kDepthMax) return true;
  for (const auto& [name, is_folder, is_link] : *names) {
    const std::string whole = folder + "/" + name;
    if (is_folder && is_linked(cache, whole, blob, depth + 1)) return true;
    if (!is_link) continue;
    const auto text = cache.read_link(whole);
    if (!text || target_of(whole, *text) == blob) return true;
  }
  return false;
}

/// One file, or one part of a split one.
Result<Removal> remove_part(const ContainedFolder& cache, const std::string& path) {
  const std::string prefix = cache.path() + "/";
  if (!path.starts_with(prefix)) return Removal::kNothing;
  const std::string name = path.substr(prefix.size()), model = name.substr(0, name.find('/')),
                    snapshots = model + "/snapshots", blobs = model + "/blobs/";
  if (!name.starts_with(snapshots + "/")) return Removal::kNothing;
  LLORCH_TRY(const auto entry, cache.find(name));
  if (!entry) return Removal::kNothing;
  if (entry->regular) {
    LLORCH_OK(cache.remove(name));
    return Removal::kAll;
  }
  if (!entry->link) return fail(ErrorCode::kIo, "in the place of a model's file is something else");
  LLORCH_TRY(const std::string text, cache.read_link(name));
  LLORCH_OK(cache.remove(name));
  const auto blob = target_of(name, text);
  if (!blob || !blob->starts_with(blobs) || blob->find('/', blobs.size()) != blob->npos) return Removal::kLink;
  // Who fetches the same bytes holds this lock and will link to them (hive/download.cc, huggingface_hub).
  const std::string locks = ".locks/" + model;
  LLORCH_OK(cache.make_folders(locks));
  LLORCH_TRY(const Descriptor lock,
             cache.open_file(fmt::format("{}/{}.lock", locks, blob->substr(blobs.size())), O_RDWR | O_CREAT));
  if (::flock(lock.number(), LOCK_EX | LOCK_NB) != 0 || is_linked(cache, snapshots, *blob, 0)) return Removal::kLink;
  LLORCH_TRY(const auto bytes, cache.find(*blob));
  if (!bytes || !bytes->regular) return Removal::kLink;
  LLORCH_OK(cache.remove(*blob));
  return Removal::kAll;
}

}  // namespace

Result<Removal> remove_from_cache(const std::string& hub_folder, const std::string& path) {
  LLORCH_TRY(const ContainedFolder cache, ContainedFolder::open(hub_folder));
  std::optional<Result<Removal>> outcome;  // of the first part, or the first error; the others go whatever happens
  for (const std::string& part : split_parts(path)) {
    Result<Removal> removed = remove_part(cache, part);
    if (!outcome || (*outcome && !removed)) outcome = std::move(removed);
  }
  return *std::move(outcome);
}

}  // namespace llorch::hive
