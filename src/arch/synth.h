// Models with random weights of a real (or tiny) shape: for tests, goldens and benchmarks that need no download.
//
// The generator is documented here and repeated in Python by tools/parity/generator.py, bit for bit:
//   key     = mix64(seed ^ fnv1a64(tensor name))
//   u       = mix64(key + i * 0x9e3779b97f4a7c15) >> 40            24 bits, for element i in storage order
//   t       = float(u) * 2^-23 - 1                                  exact in float, in [-1, 1)
//   matrix  = t * float(sqrt(3 / columns))    gain = 1 + t / 4      bias = t / 8      factors = 1 + (t + 1) / 2
//   rates of decay (arch/tensor_spec.h, kMinusExp): -exp(t)
// followed by the block format's own quantize().
#pragma once

#include <functional>

#include "arch/architecture.h"

namespace llorch::arch {

/// Types of which a model's matrices get several: the base of its name, and more bits where they count.
inline constexpr std::string_view kMixes[] = {"Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M"};

/// What is made: a family, its hyper-parameters as GGUF's keys and as they are read.
struct Shape {
  const Architecture* family;
  Metadata metadata;
  Hyper hyper;
  bool tied = false;  // the model has no output head of its own
};

/// Names of shapes: small ones for tests and published models (arch/published.h).
[[nodiscard]] std::vector<std::string_view> shape_names();

/// The values of one tensor.
void synth_values(std::uint64_t seed, const TensorSpec& spec, std::uint64_t first, std::span<float> out);

struct SynthRequest {
  std::string shape;   // a name, or the path of a config.json
  std::string fields;  // a JSON object over the fields of the config.json, where the shape is stated by one
  std::string type;    // F32, Q4_0, ..., or one of kMixes
  std::uint64_t seed = 1;
  const Metadata* vocab = nullptr;  // its tokenizer.* keys are copied and its token count is used
  bool optional_tensors = true;     // also write an untied output head
  bool quick = false;  // beyond a matrix's first rows, their blocks again in random order: for speed and memory alone
};

/// Errors: kInvalidRequest for an unknown shape and for fields where there is no config.json; those of read_hf().
[[nodiscard]] Result<Shape> find_shape(const SynthRequest& request);

/// All of a model but its values.
struct SynthModel {
  struct Tensor {
    TensorSpec spec;
    DType type;
  };
  Metadata metadata;
  std::vector<Tensor> tensors;
};
/// Errors: those of find_shape(); kInvalidRequest for an unknown type.
[[nodiscard]] Result<SynthModel> plan_synth(const SynthRequest& request);
/// The bytes of a tensor's rows from `first` on, as many as `out` holds.
void synth_rows(std::uint64_t seed, const SynthModel::Tensor& tensor, std::uint64_t first, std::span<std::byte> out);

/// Writes the model to `path`. Errors: kInvalidRequest for an unknown shape or type; kIo.
[[nodiscard]] Status synthesize(const SynthRequest& request, const std::string& path);

/// Which type a tensor gets when a model is quantized to `type` (a DType name or a mix name). One-dimensional tensors
/// stay F32; rows that a K format's block does not divide fall back to a 32-value format of the next larger size.
/// Errors: kInvalidRequest.
struct QuantizeFacts {
  int layers = 0;
  bool tied = false;     // token_embd is the output head too
  bool experts = false;  // a mixture: MXFP4 then goes to the experts alone, the rest to Q8_0
};
[[nodiscard]] Result<DType> choose_type(std::string_view type, const std::string& tensor,
                                        std::span<const std::uint64_t> dims, const QuantizeFacts& facts);

}  // namespace llorch::arch
