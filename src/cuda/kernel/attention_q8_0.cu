#include "cuda/kernel/attention_kernel.h"

namespace llorch::cuda {

template<>
std::size_t attend_form_shared_bytes<KvPrecision::kQ8_0>(const KvLayer& layer) {
  return attend_shared_bytes_as<KvPrecision::kQ8_0>(layer);
}
template<>
void attend_form<KvPrecision::kQ8_0>(StreamHandle stream, const Step& step, const KvLayer& layer,
                                     const AttendCall& call) {
  attend_as<KvPrecision::kQ8_0>(stream, step, layer, call);
}

}  // namespace llorch::cuda
