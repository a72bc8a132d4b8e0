#include "device/plan.h"

namespace llorch {

const char* text(Place place) {
  switch (place) {
    case Place::kAttentionInput: return "the attention's input is";
    case Place::kQueries: return "queries are";
    case Place::kKeys: return "keys are";
    case Place::kValues: return "values are";
    case Place::kAttentionOutput: return "the attention's output is";
    case Place::kMlpInput: return "the MLP's input is";
    case Place::kInsideMlp: return "values inside the MLP are";
    case Place::kConvolution: return "the convolution's output is";
    case Place::kRecurrence: return "the recurrence's output is";
    case Place::kRouter: return "the router's logits are";
    case Place::kInsideExpert: return "values inside an expert are";
    case Place::kLastNorm: return "the last norm's output is";
  }
  return "values are";
}

Status StepResult::finite_rows(std::size_t first, std::size_t count) const {
  for (const RowFault& fault : faults.subspan(first, count)) {
    if (!fault.found) continue;
    return fail(ErrorCode::kInferenceFailed, "{}: {} not finite, or too large to compute with",
                fault.layer < layers ? fmt::format("layer {}", fault.layer) : "after the last layer",
                text(fault.place));
  }
  return {};
}

}  // namespace llorch
