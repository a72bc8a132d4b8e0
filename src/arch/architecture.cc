#include "arch/architecture.h"

#include <algorithm>

#include "arch/hf_sentence.h"
#include "base/limits.h"

namespace llorch::arch {

#define LLORCH_ARCH(name) extern const Architecture arch_##name;
#include "arch_table.inc"
#undef LLORCH_ARCH

const std::vector<const Architecture*>& all() {
  static const std::vector<const Architecture*> table = {
#define LLORCH_ARCH(name) &arch_##name,
#include "arch_table.inc"
#undef LLORCH_ARCH
  };
  return table;
}

Result<const Architecture*> find(std::string_view name) {
  for (const Architecture* a : all())
    if (a->name == name) return a;
  return bad_model("architecture '{}' is not supported", name);
}

Result<const Architecture*> find_hf(const json::object& config) {
  const auto type = json::find_text(config, "model_type");
  if (!type) return bad_model("config.json has no model_type");
  for (const Architecture* a : all())
    if (std::ranges::find(a->hf_types, *type) != a->hf_types.end() && (!a->hf_matches || a->hf_matches(config)))
      return a;
  return bad_model("model_type '{}' is not supported", *type);
}

namespace {

/// What families may have, and has to fit together where they do not say otherwise.
Status check(const Hyper& h) {
  for (int l = 0; l < h.layers; ++l) {
    const bool other = h.is_recurrent(l) || (h.single_parts && h.ffn_of(l) > 0);
    if (h.kv_heads_of(l) == 0 && !other) return bad_model("'{}.attention.head_count_kv' is 0 in layer {}", h.arch, l);
    if (h.ffn_of(l) == 0 && !h.single_parts) return bad_model("'{}.feed_forward_length' is 0 in layer {}", h.arch, l);
  }
  if (h.value_dim != h.head_dim && h.latent.rank == 0)
    return bad_model("key length {} and value length {} are not supported together", h.head_dim, h.value_dim);
  return {};
}

}  // namespace

Result<Hyper> read(const Architecture& family, const Metadata& metadata, std::uint64_t vocab) {
  LLORCH_TRY(Hyper h, read_hyper(metadata, family.name, family.keys));
  if (vocab < 1 || vocab > limits::kVocabMax)
    return bad_model("a vocabulary of {} entries is outside 1..{}", vocab, limits::kVocabMax);
  h.vocab = static_cast<int>(vocab);
  LLORCH_OK(family.refine(metadata, h));
  LLORCH_OK(check(h));
  return h;
}

Result<int> default_context(const Metadata& metadata) {
  LLORCH_TRY(const int own, own_context(metadata));
  return std::min(own, kContextDefault);
}

Result<int> own_context(const Metadata& metadata) {
  LLORCH_TRY(const std::string family, metadata.text("general.architecture"));
  LLORCH_OK(find(family));
  LLORCH_TRY(const auto own, metadata.integer_in(family + ".context_length", 1, limits::kContextMax));
  LLORCH_TRY(const auto texts, metadata.integer_in(std::string(kTextTokensKey), 1, limits::kContextMax, own));
  return static_cast<int>(std::min(own, texts));
}

VocabularySize vocabulary_size(const Metadata& metadata, int vocab) {
  const auto tokens = metadata.strings("tokenizer.ggml.tokens"), merges = metadata.strings("tokenizer.ggml.merges");
  if (!tokens) return {vocab, vocab};
  return {static_cast<std::int64_t>((*tokens)->size()), merges ? static_cast<std::int64_t>((*merges)->size()) : 0};
}

Result<Graph> read_graph(WeightSource& source, int context) {
  LLORCH_TRY(const std::string name, source.metadata().text("general.architecture"));
  LLORCH_TRY(const Architecture* family, find(name));
  const TensorView* embedding = source.find("token_embd.weight");
  if (!embedding) return bad_model("tensor 'token_embd.weight' is missing");
  LLORCH_TRY(Hyper h, read(*family, source.metadata(), embedding->rows()));
  if (context > h.context)
    return fail(ErrorCode::kContextLengthExceeded, "a context of {} was asked for, the model has {}", context,
                h.context);
  if (context > 0) h.run_context = context;
  Builder builder(source);
  for (int l = 0; l < h.skipped_layers; ++l) builder.ignore(fmt::format("blk.{}.", h.layers + l));
  LLORCH_OK(builder.check(family->tensors(h)));
  LLORCH_TRY(Graph graph, family->assemble(h, builder));
  LLORCH_TRY(graph.tensors, builder.finish());
  graph.dim = h.dim, graph.vocab = h.vocab, graph.context = h.run_context;
  if (const auto windows = graph.cache_windows(); windows.size() > limits::kPageGroupsMax)
    return bad_model("layers have {} different windows, at most {} are supported", windows.size(),
                     limits::kPageGroupsMax);
  return graph;
}

}  // namespace llorch::arch
