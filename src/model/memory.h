// What a model needs of a machine's memory, from its graph alone: what devices allocate is made from the same numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "model/graph.h"

namespace llorch {

/// The widest row of each kind of room that a step takes (forward/model.h).
struct Widths {
  std::int64_t query = 0, key = 0, inside = 0, experts = 0, active = 0, extra = 0, heads = 0, layer_inputs = 0;
  bool parallel = false;

  explicit Widths(const Graph& graph);

 private:
  void take(const std::monostate&) {}
  void take(const SoftmaxAttention& attention);
  void take(const LatentAttention& attention);
  void take(const GatedDeltaNet& mixer);
  void take(const ShortConvolution& mixer);
  void take(const Mamba2& mixer);
  void take(const Mlp& mlp);
  void take(const Moe& moe, std::int64_t dim);
};

/// Checkpoints of recurrent state that are kept for each sequence that can run.
constexpr int kCheckpointsEach = 2;

/// Bytes of one page in the layers with this window.
[[nodiscard]] std::int64_t page_bytes(const Graph& graph, KvPrecision precision, int window = 0);

/// Positions that default_pages() has for each of many sequences at most.
constexpr std::int64_t kPoolPositionsEach = 1024;

/// Pages of a cache where nobody says how many: those of one whole context, and for many sequences of a quarter of the
/// positions that they could have, up to kPoolPositionsEach for each: they grow as they speak, and few use all that
/// they may. All of them where no layer fills such pages (each has a window, or none has pages): they cost nothing.
/// Saturates at 2^60.
[[nodiscard]] std::int64_t default_pages(const Graph& graph, std::int64_t positions, std::int64_t sequences);

/// The most pages of a cache of so many bytes; 1 at least, and no more than could be used where they cost nothing.
[[nodiscard]] std::int64_t pages_within(const Graph& graph, std::int64_t bytes, std::int64_t sequences,
                                        std::int64_t rows, KvPrecision precision);

/// Pages of the layers with a window where those without have `pages`: what so many sequences can see and a step of
/// `rows` rows adds, and once more what they see for the prefix cache.
[[nodiscard]] std::int64_t window_pages(int window, std::int64_t pages, std::int64_t sequences, std::int64_t rows);

/// Bytes of a cache with so many pages in the layers without a window, for so many sequences; checkpoints included.
/// Errors: kModelIncompatible where no machine has so many (2^60).
[[nodiscard]] Result<std::int64_t> cache_bytes(const Graph& graph, std::int64_t pages, std::int64_t sequences,
                                               std::int64_t rows, KvPrecision precision);

/// Bytes of the weights that products read; of a table only rows that come up are read. `bytes_of`: of a whole tensor
/// of the file.
[[nodiscard]] std::int64_t weight_bytes(const Graph& graph,
                                        const std::function<std::int64_t(const std::string& tensor)>& bytes_of);

/// Rows of prompts that get logits in one step (their tokens' log probabilities), beside those that tokens are drawn
/// from: few, for they take memory beside what step_bytes() counts.
[[nodiscard]] std::int64_t scored_rows(std::int64_t vocabulary);

/// Rows of a step of `rows` rows that get logits at most: those of so many sequences, or guesses, and scored ones.
[[nodiscard]] std::int64_t logit_rows(const Graph& graph, std::int64_t rows, std::int64_t sequences);

/// Bytes that a step of `rows` rows takes, with logits for `sequences` of them and for guesses.
[[nodiscard]] std::int64_t step_bytes(const Graph& graph, std::int64_t rows, std::int64_t sequences);

/// A tokenizer's size.
struct VocabularySize {
  std::int64_t tokens = 0, merges = 0;
};

/// Bytes of the program itself, without a model, and of what it knows of each token (its text, its places in maps) and
/// of each merge of byte-pair encoding, as measured: tests/worker/memory_test.py and real_models_test.py hold workers
/// to it.
[[nodiscard]] std::int64_t program_bytes(const VocabularySize& vocabulary);

}  // namespace llorch
