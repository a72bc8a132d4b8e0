#include "cuda/kernel/attention_kernel.h"

namespace llorch::cuda {

template<>
void attend_form<KvPrecision::kF16>(StreamHandle stream, const Step& step, const KvLayer& layer,
                                    const AttendCall& call) {
  attend_as<KvPrecision::kF16>(stream, step, layer, call);
}

}  // namespace llorch::cuda
