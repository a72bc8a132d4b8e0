// Takes tensors from a source by name, checks their shapes against the family's list, hands them to the backend, and at
// the end insists that every required tensor was there and that none was left unused (E-04).
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/work_limit.h"
#include "format/weight_source.h"
#include "nn/decoder.h"

namespace llorch::arch {

/// How Hugging Face stores what GGUF calls by `name`.
enum class HfLayout {
  kSame,
  kTransposed,   // Conv1D: [in][out]
  kRotaryPairs,  // rows of a head reordered so that (i, i + half) become neighbours
  kGateOfPairs,  // gpt-oss experts: even columns of [expert][in][2 ffn], transposed
  kUpOfPairs,    // odd columns
  kGateBias,     // even values of [expert][2 ffn]
  kUpBias,
  kTransposedEach,  // [expert][in][out] -> [expert][out][in]
};

/// What random weights of this tensor look like when a model is synthesised.
enum class SynthKind { kMatrix, kGain, kBias, kFactors };

struct TensorSpec {
  std::string name;                 // GGUF's
  std::vector<std::uint64_t> dims;  // dims[0] is contiguous
  std::string hf;                   // Hugging Face's; empty: not stored there
  SynthKind synth = SynthKind::kMatrix;
  bool required = true;
  HfLayout layout = HfLayout::kSame;
  int heads = 0;  // for kRotaryPairs
};

/// How far a model is loaded. Layers count when they are whole.
struct LoadProgress {
  std::size_t tensors_loaded = 0, tensors_total = 0;
  int layers_loaded = 0, layers_total = 0;
};
using ProgressSink = std::function<void(const LoadProgress&)>;

class Loader {
 public:
  Loader(WeightSource& source, Backend& backend, CancelFlag cancelled = nullptr)
      : source_(source), backend_(backend), cancelled_(std::move(cancelled)) {}
  ProgressSink progress;
  int layers = 0;  // of the model, for progress

  /// The source must hold every required tensor with its shape, and nothing that is not listed.
  [[nodiscard]] Status check(const std::vector<TensorSpec>& specs);

  [[nodiscard]] bool has(const std::string& name) const { return source_.find(name) != nullptr; }
  [[nodiscard]] Backend& backend() const { return backend_; }

  /// "<stem>.weight" as a matrix, and "<stem>.bias" where it is there.
  [[nodiscard]] Result<Linear> linear(const std::string& stem);
  /// Rows first..first+count of the same.
  [[nodiscard]] Result<Linear> linear_rows(const std::string& stem, std::uint64_t first, std::uint64_t count);
  /// "<stem>.weight", and "<stem>.bias" for a LayerNorm.
  [[nodiscard]] Result<Norm> norm(const std::string& stem, float eps);
  [[nodiscard]] Result<std::unique_ptr<Weight>> table(const std::string& name);
  [[nodiscard]] Result<std::vector<float>> values(const std::string& name);
  /// The output head: "output.weight", or the token embedding where the file has none.
  [[nodiscard]] Result<Linear> head();

  /// Every tensor was used, and its file is what it was when it was opened.
  [[nodiscard]] Status finish();

 private:
  [[nodiscard]] Result<const TensorView*> use(const std::string& name);
  [[nodiscard]] Result<std::unique_ptr<Weight>> matrix(const TensorView& whole, std::uint64_t first,
                                                       std::uint64_t count);

  /// How tensors are read while loading: fails once the flag is set.
  [[nodiscard]] Backend::Read reader() const;

  WeightSource& source_;
  Backend& backend_;
  CancelFlag cancelled_;
  std::set<std::string> used_;
  int layer_ = -1;  // that is being loaded
};

}  // namespace llorch::arch
