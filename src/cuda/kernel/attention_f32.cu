#include "cuda/kernel/attention_kernel.h"

namespace llorch::cuda {

template<>
void attend_form<KvPrecision::kF32>(StreamHandle stream, const Step& step, const KvLayer& layer,
                                    const AttendCall& call) {
  attend_as<KvPrecision::kF32>(stream, step, layer, call);
}
template<>
std::size_t attend_form_bytes<KvPrecision::kF32>(int padded) {
  return static_cast<std::size_t>(AttendTile<KvPrecision::kF32, 1>::bytes(padded));
}

}  // namespace llorch::cuda
