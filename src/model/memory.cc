#include "model/memory.h"

#include <algorithm>
#include <set>

#include "base/checked.h"
#include "base/limits.h"

namespace llorch {

void Widths::take(const SoftmaxAttention& a) {
  query = std::max<std::int64_t>(query, a.query_width()), key = std::max<std::int64_t>(key, a.key_width());
  if (a.gate.weight.there()) extra = std::max(extra, a.gate.outputs);
}

void Widths::take(const LatentAttention& a) {
  const std::int64_t of_heads = std::int64_t{a.heads} * std::max({a.key_dim(), a.plain + a.turning, a.value_dim});
  query = std::max(query, of_heads), key = std::max<std::int64_t>(key, a.key_dim());
  heads = std::max({heads, of_heads, a.query_down.outputs});
}

void Widths::take(const GatedDeltaNet& m) {
  heads = std::max<std::int64_t>(heads, m.channels()), extra = std::max<std::int64_t>(extra, m.inner());
  query = std::max<std::int64_t>(query, m.inner());
  key = std::max(key, 2 * std::int64_t{m.value_heads});
}

void Widths::take(const ShortConvolution& m) {
  heads = std::max<std::int64_t>(heads, m.channels), extra = std::max<std::int64_t>(extra, m.channels);
}

void Widths::take(const Mamba2& m) {
  heads = std::max<std::int64_t>(heads, m.channels()), extra = std::max<std::int64_t>(extra, m.inner());
  query = std::max<std::int64_t>(query, m.inner());
  key = std::max<std::int64_t>(key, m.heads);
}

void Widths::take(const Mlp& m) { inside = std::max(inside, m.up.outputs); }

void Widths::take(const Moe& m, std::int64_t dim) {
  inside = std::max(inside, m.up.outputs), experts = std::max(experts, m.router.outputs);
  active = std::max<std::int64_t>(active, m.routing.active);
  if (m.shared) take(*m.shared);
  if (m.shared || m.router_norm || m.input_norm) extra = std::max(extra, dim);
}

Widths::Widths(const Graph& graph) {
  if (graph.layer_inputs) layer_inputs = graph.layer_inputs->projection.outputs;
  for (const Block& block : graph.blocks) {
    std::visit([this](const auto& mixer) { take(mixer); }, block.mixer);
    if (const auto* mlp = std::get_if<Mlp>(&block.feed_forward)) take(*mlp);
    if (const auto* moe = std::get_if<Moe>(&block.feed_forward)) take(*moe, graph.dim);
    parallel |= block.parallel;
    if (block.layer_input) inside = std::max(inside, block.layer_input->gate.outputs);
  }
}

std::int64_t page_bytes(const Graph& graph, KvPrecision precision, int window) {
  std::uint64_t of_position = 0;  // each layer is bounded by limits.h: no overflow
  for (const CacheLayer& layer : graph.cache_layers()) {
    if (layer.window != window) continue;
    const auto dim = static_cast<std::uint64_t>(layer.head_dim + 31) / 32 * 32;
    const std::uint64_t item = precision == KvPrecision::kF32   ? dim * 4
                               : precision == KvPrecision::kF16 ? dim * 2
                                                                : dim + dim / 32 * 2;
    of_position += 2 * static_cast<std::uint64_t>(layer.kv_heads) * item;
  }
  return static_cast<std::int64_t>(of_position) * limits::kKvPagePositions;
}

std::int64_t default_pages(const Graph& graph, std::int64_t positions, std::int64_t sequences) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 60;
  const std::int64_t each = (positions + limits::kKvPagePositions - 1) / limits::kKvPagePositions;
  const auto all = checked_mul(static_cast<std::uint64_t>(each), static_cast<std::uint64_t>(sequences));
  const auto whole = static_cast<std::int64_t>(std::min(all.value_or(kMost), kMost));
  constexpr std::int64_t kPoolEach = kPoolPositionsEach / limits::kKvPagePositions;
  const std::int64_t pool =
      std::min(whole / 4, std::min(sequences, static_cast<std::int64_t>(kMost) / kPoolEach) * kPoolEach);
  return page_bytes(graph, KvPrecision::kF16) == 0 ? whole : std::max(each, pool);
}

