// A model server's list of files: whatever it says, no name that is planned for the cache leaves its folder.
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "colony/hub_listing.h"

using namespace llorch;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto must = [](bool holds) {
    if (!holds) __builtin_trap();
  };
  const auto stays = [](const std::string& name) {
    const auto whole = (std::filesystem::path("/cache/hub") / name).lexically_normal().native();
    return whole.starts_with("/cache/hub/models--org--repo/") && !name.contains('\0');
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto listing = colony::read_hub_listing(text);
  if (!listing) return 0;
  colony::ModelRef ref;
  ref.kind = colony::ModelRef::Kind::kHub, ref.repo = "org/repo", ref.revision = "main";
  for (const std::string_view wanted : {"", "Q4_0", "x.gguf"}) (void)colony::choose_files(*listing, wanted);
  for (const std::string& file : listing->files) {
    // The server also says the etag: its own file name is as good as any other text of its.
    for (const std::string_view etag : {std::string_view("0123abcd"), std::string_view(file)}) {
      const auto names = colony::cache_names(ref, listing->commit, file, etag);
      if (!names) continue;
      for (const std::string* name : {&names->blobs, &names->blob, &names->partial, &names->snapshot,
                                      &names->snapshot_folder, &names->refs, &names->ref})
        must(stays(*name));
      must(names->snapshot.contains(listing->commit + "/"));
    }
  }
  return 0;
}
