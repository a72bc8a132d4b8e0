#include "engine/adapters.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/limits.h"
#include "cache/pages.h"

namespace llorch {
namespace {

PageHash with_floats(const PageHash& hash, const std::vector<float>& values) {
  std::vector<std::int32_t> bits(values.size());
  std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  return chain_hash(hash, bits);
}

std::string identity_of(const Adapter& adapter, const Graph& graph) {
  PageHash hash = root_hash("adapter", "1");
  for (const LowRankPair& p : adapter.pairs) {
    const TensorUse& use = graph.tensors[static_cast<std::size_t>(p.weight.index)];
    const PageHash name = root_hash(
        use.tensor, fmt::format("{} {} {} {} {} {}", use.first, use.run, use.step, p.rank, p.inputs, p.outputs));
    std::array<std::int32_t, 9> about{};
    std::memcpy(about.data(), name.data(), name.size());
    about.back() = std::bit_cast<std::int32_t>(p.scale);
    hash = with_floats(with_floats(chain_hash(hash, about), p.a), p.b);
  }
  std::string hex;
  for (const std::uint8_t byte : hash) hex += fmt::format("{:02x}", byte);
  return hex;
}

}  // namespace

Result<std::vector<Adapter>> read_adapters(std::span<const arch::AdapterRef> refs, const WeightSource& base,
                                           const Graph& graph) {
  if (refs.size() > limits::kAdaptersMax)
    return fail(ErrorCode::kInvalidRequest, "{} adapters, at most {} are possible", refs.size(), limits::kAdaptersMax);
  std::vector<Adapter> adapters;
  for (const arch::AdapterRef& ref : refs) {
    if (std::ranges::find(adapters, ref.name, &Adapter::name) != adapters.end())
      return fail(ErrorCode::kInvalidRequest, "two adapters are called '{}'", ref.name);
    LLORCH_TRY(Adapter adapter, arch::read_adapter(ref, base, graph));
    adapter.identity = identity_of(adapter, graph);
    adapters.push_back(std::move(adapter));
  }
  return adapters;
}

}  // namespace llorch
