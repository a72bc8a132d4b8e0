// Benchmarks of a model on this machine, as fractions of what the machine can do (docs/performance.md).
#pragma once

#include <algorithm>
#include <boost/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "device/profile.h"
#include "device/roofline.h"
#include "engine/loaded_model.h"

namespace llorch::worker {

struct BenchOptions {
  ModelOptions model;                   // with its first adapter, where it has one
  std::vector<int> prompts, generated;  // tokens; 0: no such test; empty: as many as fit, at most 512 and 128
  std::vector<int> depths{0}, batches{1}, threads;
  int repeats = 5;
  int prefill_chunk = 512;  // prompt tokens of one step
  KvPrecision kv = KvPrecision::kF16;
  bool profile = false, roofline = true;
};

struct BenchResult {
  // prefill, decode, or (with a profile) step: one request through the engine, its tokens sampled; encode: texts of a
  // model without logits
  std::string test;
  int tokens = 0, depth = 0, batch = 1, threads = 1;
  double median = 0, low = 0, high = 0;  // tokens per second, over all sequences
  double operations = 0;                 // of the matrix products, per token
  double bytes = 0;                      // weights, keys and values that one step reads
  double fraction = 0;         // prefill, encode: of the instruction that fits the weights; decode: of read bandwidth
  std::optional<double> host;  // of a GPU: the share of the time that the host did not wait for it
  std::map<std::string, OpProfile> profile;
  double outside = 0;  // step: the share of the time that no operation of the model takes
};

struct BenchReport {
  std::string model, isa, weights;
  std::uint64_t file_bytes = 0;
  double load_s = 0;  // to the first token computed
  std::uint64_t peak_rss_bytes = 0, kv_bytes = 0;
  std::int64_t device_bytes = 0;                       // of a GPU's memory, at most
  std::int64_t loaded_bytes = 0, predicted_bytes = 0;  // of it, once the model is loaded; what was predicted before
  std::vector<Roofline> rooflines;  // one for each number of threads, measured after the model's tests
  std::vector<BenchResult> results;
  std::string note;  // where the context was too short for what is measured by itself

  /// Of the most threads.
  [[nodiscard]] Roofline roofline() const {
    return rooflines.empty() ? Roofline{} : *std::ranges::max_element(rooflines, {}, &Roofline::threads);
  }
};

[[nodiscard]] Result<BenchReport> run_bench(const BenchOptions& options);
[[nodiscard]] boost::json::object to_json(const Roofline& roofline);
[[nodiscard]] boost::json::object to_json(const BenchReport& report);

}  // namespace llorch::worker
