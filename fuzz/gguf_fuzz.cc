// Any bytes as a GGUF file: header, tensors, tokenizer, hyper-parameters and, where it gets that far, a whole load.
#include "device/cpu/cpu_device.h"
#include "engine/loaded_model.h"
#include "format/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch;
  const auto file = GgufFile::from_memory({reinterpret_cast<const std::byte*>(data), size});
  if (!file) return 0;
  volatile std::uint8_t sum = 0;
  for (const TensorView& t : (*file)->tensors())
    if (!t.data.empty())
      sum = sum + static_cast<std::uint8_t>(t.data.front()) + static_cast<std::uint8_t>(t.data.back());
  if (const auto tokenizer = Tokenizer::from_gguf((*file)->metadata())) {
    const auto ids = (*tokenizer)->encode("Hello, wörld 12\n", {.add_special = true, .parse_special = true});
    if (ids) (void)(*tokenizer)->decode(*ids, true);
  }
  static const auto device = make_cpu_device("scalar", 1).value();
  if (auto graph = arch::read_graph(**file, 0)) (void)Model::load(*device, **file, std::move(*graph), {.rows_max = 1});
  return 0;
}
