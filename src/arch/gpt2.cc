// GPT-2: learned positions, LayerNorm before each branch, fused QKV with biases, GELU in its tanh form, tied head.
// Source: Radford et al. 2019; requirements E-10.
#include "arch/blocks.h"

namespace llorch::arch {
namespace gpt2 {
namespace {

Status refine(const Metadata&, Hyper& h) {
  if (h.kv_heads != h.heads || h.head_dim * h.heads != h.dim)
    return bad_model("gpt2 has one KV head per query head, and heads that fill the embedding");
  return {};
}

void add_layer_norm(std::vector<TensorSpec>& list, const std::string& name, const std::string& hf, int n) {
  add_gain(list, name, hf, n);
  list.push_back({name + ".bias", {static_cast<std::uint64_t>(n)}, hf + ".bias", SynthKind::kBias});
}

std::vector<TensorSpec> tensors(const Hyper& h) {
  std::vector<TensorSpec> list;
  const auto dim = static_cast<std::uint64_t>(h.dim);
  list.push_back({"token_embd.weight", {dim, static_cast<std::uint64_t>(h.vocab)}, "transformer.wte.weight"});
  list.push_back({"position_embd.weight", {dim, static_cast<std::uint64_t>(h.context)}, "transformer.wpe.weight"});
  add_layer_norm(list, "output_norm", "transformer.ln_f", h.dim);
  list.push_back(
      {"output.weight", {dim, static_cast<std::uint64_t>(h.vocab)}, "lm_head.weight", SynthKind::kMatrix, false});
  for (int l = 0; l < h.layers; ++l) {
    const auto hf = [&](std::string_view rest) { return fmt::format("transformer.h.{}.{}", l, rest); };
    add_layer_norm(list, block(l, "attn_norm"), hf("ln_1"), h.dim);
    add_linear(list, block(l, "attn_qkv"), hf("attn.c_attn"), h.dim, 3 * h.dim, true, HfLayout::kTransposed);
    add_linear(list, block(l, "attn_output"), hf("attn.c_proj"), h.dim, h.dim, true, HfLayout::kTransposed);
    add_layer_norm(list, block(l, "ffn_norm"), hf("ln_2"), h.dim);
    add_linear(list, block(l, "ffn_up"), hf("mlp.c_fc"), h.dim, h.ffn, true, HfLayout::kTransposed);
    add_linear(list, block(l, "ffn_down"), hf("mlp.c_proj"), h.ffn, h.dim, true, HfLayout::kTransposed);
  }
  return list;
}

Result<Graph> assemble(const Hyper& h, Builder& in) {
  Graph graph;
  LLORCH_OK(assemble_ends(h, in, graph));
  LLORCH_TRY(graph.positions, in.table("position_embd.weight"));
  for (int l = 0; l < h.layers; ++l) {
    Block b;
    LLORCH_TRY(b.mixer_norm, in.norm(block(l, "attn_norm"), h.eps));
    LLORCH_TRY(b.mixer, assemble_fused_attention(h, in, l));
    attention(b).rope = -1;
    LLORCH_TRY(b.mlp_norm, in.norm(block(l, "ffn_norm"), h.eps));
    Mlp mlp;
    mlp.activation.kind = Activation::Kind::kGelu;
    LLORCH_TRY(mlp.up, in.linear(block(l, "ffn_up")));
    LLORCH_TRY(mlp.down, in.linear(block(l, "ffn_down")));
    b.feed_forward = std::move(mlp);
    graph.blocks.push_back(std::move(b));
  }
  return graph;
}

Status from_hf(const json::object& config, Metadata& out) {
  const auto activation = json::find_text(config, "activation_function");
  if (activation && *activation != "gelu_new" && *activation != "gelu_pytorch_tanh")
    return bad_model("config.json: activation '{}' is not supported for gpt2", *activation);
  LLORCH_OK(hf_copy_integer(config, "n_positions", "gpt2.context_length", out));
  LLORCH_OK(hf_copy_integer(config, "n_embd", "gpt2.embedding_length", out));
  LLORCH_OK(hf_copy_integer(config, "n_layer", "gpt2.block_count", out));
  LLORCH_OK(hf_copy_integer(config, "n_head", "gpt2.attention.head_count", out));
  const auto dim = json::find_unsigned(config, "n_embd").value_or(0);
  out.set("gpt2.feed_forward_length",
          MetaValue::u32(static_cast<std::uint32_t>(json::find_unsigned(config, "n_inner").value_or(4 * dim))));
  out.set("gpt2.attention.layer_norm_epsilon",
          MetaValue::f32(static_cast<float>(json::find_number(config, "layer_norm_epsilon").value_or(1e-5))));
  return {};
}

}  // namespace
}  // namespace gpt2

extern const Architecture arch_gpt2;
const Architecture arch_gpt2{"gpt2",
                             {"gpt2"},
                             {},
                             gpt2::refine,
                             gpt2::tensors,
                             gpt2::assemble,
                             gpt2::from_hf,
                             {".attn.bias", ".attn.masked_bias"}};

}  // namespace llorch::arch
