// Moves what queens share from one store to another: a house that becomes a fleet, and back.
//
// Threads: none besides the caller's; blocks.
#pragma once

#include <string>

#include "queen/fleet.h"

namespace llorch::queen {

struct Migration {
  std::string from = "own", to;  // "own": the queen's own catalog and files; else a store (coord/store_url.h)
  FleetOptions fleet;            // how an etcd is reached; its `store` is not looked at
  std::string data_dir, keys_file;
};
/// The number of entries that were copied; what is there already is left as it is, and what they come from too. Errors:
/// kResourceInUse when a queen runs on the data directory; kResourceInUse naming the first key that the other place has
/// with another value, then nothing is written; those of stores and files.
[[nodiscard]] Result<std::size_t> migrate(const Migration& migration);

}  // namespace llorch::queen
