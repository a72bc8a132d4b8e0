#include "colony/hub_listing.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/path_name.h"
#include "base/split_name.h"
#include "format/json.h"
#include "security/validate.h"

namespace llorch::colony {
namespace {

std::unexpected<Error> distrust(std::string_view why) {
  return fail(ErrorCode::kDownloadFailed, "the model server's list of files {}", why);
}

bool is_commit(std::string_view text) {
  return !text.empty() && text.size() <= 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

/// What a listing has, looked at many times.
class Names {
 public:
  explicit Names(const HubListing& listing) : names_(listing.files.begin(), listing.files.end()) {}
  [[nodiscard]] bool has(std::string_view name) const { return names_.contains(name); }
  /// All parts of a split file; each is looked at once.
  [[nodiscard]] bool is_whole(const std::string& name) {
    const SplitName of = split_name(name);
    if (of.parts < 2) return true;
    const auto [known, fresh] = whole_.try_emplace(split_part(of.stem, 1, of.parts), true);
    for (std::uint64_t part = 1; fresh && known->second && part <= of.parts; ++part)
      known->second = has(split_part(of.stem, part, of.parts));
    return known->second;
  }

 private:
  std::set<std::string_view> names_;
  std::map<std::string, bool> whole_;  // by the first part
};

/// One file, or some part of a split one: rather of one that is whole.
Result<std::string> choose_file(const HubListing& listing, Names& names, std::string_view wanted) {
  if (wanted.ends_with(".gguf")) {
    if (names.has(wanted)) return std::string(wanted);
    return fail(ErrorCode::kModelNotFound, "the repository has no such file");
  }
  std::vector<std::string> quants{"Q4_K_M", "Q5_K_M", "Q4_0", "Q5_0", "Q8_0", "F16"};
  if (!wanted.empty()) {
    quants = {std::string(wanted)};
    std::ranges::transform(quants[0], quants[0].begin(), [](unsigned char c) { return std::toupper(c); });
  }
  for (const bool whole : {true, false})
    for (const std::string& quant : quants)
      for (const std::string& name : listing.files)
        if (quant_in_name(name) == quant && names.is_whole(name) == whole) return name;
  if (wanted.empty() && !listing.files.empty()) return listing.files.front();
  return fail(ErrorCode::kModelNotFound, "the repository has no GGUF file of that kind");
}

}  // namespace

Result<HubListing> read_hub_listing(std::string_view text) {
  if (text.size() > kHubListingBytesMax) return distrust("is too long");
  const auto parsed = json::parse(text, "list of files");
  const json::object* o = parsed ? parsed->if_object() : nullptr;
  const json::array* files = o ? json::find_array(*o, "siblings") : nullptr;
  HubListing listing;
  listing.commit = o ? json::find_text(*o, "sha").value_or("") : "";
  if (!files || !is_commit(listing.commit)) return distrust("cannot be read");
  if (files->size() > kHubFilesMax) return distrust("has too many files");
  for (const json::value& f : *files) {
    const json::object* item = f.if_object();
    const auto name = item ? json::find_text(*item, "rfilename") : std::nullopt;
    if (!name) return distrust("cannot be read");
    if (!name->ends_with(".gguf")) continue;
    if (const PathFlaw flaw = check_relative_path(*name); flaw != PathFlaw::kNone)
      return distrust(fmt::format("is not to be trusted: a file name {}", describe(flaw)));
    listing.files.push_back(*name);
  }
  return listing;
}

Result<std::vector<std::string>> choose_files(const HubListing& listing, std::string_view wanted) {
  Names names(listing);
  LLORCH_TRY(const std::string chosen, choose_file(listing, names, wanted));
  std::vector<std::string> parts = split_parts(chosen);
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!names.has(parts[i]))
      return fail(ErrorCode::kModelNotFound, "the repository lacks part {} of the {} parts of this model", i + 1,
                  parts.size());
  return parts;
}

Result<CacheNames> cache_names(const ModelRef& hub, std::string_view commit, std::string_view file,
                               std::string_view etag) {
  const std::size_t slash = hub.repo.find('/');
  if (hub.kind != ModelRef::Kind::kHub || slash == hub.repo.npos || !is_commit(commit) ||
      security::check_object_id(etag))
    return distrust("names what cannot be kept");
  const std::string base =
      fmt::format("models--{}--{}/", std::string_view(hub.repo).substr(0, slash), hub.repo.substr(slash + 1));
  CacheNames n;
  n.blobs = base + "blobs", n.refs = base + "refs", n.ref = fmt::format("{}/{}", n.refs, hub.revision);
  n.blob = fmt::format("{}/{}", n.blobs, etag), n.partial = n.blob + ".incomplete";
  n.locks = ".locks/" + base.substr(0, base.size() - 1), n.lock = fmt::format("{}/{}.lock", n.locks, etag);
  n.snapshot = fmt::format("{}snapshots/{}/{}", base, commit, file);
  n.snapshot_folder = n.snapshot.substr(0, n.snapshot.rfind('/'));
  // One component too many, or a name that became too long: the parts were good, the whole may not be.
  for (const std::string* name :
       {&n.blobs, &n.blob, &n.partial, &n.lock, &n.snapshot, &n.snapshot_folder, &n.refs, &n.ref})
    if (check_relative_path(*name) != PathFlaw::kNone) return distrust("names what cannot be kept");
  return n;
}

}  // namespace llorch::colony
