// A model ready to answer: source, tokenizer, device and model, kept together in the order in which they need each
// other.
//
// References: a GGUF file, a SafeTensors directory, `builtin:<name>` (a model that is compiled into the program), or
// `random:SHAPE:TYPE` (random weights of a published model's shape: arch/random_source.h).
// Errors: kModelLoadFailed, kModelChanged, kIo, kDeviceNotFound, kInsufficientMemory, kContextLengthExceeded,
// kCancelled; kInsufficientVram where the model would not fit: before any weight is loaded.
#pragma once

#include <memory>
#include <string>

#include "arch/adapter.h"
#include "arch/architecture.h"
#include "device/open.h"
#include "forward/model.h"
#include "text/tokenizer.h"

namespace llorch {

struct ModelOptions {
  std::string path;
  std::string tokenizer;  // a tokenizer.json or a GGUF file whose tokenizer replaces the model's own; empty: none
  std::string isa;        // empty: the best; "reference" for the slow truth
  const ProductProvider* products = nullptr;  // matrix products of a library; null: the kernels' own
  CudaOpener cuda = nullptr;                  // opens the CUDA device that computes; null: the CPU
  int cuda_index = 0;
  int threads = 0;  // 0: one per core
  int context = 0;  // 0: arch::default_context()
  int rows_max = 512;
  int sequences = 0;  // as in Model::Options
  /// Makes a cache for the model and rehearses its steps (Engine::take_memory()): on a device whose memory is its own,
  /// first to know how much they and the model will take. Null: the model alone is counted.
  std::function<Result<std::unique_ptr<Cache>>(Model&)> take_memory;
  std::string packed_cache;  // a folder for packed weights, so that a second start maps them; empty: none
  std::function<void(const Result<std::string>&)> cache_written;  // as in device/cpu/panel_cache.h
  std::vector<arch::AdapterRef> adapters;                         // the model's, by their place here
  ProgressSink progress;
  CancelFlag cancelled;  // true ends loading with kCancelled
  /// Puts another device round the one that was made, for profiles.
  std::function<std::unique_ptr<Device>(std::unique_ptr<Device>)> decorate;
};

struct LoadedModel {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Device> device;
  std::unique_ptr<Model> model;
  std::string reference;  // as asked for, without directories
  /// Differs where the model's files do, or how it computes positions: what was computed with one is not the other's.
  std::string identity;
  /// Tells models apart, on any machine: 8 hexadecimal digits of a hash over a part of each tensor.
  std::string fingerprint;
  /// Bytes of the device's own memory that were predicted before loading; 0: its memory is the host's.
  std::int64_t predicted_bytes = 0;
  bool from_cache = false;  // the weights were mapped, packed, from the folder of ModelOptions::packed_cache

  [[nodiscard]] static Result<LoadedModel> load(const ModelOptions& options);

 private:
  [[nodiscard]] static Result<LoadedModel> load_unguarded(const ModelOptions& options);
};

[[nodiscard]] Result<std::unique_ptr<WeightSource>> open_model(const std::string& reference,
                                                               CancelFlag cancelled = nullptr);
[[nodiscard]] Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& reference,
                                                                const WeightSource& source);

}  // namespace llorch
