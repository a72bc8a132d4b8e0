#include "cuda/kernel/attention_kernel.h"

namespace llorch::cuda {

template<>
void attend_form<KvPrecision::kQ8_0>(StreamHandle stream, const Step& step, const KvLayer& layer,
                                     const AttendCall& call) {
  attend_as<KvPrecision::kQ8_0>(stream, step, layer, call);
}
template<>
std::size_t attend_form_bytes<KvPrecision::kQ8_0>(int padded) {
  return static_cast<std::size_t>(AttendTile<KvPrecision::kQ8_0, 1>::bytes(padded));
}

}  // namespace llorch::cuda
