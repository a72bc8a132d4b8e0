// Low-rank adapters (LoRA) from files, for a model that is open: a GGUF file, or a folder as PEFT writes it
// (adapter_config.json, adapter_model.safetensors).
//
// A PEFT folder names modules of Hugging Face's model; a family's list of tensors (arch/tensor_spec.h) says which
// tensors these are here, and how their rows and columns lie; the rows of B and columns of A follow. What an adapter
// has beyond pairs for plain matrices (DoRA, biases, embeddings, whole modules, experts, start values that change the
// base) is refused by name. Errors: kModelLoadFailed, naming adapter, tensor and what is wrong; kIo, kModelChanged.
// Sources: the GGUF format's adapter.* keys; PEFT's adapter_config.json; rank-stabilised scales: Kalajdzievski 2023.
#pragma once

#include <string>
#include <vector>

#include "format/weight_source.h"
#include "model/adapter.h"

namespace llorch::arch {

/// Where an adapter is, what it is called, and how strongly it is to count.
struct AdapterRef {
  std::string name, path;
  float scale = 1;
};

/// "NAME=PATH" or "NAME=PATH:SCALE"; NAME: 1 to 64 of A-Z a-z 0-9 _ - . ; what follows the last colon is a scale where
/// it is a number. Errors: kInvalidRequest.
[[nodiscard]] Result<AdapterRef> parse_adapter_ref(const std::string& text);

/// The adapter, bound to the matrices of `graph`, which was read from `base`; without an identity.
[[nodiscard]] Result<Adapter> read_adapter(const AdapterRef& ref, const WeightSource& base, const Graph& graph);

/// A pair as a file has it, for a tensor of the base model under GGUF's name and in GGUF's order.
struct StoredPair {
  std::string tensor;
  std::string name;  // by which the file calls it: a tensor, or a module
  std::uint64_t rank = 0, inputs = 0, outputs = 0;
  std::vector<float> a, b;  // (rank, inputs), (outputs, rank)
  double scale = 1;         // of the file alone
};
/// Whether it is for this matrix of the model.
[[nodiscard]] Status check_shape(const StoredPair& pair, const TensorView& whole);
[[nodiscard]] Result<std::vector<StoredPair>> read_gguf_pairs(const std::string& path, const WeightSource& base);
[[nodiscard]] Result<std::vector<StoredPair>> read_peft_pairs(const std::string& folder, const WeightSource& base);

}  // namespace llorch::arch
