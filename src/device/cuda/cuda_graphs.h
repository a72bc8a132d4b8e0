// Steps that were captured, to be run again: one for each kind of step that came often, the ones used last.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
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
    int launches = 0;      // of its operations one by one, since there is no graph
    bool refused = false;  // it could not be captured, and is not tried again
    std::uint64_t used = 0;
  };
  /// Kinds that are remembered, and those of them that have a graph. Where steps are of more kinds than that, few of
  /// them come again before they are forgotten, and none of those is captured for nothing.
  static constexpr std::size_t kSeenMost = 512, kCapturedMost = 64;
  /// A capture costs more than a launch, and most kinds that come twice do not come often.
  static constexpr int kLaunchesFirst = 2;
  /// Rows of a step that may be captured: more take so long that their launches do not matter, and do not come again.
  static constexpr std::size_t kRowsMax = 64;

  /// Of this kind; new where it was not there. Valid until the next call.
  [[nodiscard]] Entry& find(const Kind& kind) {
    std::erase_if(entries_, [&](const Entry& e) { return e.kind.frees != kind.frees; });
    for (Entry& e : entries_) {
      if (e.kind != kind) continue;
      e.used = ++uses_;
      return e;
    }
    if (entries_.size() == kSeenMost) entries_.erase(std::ranges::min_element(entries_, {}, &Entry::used));
    Entry& added = entries_.emplace_back();
    added.kind = kind, added.used = ++uses_;
    return added;
  }
  /// Whether a step of this kind, which has no graph and is about to be launched, is to be captured.
  [[nodiscard]] static bool wanted(Entry& entry) { return !entry.refused && entry.launches++ >= kLaunchesFirst; }
  /// Takes the graph; where there are too many, the one that was used longest ago is forgotten.
  void keep(Entry& entry, cuda::Graph graph) {
    if (captured() == kCapturedMost) {
      Entry& oldest = *std::ranges::min_element(
          entries_, {}, [](const Entry& e) { return e.graph ? e.used : std::numeric_limits<std::uint64_t>::max(); });
      oldest.graph.reset(), oldest.launches = 0;
    }
    entry.graph = std::move(graph);
  }
  /// What was captured cannot be run.
  static void refuse(Entry& entry) { entry.graph.reset(), entry.refused = true; }
  [[nodiscard]] std::size_t captured() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(entries_, [](const Entry& e) { return e.graph.has_value(); }));
  }

 private:
  std::vector<Entry> entries_;
  std::uint64_t uses_ = 0;
};

}  // namespace llorch