std::int64_t pages_within(const Graph& graph, std::int64_t bytes, std::int64_t sequences, std::int64_t rows,
                          KvPrecision precision) {
  std::int64_t fit = 1, most = 1 << 24;
  if (page_bytes(graph, precision) == 0) most = std::min(most, default_pages(graph, graph.context, sequences));
  while (fit < most) {  // beyond `most` nothing fits
    const std::int64_t middle = fit + (most - fit + 1) / 2;
    const auto need = cache_bytes(graph, middle, sequences, rows, precision);
    if (need && *need <= bytes)
      fit = middle;
    else
      most = middle - 1;
  }
  return fit;
}

std::int64_t window_pages(int window, std::int64_t pages, std::int64_t sequences, std::int64_t rows) {
  constexpr std::int64_t kPage = limits::kKvPagePositions;
  const std::int64_t seen = (window + kPage - 1) / kPage + 1;  // from any position
  const std::int64_t most = 1 + pages / (2 * seen + 1);        // sequences beyond that do not change the result
  return std::min(pages, std::min(sequences, most) * (2 * seen + 1) + rows / kPage);
}

Result<std::int64_t> cache_bytes(const Graph& graph, std::int64_t pages, std::int64_t sequences, std::int64_t rows,
                                 KvPrecision precision) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 60;
  std::uint64_t bytes = 0;
  bool fits = pages >= 0 && sequences >= 0;
  const auto add = [&](std::int64_t count, std::int64_t each) {
    const auto some = checked_mul(static_cast<std::uint64_t>(count), static_cast<std::uint64_t>(each));
    const auto sum = some ? checked_add(bytes, *some) : std::nullopt;
    fits = fits && sum && *sum <= kMost;
    bytes = sum.value_or(0);
  };
  for (const int window : graph.cache_windows())
    add(window == 0 ? pages : window_pages(window, pages, sequences, rows), page_bytes(graph, precision, window));
  for (const SlotLayer& layer : graph.slot_layers())
    add(sequences, 4 * (layer.floats() + kCheckpointsEach * layer.checkpoint_floats()));
  if (!fits)
    return fail(ErrorCode::kModelIncompatible, "{} sequences with {} pages ask for more memory than there can be",
                sequences, pages);
  return static_cast<std::int64_t>(bytes);
}

std::int64_t weight_bytes(const Graph& graph, const std::function<std::int64_t(const std::string&)>& bytes_of) {
  std::set<std::string> whole;  // parts of a tensor are together all of it
  for (const TensorUse& use : graph.tensors)
    if (use.as != TensorUse::As::kTable && use.as != TensorUse::As::kConstant) whole.insert(use.tensor);
  std::int64_t bytes = 0;
  for (const std::string& tensor : whole) bytes += bytes_of(tensor);
  return bytes;
}

std::int64_t program_bytes(const VocabularySize& vocabulary) {
  constexpr std::int64_t kProgram = 24 << 20, kToken = 198, kMerge = 80;
  return kProgram + kToken * vocabulary.tokens + kMerge * vocabulary.merges;
}

std::int64_t scored_rows(std::int64_t vocabulary) {
  constexpr std::int64_t kBytesMax = 32 << 20;
  return std::clamp<std::int64_t>(kBytesMax / (4 * vocabulary), 8, 128);
}

std::int64_t logit_rows(const Graph& graph, std::int64_t rows, std::int64_t sequences) {
  if (!graph.head.weight.there()) return 0;
  return std::min(rows, std::max<std::int64_t>(sequences, limits::kDraftsMax) + scored_rows(graph.vocab));
}

std::int64_t step_bytes(const Graph& graph, std::int64_t rows, std::int64_t sequences) {
  const Widths w(graph);
  // As the model that is loaded has it (forward/load.cc).
  rows = graph.whole_prompts ? graph.context : std::min<std::int64_t>(rows, graph.context);
  const std::int64_t dim = graph.dim;
  const std::int64_t row = 2 * dim + 2 * std::max(dim, w.query) + 2 * w.key + 2 * w.inside + w.experts +
                           (w.experts > 0 ? dim : 0) + w.active * dim + w.extra + 2 * w.heads + 2 * w.layer_inputs +
                           (w.parallel ? dim : 0);
  // A product's input in 8 bits, with the scales and sums of its blocks.
  const std::int64_t converted = std::max({dim, w.query, w.inside, w.heads}) * 3 / 2;
  // Guesses have logits, too.
  const std::int64_t drawn = std::min(rows, std::max<std::int64_t>(sequences, limits::kDraftsMax));
  return rows * converted + 4 * (rows * row + (graph.head.weight.there() ? drawn * graph.vocab : 0));
}

}  // namespace llorch
