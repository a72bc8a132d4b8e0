// What a model server says of a repository, checked: its commit and its model files, and where they go in the cache.
//
// A listing with one name that could leave its folder, or more files or bytes than any repository has, is refused as a
// whole. Source of the layout: the Hugging Face cache (blobs/, snapshots/<commit>/, refs/). Threads: any.
// Errors: kDownloadFailed for a listing that cannot be believed; kModelNotFound.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "colony/model_ref.h"

namespace llorch::colony {

inline constexpr std::size_t kHubListingBytesMax = 8u << 20, kHubFilesMax = 10'000;

struct HubListing {
  std::string commit;              // hexadecimal
  std::vector<std::string> files;  // that end in .gguf; each has passed check_relative_path()
};
[[nodiscard]] Result<HubListing> read_hub_listing(std::string_view json);

/// The file that is meant: a name that ends in .gguf, a quantization, or "" for the usual one. Of a split file, all its
/// parts (base/split_name.h). Errors: kModelNotFound, also where the repository lacks a part.
[[nodiscard]] Result<std::vector<std::string>> choose_files(const HubListing& listing, std::string_view wanted);

/// Names below the cache's hub/ folder, each of which has passed check_relative_path().
struct CacheNames {
  std::string blobs, blob, partial, snapshot, snapshot_folder, refs, ref, locks, lock;
};
/// `etag`: what the server calls the file's content.
[[nodiscard]] Result<CacheNames> cache_names(const ModelRef& hub, std::string_view commit, std::string_view file,
                                             std::string_view etag);

}  // namespace llorch::colony
