// Any bytes as a SafeTensors file.
#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto tensors = llorch::parse_safetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (!tensors) return 0;
  volatile std::uint8_t sum = 0;
  for (const llorch::TensorView& t : *tensors)
    if (!t.data.empty())
      sum = sum + static_cast<std::uint8_t>(t.data.front()) + static_cast<std::uint8_t>(t.data.back());
  return 0;
}
