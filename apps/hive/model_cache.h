// Taking a model's file out of the Hugging Face cache, which other programs use too.
//
// The layout: <hub>/models--org--name/snapshots/<commit>/<file> is a link to ../../blobs/<etag>, the bytes. Nothing
// outside the cache is touched, whatever links say, and bytes stay as long as another snapshot links to them. Threads:
// any but the event loop's; blocks.
#pragma once

#include <string>

#include "base/result.h"

namespace llorch::hive {

enum class Removal {
  kAll,      // the file, and its bytes
  kLink,     // its name: others use the bytes, or they are not this cache's
  kNothing,  // it is not in this cache, or has gone before
};

/// `path`: of the file, as a download gave it; of a split one its first part, whose removal is the result: all parts
/// are removed, as far as they can be. Errors: kIo.
[[nodiscard]] Result<Removal> remove_from_cache(const std::string& hub_folder, const std::string& path);

}  // namespace llorch::hive
