#include "cuda/kernel/attention_kernel.h"

namespace llorch::cuda {

template<>
std::size_t attend_form_shared_bytes<KvPrecision::kF32>(const KvLayer& layer) {
  return attend_shared_bytes_as<KvPrecision::kF32>(layer);
}
template<>
void attend_form<KvPrecision::kF32>(StreamHandle stream, const Step& step, const KvLayer& layer,
                                    const AttendCall& call) {
  attend_as<KvPrecision::kF32>(stream, step, layer, call);
}

}  // namespace llorch::cuda
