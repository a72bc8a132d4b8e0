// Flags that every command with a model takes.
#pragma once

#include "command_line.h"
#include "engine/loaded_model.h"
#include "worker/backend.h"
#include "worker/manifest.h"

namespace llorch::worker {

/// Said where --packed-cache is given and has no effect.
inline constexpr const char* kNoPackedCache =
    "--packed-cache has no effect: weights are packed for the GPU as they are loaded, and kept in its memory alone";

/// What --kv-type says. Errors: kInvalidRequest.
[[nodiscard]] inline Result<KvPrecision> kv_precision(const std::string& name) {
  if (name == "f32") return KvPrecision::kF32;
  if (name == "f16") return KvPrecision::kF16;
  if (name == "q8_0") return KvPrecision::kQ8_0;
  return fail(ErrorCode::kInvalidRequest, "--kv-type must be f32, f16 or q8_0, not '{}'", name);
}

/// The reverse.
[[nodiscard]] inline const char* kv_name(KvPrecision precision) {
  return precision == KvPrecision::kF32 ? "f32" : precision == KvPrecision::kF16 ? "f16" : "q8_0";
}

inline void add_device(CLI::App& command, ModelOptions& options) {
  command.add_option("--device,--gpu-device", options.cuda_index, "which GPU (the CPU has the one device 0)");
}

struct ModelFlags {
  ModelOptions options;
  std::string manifest;
  std::vector<std::string> adapters;
  bool as_json = false;
  bool by_reference = false;  // computed by the CPU's reference device, whatever the program is built for

  void add(CLI::App& command) {
    command
        .add_option("-m,--model", options.path,
                    "GGUF file, SafeTensors directory, builtin:haiku, or random:SHAPE:TYPE (random weights, for speed "
                    "alone: random:qwen3-0.6b:Q4_K_M; shapes: llorch-gguf synth --help)")
        ->required();
    command.add_option("--manifest", manifest, "refuse a model whose manifest (`manifest -m MODEL`) is another");
    command.add_option("--tokenizer", options.tokenizer,
                       "use the tokenizer of this tokenizer.json or GGUF file instead");
    command.add_option("--threads", options.threads, "compute threads (default: one per core)")
        ->check(CLI::Range(1, 1024));
    command
        .add_option("--ctx", options.context,
                    "positions of context (default: the model's, at most 4096; where its files say how long a text may "
                    "be, that)")
        ->check(CLI::Range(1, 1 << 24));
    command
        .add_option(
            "--isa", options.isa,
            backend().cuda
                ? "of CPU workers: refused here"
                : "reference, scalar, avx2, avx512, amx, neon, neon_i8mm, canonical: without tiles (default: the best)")
        ->envname("LLORCH_ISA");
    command
        .add_option("--packed-cache", options.packed_cache,
                    backend().cuda
                        ? "of CPU workers: has no effect here"
                        : "keep packed weights in this folder: a second start maps them (as large as the models)")
        ->envname("LLORCH_PACKED_CACHE");
    add_device(command, options);
    add_adapters(command);
    command.add_flag("--json", as_json, "results and errors as JSON");
  }
  void add_adapters(CLI::App& command) {
    command
        .add_option("--lora", adapters,
                    "NAME=PATH[:SCALE]: a LoRA adapter of the model, a GGUF file or a PEFT folder (may be repeated)")
        ->allow_extra_args(false);
  }
  /// With the adapters. Errors: kInvalidRequest for one that is no NAME=PATH[:SCALE], and for a device that the CPU
  /// does not have.
  [[nodiscard]] Result<ModelOptions> model_options() const {
    if (options.cuda_index != 0 && !backend().cuda)
      return fail(ErrorCode::kInvalidRequest, "--device {}: the CPU has the one device 0", options.cuda_index);
    ModelOptions out = options;
    if (by_reference)
      out.isa = "reference";
    else
      out.products = backend().products, out.cuda = backend().cuda;
    if (out.cuda) out.packed_cache.clear();
    for (const std::string& text : adapters) {
      LLORCH_TRY(out.adapters.emplace_back(), arch::parse_adapter_ref(text));
    }
    return out;
  }
  /// The number of the adapter that a command which runs one text uses: the only one. Errors: kInvalidRequest.
  [[nodiscard]] Result<int> one_adapter() const {
    if (adapters.size() > 1) return fail(ErrorCode::kInvalidRequest, "--lora: this command uses one adapter at most");
    return static_cast<int>(adapters.size()) - 1;
  }
  /// Loads with a progress bar.
  [[nodiscard]] Result<LoadedModel> load() const {
    LLORCH_OK(check_manifest(options.path, manifest));
    if (backend().cuda && !options.packed_cache.empty()) show(stderr, "%s\n", kNoPackedCache);
    cli::ProgressBar bar("loading");
    LLORCH_TRY(ModelOptions with_bar, model_options());
    with_bar.progress = [&](const LoadProgress& p) { bar.update(p.tensors_loaded, p.tensors_total); };
    return LoadedModel::load(with_bar);
  }
};

}  // namespace llorch::worker
