// A family of models: what its metadata means, which tensors it has, and how they are put together.
//
// One file arch/<name>.cc defines `const Architecture arch_<name>`; CMake makes the table from the folder, so that a
// new family is one new file. Both file formats, the synthesiser, the converter and the loader work from the same
// tensor list.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/builder.h"
#include "arch/hyper.h"
#include "format/json.h"
#include "model/graph.h"
#include "model/memory.h"

namespace llorch::arch {

struct Architecture {
  std::string_view name;                   // general.architecture
  std::vector<std::string_view> hf_types;  // model_type values of config.json
  std::vector<std::string_view> keys;      // metadata keys of this family beyond the common ones
  /// Checks and completes the hyper-parameters (fields that only this family has).
  Status (*refine)(const Metadata&, Hyper&);
  /// Every tensor that a file of this family may hold.
  std::vector<TensorSpec> (*tensors)(const Hyper&);
  Result<Graph> (*assemble)(const Hyper&, Builder&);
  /// Translates config.json into metadata.
  Status (*from_hf)(const json::object& config, Metadata&);
  /// Suffixes of stored buffers that are no weights (causal masks, inverse frequencies).
  std::vector<std::string_view> hf_buffers;
  /// Where families share a model_type: whether a config.json is one of this family.
  bool (*hf_matches)(const json::object& config) = nullptr;
};

/// All families, and one by GGUF name or by Hugging Face's config.json. Errors: kModelLoadFailed naming the unknown
/// one.
[[nodiscard]] const std::vector<const Architecture*>& all();
[[nodiscard]] Result<const Architecture*> find(std::string_view name);
[[nodiscard]] Result<const Architecture*> find_hf(const json::object& config);

/// Hyper-parameters of a source whose general.architecture is known; vocabulary size from token_embd.weight or the
/// tokenizer.
[[nodiscard]] Result<Hyper> read(const Architecture& family, const Metadata& metadata, std::uint64_t vocab);

/// Where nobody says how many positions a run may have: the model's context up to this many, so that a KV cache of a
/// long-context model fits a small machine.
inline constexpr int kContextDefault = 4096;

/// Positions of a run of this model where nobody says how many: its own, at most kContextDefault, and no more than it
/// makes vectors of. Errors: kModelLoadFailed for an unknown family and for numbers out of range.
[[nodiscard]] Result<int> default_context(const Metadata& metadata);
/// The same without a bound of ours.
[[nodiscard]] Result<int> own_context(const Metadata& metadata);

/// The size of a model's tokenizer, of which `vocab` tokens are computed. Where the metadata have none, because a
/// folder keeps it in tokenizer.json, as many merges as tokens: byte-pair encoding has hardly more.
[[nodiscard]] VocabularySize vocabulary_size(const Metadata& metadata, int vocab);

/// The model of a source, as data. Every tensor of the source must be used. `context`: positions that the run will use
/// at most; 0: what the model can. Errors: kModelLoadFailed, kContextLengthExceeded, kIo.
[[nodiscard]] Result<Graph> read_graph(WeightSource& source, int context);

}  // namespace llorch::arch
