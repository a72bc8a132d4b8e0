// Good models by the memory of a machine, for people who do not know one yet: `llorch model suggest`.
//
// The data is suggested_models.tsv, which is part of the program. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llorch::keeper {

struct Suggestion {
  std::string model;  // a reference, as `llorch run` takes it
  std::int64_t file_bytes = 0;
  std::string licence, good_for;
  std::string checked;  // of licence and size, as the data's first lines say: page, alike, licence, -
  /// Memory that it takes with some thousand tokens of conversation, about.
  [[nodiscard]] std::int64_t memory_bytes() const { return file_bytes / 5 * 6 + (std::int64_t{512} << 20); }
};

/// All of them, smallest first.
[[nodiscard]] std::vector<Suggestion> suggestions();

}  // namespace llorch::keeper
