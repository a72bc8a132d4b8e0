// What a family says of each tensor that its files may hold: its name and shape in both file formats.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

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
  kEach,            // a tensor for each expert; its number stands for {} in the name
  kRuns,            // by HfRuns
};

/// A tensor whose values are some of a stored one's, or all in another order: in runs, run i of which is stored as run
/// `from(i)`.
struct HfRuns {
  std::vector<std::uint64_t> dims;  // of the stored tensor; dims[0] is contiguous
  std::uint64_t run = 0;            // values
  std::function<std::uint64_t(std::uint64_t run)> from;
};

/// What GGUF's converter makes of stored values, in float32.
enum class HfValue { kStored, kPlusOne, kMinusExp };

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
  HfRuns runs{};  // for kRuns
  HfValue value = HfValue::kStored;
};

}  // namespace llorch::arch
