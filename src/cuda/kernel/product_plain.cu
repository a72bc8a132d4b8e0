// Products with plain weights.
#include "cuda/kernel/plain_weights.h"

namespace llorch::cuda {

template<>
void multiply_type<DType::kF32>(StreamHandle stream, const ProductArgs& args) {
  multiply_as<FloatWeights>(stream, args);
}
template<>
void multiply_type<DType::kF16>(StreamHandle stream, const ProductArgs& args) {
  multiply_as<PairWeights<DType::kF16>>(stream, args);
}
template<>
void multiply_type<DType::kBF16>(StreamHandle stream, const ProductArgs& args) {
  multiply_as<PairWeights<DType::kBF16>>(stream, args);
}

}  // namespace llorch::cuda
