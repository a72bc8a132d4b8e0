// Any bytes as a NumPy array.
#include "format/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto array = llorch::parse_npy({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (!array || array->data.empty()) return 0;
  volatile std::uint8_t sum = static_cast<std::uint8_t>(array->data[array->values() * array->item_bytes - 1]);
  (void)sum;
  return 0;
}
