// BERT: learned positions and token types, LayerNorms of the stream behind attention and MLP, biases everywhere, GELU
// by the error function. Its results are the last states. Source: Devlin et al. 2018, "BERT".
#include <algorithm>

#include "arch/encoder.h"

namespace llorch::arch {

namespace encoder {

Status refine(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_TRY(const bool causal, m.boolean_or(p + "attention.causal", false));
  if (causal) return bad_model("'{}attention.causal' true is not supported", p);
  LLORCH_TRY(const auto pooling, m.integer_in(p + "pooling_type", 0, 4, 0));
  if (pooling == kRankPooling) {
    if (h.arch != "bert" && h.arch != "modern-bert")
      return bad_model("'{}pooling_type' is {}: heads that score are not supported for {}", p, pooling, h.arch);
    h.labels = 1;
    if (m.has(p + "classifier.output_labels")) {
      LLORCH_TRY(const auto* labels, m.strings(p + "classifier.output_labels"));
      if (labels->empty() || labels->size() > limits::kLabelsMax)
        return bad_model("'{}classifier.output_labels' has {} entries, the limit is {}", p, labels->size(),
                         limits::kLabelsMax);
      h.labels = static_cast<int>(labels->size());
    }
  }
  LLORCH_TRY(const auto of_states, m.integer_in(p + "classifier.pooling_type", 0, 4, 0));
  h.classifies_mean = of_states == 1;
  LLORCH_TRY(const auto types, m.integer_in("tokenizer.ggml.token_type_count", 1, 1u << 16, 2));
  h.token_types = static_cast<int>(types);
  return {};
}

void make_embedding(PartMaker& m, const Hyper& h, Graph& graph, std::string_view hf_embedding,
                    std::string_view hf_types) {
  graph.whole_prompts = true;
  graph.embedding = m.table("token_embd", std::string(hf_embedding), h.dim, h.vocab);
  graph.embedding_scale = h.embedding_scale;
  if (hf_types.empty()) return;
  graph.types = m.table("token_types", std::string(hf_types), h.dim, h.token_types);
  graph.token_types = h.token_types;
}

void make_classifier(PartMaker& m, const Hyper& h, Graph& graph, const ClassifierForm& form) {
  if (h.labels == 0) return;
  m.no_layer();
  const auto hf = [](std::string_view stem, const char* part) { return fmt::format("{}.{}", stem, part); };
  Classifier c;
  c.activation = form.activation, c.eps = h.eps, c.mean = h.classifies_mean;
  c.dense = m.values("cls.weight", hf(form.hf_dense, "weight"), {h.dim, h.dim}, true);
  if (form.dense_bias) c.dense_bias = m.values("cls.bias", hf(form.hf_dense, "bias"), {h.dim}, true);
  if (!form.hf_norm.empty()) c.norm = m.values("cls.norm.weight", hf(form.hf_norm, "weight"), {h.dim}, true);
  c.output = m.values("cls.output.weight", "classifier.weight", {h.dim, h.labels}, true);
  c.output_bias = m.values("cls.output.bias", "classifier.bias", {h.labels}, true);
  graph.classifier = std::move(c);
}

Status labels_from_hf(const json::object& config, const std::string& prefix, Metadata& out) {
  const json::array* architectures = json::find_array(config, "architectures");
  const auto classifies = [](const json::value& v) {
    return v.is_string() && std::string_view(v.get_string()).ends_with("ForSequenceClassification");
  };
  if (!architectures || std::ranges::none_of(*architectures, classifies)) return {};
  const json::object* names = json::find_object(config, "id2label");
  const json::value* number = json::find(config, "num_labels");
  const auto stated = number ? json::as_unsigned(*number) : 2;  // as the library has it
  if (!stated) return bad_model("config.json: 'num_labels' is no whole number");
  const std::uint64_t labels = names ? names->size() : *stated;
  if (labels < 1 || labels > limits::kLabelsMax)
    return bad_model("config.json: {} labels, the limit is {}", labels, limits::kLabelsMax);
  MetaValue::Strings texts;
  for (std::uint64_t i = 0; i < labels; ++i) {
    const auto name = names ? json::find_text(*names, std::to_string(i)) : std::nullopt;
    texts.push_back(name.value_or(fmt::format("LABEL_{}", i)));
  }
  out.set(prefix + "pooling_type", MetaValue::u32(kRankPooling));
  out.set(prefix + "classifier.output_labels", MetaValue::strings(std::move(texts)));
  return {};
}

SoftmaxAttention sees_all(SoftmaxAttention a, int rope) {
  a.both_ways = true, a.rope = rope;
  return a;
}

Status types_from_hf(const json::object& config, Metadata& out) {
  return hf_copy_integer(config, "type_vocab_size", "tokenizer.ggml.token_type_count", out, false);
}

}  // namespace encoder

namespace bert {
namespace {

constexpr const char* kPrefix = "bert.";

Status refine(const Metadata& m, Hyper& h) { return encoder::refine(m, kPrefix, h); }

void make(const Hyper& h, PartMaker& m, Graph& graph) {
  encoder::make_embedding(m, h, graph, "embeddings.word_embeddings", "embeddings.token_type_embeddings");
  graph.positions = m.table("position_embd", "embeddings.position_embeddings", h.dim, h.context);
  graph.embedding_norm = m.layer_norm("token_embd_norm", "embeddings.LayerNorm", h.dim, true);
  AttentionForm form;
  form.bias = form.output_bias = true;
  form.hf = "attention.", form.hf_query = "self.query", form.hf_key = "self.key", form.hf_value = "self.value";
  form.hf_output = "output.dense";
  for (int l = 0; l < h.layers; ++l) {
    m.layer(l, "encoder.layer.{}.");
    Block b;
    b.mixer = encoder::sees_all(make_attention(m, h, l, form), -1);
    b.mixer_stream_norm = m.layer_norm("attn_output_norm", "attention.output.LayerNorm", h.dim, true);
    Mlp mlp;
    mlp.activation.kind = Activation::Kind::kGeluErf;
    mlp.up = m.linear("ffn_up", "intermediate.dense", h.dim, h.ffn_of(l), true);
    mlp.down = m.linear("ffn_down", "output.dense", h.ffn_of(l), h.dim, true);
    b.feed_forward = std::move(mlp);
    b.mlp_stream_norm = m.layer_norm("layer_output_norm", "output.LayerNorm", h.dim, true);
    graph.blocks.push_back(std::move(b));
  }
  encoder::make_classifier(m, h, graph, {"pooler.dense", ""});
}

Status from_hf(const json::object& config, Metadata& out) {
  LLORCH_OK(encoder::labels_from_hf(config, kPrefix, out));
  LLORCH_OK(hf_refuse(config, {"is_decoder", "add_cross_attention"}));
  if (json::find_text(config, "hidden_act").value_or("gelu") != "gelu" ||
      json::find_text(config, "position_embedding_type").value_or("absolute") != "absolute")
    return bad_model("config.json: hidden_act or position_embedding_type are not BERT's");
  LLORCH_OK(encoder::types_from_hf(config, out));
  out.set(std::string(kPrefix) + "attention.causal", MetaValue::boolean(false));
  return hf_common(config, kPrefix, out);
}

}  // namespace
}  // namespace bert

extern const Architecture arch_bert;
const Architecture arch_bert{"bert",
                             {"bert"},
                             {"attention.causal", "classifier.output_labels"},
                             bert::refine,
                             listed<bert::make>,
                             made<bert::make>,
                             bert::from_hf,
                             {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"}};

}  // namespace llorch::arch
