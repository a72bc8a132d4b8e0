// What daemons tell each other about machines, and its JSON: devices, catalogs, worker processes, heartbeats.
//
// A figure that cannot be measured is absent here and null there, never zero (H-03).
#pragma once

#include <algorithm>
#include <boost/json.hpp>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llorch::colony {

using Bytes = std::optional<std::int64_t>;

/// The largest whole number that another daemon may tell (1 PiB, where it means bytes): sums of those of all workers of
/// a hive fit into 64 bits.
inline constexpr std::int64_t kFigureMax = std::int64_t{1} << 50;
inline constexpr std::size_t kWorkersMax = 512;  // of one hive

struct Device {
  std::string id, name, type;  // "cpu" or "cuda:0"; type "cpu" or "gpu"
  Bytes memory_total, memory_free;
  std::string compute_capability, pci_bus_id;  // of GPUs
  std::optional<std::int64_t> cores;           // of the CPU
  std::string problem;                         // why nothing can run there; empty: it can
};
/// "cpu", "cuda:0", or "gpu": any GPU. What people may write for a GPU: cuda:0, cuda0, gpu:0, gpu0. Errors:
/// kInvalidRequest.
[[nodiscard]] Result<std::string> parse_device(std::string_view text);
inline constexpr std::string_view kAnyGpu = "gpu";
[[nodiscard]] inline bool is_gpu(std::string_view device) { return device.starts_with("cuda:"); }
/// The number in "cuda:0".
[[nodiscard]] inline std::string_view gpu_number(std::string_view device) { return device.substr(5); }
/// Whether a device is one that a request names; an empty name is any.
[[nodiscard]] inline bool suits_device(std::string_view named, std::string_view device) {
  return named.empty() || named == device || (named == kAnyGpu && is_gpu(device));
}

struct Model {
  std::string id, ref, name, quant, status, error;  // status: Available, Downloading, Failed
  std::int64_t size_bytes = 0;
  std::vector<std::string> capabilities = {};  // text-gen, chat, embedding, rerank; empty: not known
  std::int64_t context = 0,
               needed_bytes = 0;  // its own context, and the least memory that a worker needs; 0: not known
  bool operator==(const Model&) const = default;
};

/// The kinds of worker programs, llorch-worker-<kind>.
inline constexpr std::string_view kWorkerKinds[] = {"cpu", "cuda", "accelerate"};
[[nodiscard]] inline bool is_worker_kind(std::string_view kind) {
  return std::ranges::find(kWorkerKinds, kind) != std::end(kWorkerKinds);
}
/// The kind that runs on GPUs, and on nothing else.
inline constexpr std::string_view kGpuKind = "cuda";
[[nodiscard]] inline bool runs_on(std::string_view kind, std::string_view device) {
  return (kind == kGpuKind) == is_gpu(device);
}

/// A worker program that a hive has.
struct WorkerKind {
  std::string id, kind, version;
};

/// One worker process of a hive.
struct WorkerFacts {
  std::string worker_id, uri, model_ref, device, kind, state;  // state: starting, ready, busy, stopping
  std::int64_t pid = 0, port = 0;
  Bytes memory_bytes;           // what its hive has promised it, which its end gives back
  boost::json::object figures;  // what it takes and does; names as in kWorkerFigures
  std::string quant;            // of its model; empty: not known
  std::vector<std::string>
      capabilities;  // of its model: text-gen, chat, embedding, rerank, tools, thinking; empty: not known
};
/// How old what was measured is when it is told, in seconds; null: nothing was measured.
inline constexpr std::string_view kMeasuredAgo = "measured_s_ago";
/// Numbers of a worker process; null where they cannot be measured. Measured together, kMeasuredAgo: cpu_pct, rss_mb,
/// io_r_mb_s, io_w_mb_s, uptime_s.
inline constexpr std::string_view kWorkerFigures[] = {
    "cpu_pct",     "rss_mb",          "vram_mb",          "io_r_mb_s",   "io_w_mb_s",   "uptime_s",  "context",
    "queue_depth", "tokens_in_per_s", "tokens_out_per_s", "sleeps_in_s", "model_bytes", kMeasuredAgo};
/// Those of them that the worker itself tells its hive.
inline constexpr std::string_view kWorkerOwnFigures[] = {"context", "queue_depth", "tokens_in_per_s",
                                                         "tokens_out_per_s", "model_bytes"};

/// Of a machine, and of each of its GPUs: the same.
inline constexpr std::string_view kNodeFigures[] = {"cpu_pct", "ram_total_mb", "ram_used_mb", kMeasuredAgo};
inline constexpr std::string_view kGpuFigures[] = {"util_pct", "vram_total_mb", "vram_used_mb", "temp_c", kMeasuredAgo};
inline constexpr std::size_t kGpusMax = 64;  // of one hive

struct Capabilities {
  std::vector<Device> devices;
  std::vector<Model> models;
  std::vector<WorkerKind> workers;
};

struct HiveBeat {
  std::string hive_id, url, version;
  std::string sent;      // by the hive's clock, RFC 3339; may be empty
  std::string revision;  // another one when capabilities, but for free memory, have changed; may be empty
  std::vector<WorkerFacts> workers;
  boost::json::object node;  // kNodeFigures, and "gpus": objects with an id and kGpuFigures
};

[[nodiscard]] boost::json::object to_json(const Device& d);
[[nodiscard]] boost::json::object to_json(const Model& m);
[[nodiscard]] boost::json::object to_json(const WorkerKind& w);
[[nodiscard]] boost::json::object to_json(const WorkerFacts& w);
[[nodiscard]] boost::json::object to_json(const Capabilities& c);
[[nodiscard]] boost::json::object to_json(const HiveBeat& b);
/// Errors: kInvalidRequest naming the field that is missing, too large or of another kind.
[[nodiscard]] Result<Capabilities> read_capabilities(const boost::json::value& v);
[[nodiscard]] Result<HiveBeat> read_beat(const boost::json::value& v);

}  // namespace llorch::colony
