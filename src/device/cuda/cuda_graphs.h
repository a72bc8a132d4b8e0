// Steps that were captured, to be run again: one for each kind of step, the ones used last.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cuda/kernel/step.h"
#include "cuda/runtime.h"
#include "device/host_device.h"

namespace llorch {

/// Rows of a table that the host brings to a place which a copy to the device begins at.
struct Gather {
  const RawWeight* table = nullptr;
  TableRow which = TableRow::kToken;
  float* to = nullptr;  // (rows, columns of the table), pinned
};

/// What the host gets of a step.
struct GivenSizes {
  std::size_t logits = 0, states = 0;  // floats
};

class CudaGraphs {
 public:
  /// Steps with the same kind are the same launches with the same arguments.
  struct Kind {
    const void* walker = nullptr;
    const void* cache = nullptr;
    cuda::Step step;
    std::size_t logit_rows = 0, state_rows = 0, draws = 0;
    std::int32_t adapters = 0;
    bool logits_wanted = false, logprobs = false;
    std::uint64_t frees = 0;  // of device and pinned memory so far: a graph keeps addresses
    bool operator==(const Kind&) const = default;
  };
  struct Entry {
    Kind kind;
    std::optional<cuda::Graph> graph;
    std::vector<Gather> gathers;
    GivenSizes given;
    std::uint64_t used = 0;  // when it was last
  };
  static constexpr std::size_t kMost = 64;
  /// Rows of a step that may be captured: more take so long that their launches do not matter, and do not come again.
  static constexpr std::size_t kRowsMax = 64;

  /// The entry of this kind; null where there was none, and the next time there is.
  [[nodiscard]] Entry* find(const Kind& kind) {
    std::erase_if(entries_, [&](const Entry& e) { return e.kind.frees != kind.frees; });
    for (Entry& e : entries_) {
      if (e.kind != kind) continue;
      e.used = ++uses_;
      return &e;
    }
    if (entries_.size() == kMost) entries_.erase(std::ranges::min_element(entries_, {}, &Entry::used));
    entries_.push_back({kind, std::nullopt, {}, {}, ++uses_});
    return nullptr;
  }
  void clear() { entries_.clear(); }
  [[nodiscard]] std::size_t captured() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(entries_, [](const Entry& e) { return e.graph.has_value(); }));
  }

 private:
  std::vector<Entry> entries_;
  std::uint64_t uses_ = 0;
};

}  // namespace llorch
