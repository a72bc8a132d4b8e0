#include "format/weight_source.h"

namespace llorch {

const TensorView* WeightSource::find(std::string_view name) const {
  for (const TensorView& t : tensors_)
    if (t.name == name) return &t;
  return nullptr;
}

}  // namespace llorch
