// Flags that every command with a model takes.
#pragma once

#include "command_line.h"
#include "engine/loaded_model.h"
#include "worker/backend.h"
#include "worker/manifest.h"

namespace llorch::worker {

struct ModelFlags {
  ModelOptions options;
  std::string manifest;
  bool as_json = false;

  void add(CLI::App& command) {
    command.add_option("-m,--model", options.path, "GGUF file, SafeTensors directory, or builtin:haiku")->required();
    command.add_option("--manifest", manifest, "refuse a model whose manifest (`manifest -m MODEL`) is another");
    command.add_option("--tokenizer", options.tokenizer,
                       "use the tokenizer of this tokenizer.json or GGUF file instead");
    command.add_option("--threads", options.threads, "compute threads (default: one per core)")
        ->check(CLI::Range(1, 1024));
    command.add_option("--ctx", options.context, "positions of context (default: the model's, at most 4096)")
        ->check(CLI::Range(1, 1 << 24));
    command
        .add_option(
            "--isa", options.isa,
            "reference, scalar, avx2, avx512, amx, neon, neon_i8mm, canonical: without tiles (default: the best)")
        ->envname("LLORCH_ISA");
    command
        .add_option("--packed-cache", options.packed_cache,
                    "keep packed weights in this folder: a second start maps them (as large as the models)")
        ->envname("LLORCH_PACKED_CACHE");
    command.add_flag("--json", as_json, "results and errors as JSON");
  }
  /// Loads with a progress bar.
  [[nodiscard]] Result<LoadedModel> load() const {
    LLORCH_OK(check_manifest(options.path, manifest));
    cli::ProgressBar bar("loading");
    ModelOptions with_bar = options;
    with_bar.products = backend().products;
    with_bar.progress = [&](const LoadProgress& p) { bar.update(p.tensors_loaded, p.tensors_total); };
    return LoadedModel::load(with_bar);
  }
};

}  // namespace llorch::worker
