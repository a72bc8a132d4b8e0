// Kinds of steps inside a model's parts, as numbers: what families choose and devices compute.
#pragma once

namespace llorch {

/// What stands between the products of a feed-forward.
struct Activation {
  enum class Kind {
    kSiluMul,  // silu(gate) * up
    kGelu,     // gelu(gate), tanh form; up is not used
    kGeluMul,  // gelu(gate) * up
    kGeluErf,  // the same by the error function
    kGeluErfMul,
    kReluSquared,    // relu(gate)^2; up is not used
    kSwigluClamped,  // gpt-oss: clamps, then gate * sigmoid(alpha gate) * (up + 1)
  };
  Kind kind = Kind::kSiluMul;
  float limit = 0, alpha = 0;  // of kSwigluClamped
  [[nodiscard]] bool gated() const {
    return kind != Kind::kGelu && kind != Kind::kGeluErf && kind != Kind::kReluSquared;
  }
};

/// How tokens find their experts in a mixture.
struct Routing {
  enum class Score { kSoftmaxOfChosen, kSoftmaxOfAll, kSigmoid };
  Score score = Score::kSoftmaxOfChosen;
  int active = 0;           // experts of a token; of equal scores the lower index
  bool normalize = false;   // the weights of the chosen are divided by their sum (kSoftmaxOfAll, kSigmoid)
  float normalize_eps = 0;  // added to that sum (kSigmoid)
  float scale = 1;          // of the weights
  bool of_input = false;    // the weight multiplies what the expert sees, not what it gives (llama 4)
  // Experts are chosen from the best groups alone; a group is as good as its two best experts together.
  int groups = 1, groups_active = 1;
};

}  // namespace llorch
