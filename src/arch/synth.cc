#include "arch/synth.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "arch/hf_source.h"
#include "arch/published.h"
#include "base/limits.h"
#include "base/open_file.h"
#include "base/random.h"
#include "format/gguf.h"
#include "quant/table.h"

namespace llorch::arch {
namespace {

struct Sizes {
  std::uint32_t context, dim, layers, ffn, heads, kv_heads, head_dim;
};

void describe(Metadata& m, const std::string& p, const Sizes& s, bool rms, double eps) {
  m.set(p + "context_length", MetaValue::u32(s.context));
  m.set(p + "embedding_length", MetaValue::u32(s.dim));
  m.set(p + "block_count", MetaValue::u32(s.layers));
  m.set(p + "feed_forward_length", MetaValue::u32(s.ffn));
  m.set(p + "attention.head_count", MetaValue::u32(s.heads));
  m.set(p + "attention.head_count_kv", MetaValue::u32(s.kv_heads));
  if (s.head_dim * s.heads != s.dim) {
    m.set(p + "attention.key_length", MetaValue::u32(s.head_dim));
    m.set(p + "attention.value_length", MetaValue::u32(s.head_dim));
  }
  m.set(p + (rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
        MetaValue::f32(static_cast<float>(eps)));
}

void llama(Metadata& m, const Sizes& s, float base) {
  describe(m, "llama.", s, true, 1e-5);
  m.set("llama.rope.freq_base", MetaValue::f32(base));
  m.set("llama.rope.dimension_count", MetaValue::u32(s.head_dim));
}
void qwen(Metadata& m, const std::string& p, const Sizes& s) {
  describe(m, p, s, true, 1e-6);
  m.set(p + "rope.freq_base", MetaValue::f32(1e6f));
}
void qwen3moe(Metadata& m, const Sizes& s, std::uint32_t experts, std::uint32_t active) {
  const std::string p = "qwen3moe.";
  qwen(m, p, s);
  m.set(p + "expert_count", MetaValue::u32(experts));
  m.set(p + "expert_used_count", MetaValue::u32(active));
  m.set(p + "expert_feed_forward_length", MetaValue::u32(s.ffn));
}
void tiny_qwen3moe(Metadata& m) { qwen3moe(m, {256, 256, 2, 256, 4, 2, 64}, 6, 2); }
void phi3(Metadata& m, const Sizes& s, std::uint32_t original, std::uint32_t window) {
  describe(m, "phi3.", s, true, 1e-5);
  m.set("phi3.rope.freq_base", MetaValue::f32(10000));
  m.set("phi3.rope.dimension_count", MetaValue::u32(s.head_dim));
  m.set("phi3.rope.scaling.original_context_length", MetaValue::u32(original));
  m.set("phi3.attention.sliding_window", MetaValue::u32(window));
}
void gpt_oss(Metadata& m, const Sizes& s, std::uint32_t experts, std::uint32_t active, std::uint32_t window,
             std::uint32_t original) {
  const std::string p = "gpt-oss.";
  describe(m, p, s, true, 1e-5);
  m.set(p + "attention.key_length", MetaValue::u32(s.head_dim));
  m.set(p + "attention.value_length", MetaValue::u32(s.head_dim));
  m.set(p + "expert_count", MetaValue::u32(experts));
  m.set(p + "expert_used_count", MetaValue::u32(active));
  m.set(p + "expert_feed_forward_length", MetaValue::u32(s.ffn));
  m.set(p + "attention.sliding_window", MetaValue::u32(window));
  m.set(p + "rope.freq_base", MetaValue::f32(150000));
  m.set(p + "rope.scaling.type", MetaValue::text("yarn"));
  m.set(p + "rope.scaling.factor", MetaValue::f32(32));
  m.set(p + "rope.scaling.original_context_length", MetaValue::u32(original));
}

/// Granite 4's hybrid without experts: Mamba 2, and attention in some layers.
void granite_hybrid(Metadata& m, const Sizes& s, const std::set<std::uint32_t>& attention, const RecurrentSizes& r) {
  const std::string p = "granitehybrid.";
  describe(m, p, s, true, 1e-5);
  MetaValue::Integers kv_heads;
  for (std::uint32_t l = 0; l < s.layers; ++l) kv_heads.push_back(attention.contains(l) ? s.kv_heads : 0);
  m.set(p + "attention.head_count_kv", MetaValue::i32s(std::move(kv_heads)));
  m.set(p + "rope.freq_base", MetaValue::f32(10000));
  m.set(p + "rope.scaling.finetuned", MetaValue::boolean(false));
  m.set(p + "attention.scale", MetaValue::f32(1.0f / static_cast<float>(s.head_dim)));
  m.set(p + "embedding_scale", MetaValue::f32(12));
  m.set(p + "residual_scale", MetaValue::f32(0.246f));
  m.set(p + "logit_scale", MetaValue::f32(6));
  for (const auto& [key, size] : {std::pair{"conv_kernel", r.taps},
                                  {"state_size", r.state},
                                  {"group_count", r.groups},
                                  {"time_step_rank", r.heads},
                                  {"inner_size", r.inner}})
    m.set(p + "ssm." + key, MetaValue::u32(static_cast<std::uint32_t>(size)));
}

void granite_4_h_350m(Metadata& m) {
  granite_hybrid(m, {32768, 768, 32, 2048, 12, 4, 64}, {10, 13, 17, 27}, {4, 128, 1, 48, 1536});
}

bool is_mix(std::string_view type) { return std::ranges::find(kMixes, type) != std::end(kMixes); }

/// The mixes spend more bits on value and down projections of the first and last eighth and every third layer between.
bool more_bits(int layer, int layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

DType fallback(DType type) {
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kIQ3_XXS:
    case DType::kIQ3_S:
    case DType::kIQ4_XS: return DType::kIQ4_NL;
    case DType::kTQ2_0: return DType::kQ4_0;
    case DType::kNVFP4: return DType::kMXFP4;
    case DType::kQ4_K: return DType::kQ5_0;
    case DType::kQ5_K: return DType::kQ5_1;
    case DType::kQ6_K: return DType::kQ8_0;
    default: return DType::kF16;
  }
}

/// A byte-level vocabulary without merges, for models that only compute.
void plain_vocabulary(Metadata& m, int size) {
  MetaValue::Strings tokens;
  MetaValue::Integers kinds;
  const auto utf8 = [](int c) {
    return c < 128 ? std::string(1, static_cast<char>(c))
                   : std::string{static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
  };
  int extra = 0;
  for (int b = 0; b < std::min(size, 256); ++b) {
    const bool printable = (b > 32 && b < 127) || (b > 160 && b != 173);
    tokens.push_back(utf8(printable ? b : 256 + extra++));
    kinds.push_back(1);
  }
  for (int i = 256; i < size; ++i) tokens.push_back(fmt::format("<t{}>", i)), kinds.push_back(i == size - 1 ? 3 : 1);
  m.set("tokenizer.ggml.model", MetaValue::text("gpt2"));
  m.set("tokenizer.ggml.pre", MetaValue::text("gpt-2"));
  m.set("tokenizer.ggml.tokens", MetaValue::strings(std::move(tokens)));
  m.set("tokenizer.ggml.token_type", MetaValue::i32s(std::move(kinds)));
  m.set("tokenizer.ggml.merges", MetaValue::strings({}));
  m.set("tokenizer.ggml.eos_token_id", MetaValue::u32(static_cast<std::uint32_t>(size - 1)));
}

constexpr std::uint64_t kQuickRows = 64;

/// Fills `out` beyond its first `made` bytes with blocks of those, drawn at random.
void shuffle_rows(DType type, const TensorSpec& spec, std::uint64_t made, std::span<std::byte> out) {
  const std::uint64_t piece = row_bytes(type, std::max<std::uint64_t>(32, info(type).block));
  const std::uint64_t key = fnv1a64(spec.name);
  for (std::uint64_t at = made; at < out.size(); at += piece) {
    const std::uint64_t drawn = mix64(key + at) % (made / piece) * piece;
    std::memcpy(out.data() + at, out.data() + drawn, std::min(piece, out.size() - at));
  }
}

/// A shape in GGUF's keys.
struct StatedShape {
  std::string_view name;
  std::string_view arch;
  void (*describe)(Metadata&);
  int vocab;
};

const std::vector<StatedShape>& stated_shapes() {
  static const std::vector<StatedShape> table = {
      {"qwen2.5-0.5b", "qwen2",
       [](Metadata& m) {
         qwen(m, "qwen2.", {32768, 896, 24, 4864, 14, 2, 64});
       },
       151936},
      {"llama3.2-1b", "llama",
       [](Metadata& m) {
         llama(m, {131072, 2048, 16, 8192, 32, 8, 64}, 500000);
       },
       128256},
      {"tinyllama-1.1b", "llama",
       [](Metadata& m) {
         llama(m, {2048, 2048, 22, 5632, 32, 4, 64}, 10000);
       },
       32000},
      {"phi-3-mini", "phi3",
       [](Metadata& m) {
         phi3(m, {4096, 3072, 32, 8192, 32, 32, 96}, 4096, 2047);
       },
       32064},
      {"gpt2-124m", "gpt2",
       [](Metadata& m) {
         describe(m, "gpt2.", {1024, 768, 12, 3072, 12, 12, 64}, false, 1e-5);
       },
       50257},
      {"gpt-oss-20b", "gpt-oss",
       [](Metadata& m) {
         gpt_oss(m, {131072, 2880, 24, 2880, 64, 8, 64}, 32, 4, 128, 4096);
       },
       201088},
      {"granite-4-h-350m", "granitehybrid", granite_4_h_350m, 100352},
      {"tiny-llama", "llama",
       [](Metadata& m) {
         llama(m, {256, 256, 2, 512, 4, 2, 64}, 10000);
       },
       320},
      {"tiny-qwen2", "qwen2",
       [](Metadata& m) {
         qwen(m, "qwen2.", {256, 256, 2, 512, 4, 2, 64});
       },
       320},
      {"tiny-qwen3", "qwen3",
       [](Metadata& m) {
         qwen(m, "qwen3.", {256, 256, 2, 512, 4, 2, 128});
       },
       320},
      {"tiny-qwen3moe", "qwen3moe", tiny_qwen3moe, 320},
      {"tiny-phi3", "phi3",
       [](Metadata& m) {
         phi3(m, {128, 256, 2, 512, 4, 4, 64}, 16, 9);
       },
       320},
      {"tiny-gpt2", "gpt2",
       [](Metadata& m) {
         describe(m, "gpt2.", {128, 256, 2, 1024, 4, 4, 64}, false, 1e-5);
       },
       320},
      {"tiny-gpt-oss", "gpt-oss",
       [](Metadata& m) {
         gpt_oss(m, {256, 256, 2, 256, 8, 2, 64}, 6, 2, 7, 64);
       },
       320},
  };
  return table;
}

/// The config.json that states a shape, where one does.
Result<std::optional<json::object>> published_config(const SynthRequest& request) {
  if (request.shape.ends_with(".json")) {
    LLORCH_TRY(const std::string text, read_text_file(request.shape, limits::kJsonBytesMax));
    LLORCH_TRY(json::object config, config_of({request.shape, "", text}, request.fields));
    return std::optional(std::move(config));
  }
  for (const PublishedShape& s : published_shapes())
    if (s.name == request.shape) {
      LLORCH_TRY(json::object config, config_of(s, request.fields));
      return std::optional(std::move(config));
    }
  return std::optional<json::object>();
}

}  // namespace

std::vector<std::string_view> shape_names() {
  std::vector<std::string_view> names;
  for (const StatedShape& s : stated_shapes()) names.push_back(s.name);
  for (const PublishedShape& s : published_shapes()) names.push_back(s.name);
  return names;
}

Result<Shape> find_shape(const SynthRequest& request) {
  std::uint64_t vocab = 0;
  if (request.vocab) {
    LLORCH_TRY(const auto* tokens, request.vocab->strings("tokenizer.ggml.tokens"));
    vocab = tokens->size();
  }
  LLORCH_TRY(auto config, published_config(request));
  if (config) {
    if (vocab > 0) (*config)["vocab_size"] = vocab;
    LLORCH_TRY(HfModel model, read_hf(*config));
    return Shape{model.family, std::move(model.metadata), std::move(model.hyper),
                 json::find_bool(*config, "tie_word_embeddings").value_or(false)};
  }
  for (const StatedShape& s : stated_shapes()) {
    if (s.name != request.shape) continue;
    if (!request.fields.empty())
      return fail(ErrorCode::kInvalidRequest, "shape '{}' is stated by no config.json: it has no fields", s.name);
    Shape shape;
    LLORCH_TRY(shape.family, find(s.arch));
    s.describe(shape.metadata);
    LLORCH_TRY(shape.hyper,
               read(*shape.family, shape.metadata, vocab > 0 ? vocab : static_cast<std::uint64_t>(s.vocab)));
    return shape;
  }
  return fail(ErrorCode::kInvalidRequest, "shape '{}' is not known (there are: {})", request.shape,
              fmt::join(shape_names(), ", "));
}

void synth_values(std::uint64_t seed, const TensorSpec& spec, std::uint64_t first, std::span<float> out) {
  const std::uint64_t key = mix64(seed ^ fnv1a64(spec.name));
  const auto spread = static_cast<float>(std::sqrt(3.0 / static_cast<double>(spec.dims[0])));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t u = mix64(key + (first + i) * 0x9e3779b97f4a7c15ull) >> 40;
    const float t = static_cast<float>(u) * 0x1p-23f - 1;
    if (spec.value == HfValue::kMinusExp) {  // a rate of decay: what is remembered must not grow
      out[i] = -std::exp(t);
      continue;
    }
    switch (spec.synth) {
      case SynthKind::kMatrix: out[i] = t * spread; break;
      case SynthKind::kGain: out[i] = 1 + t * 0.25f; break;
      case SynthKind::kBias: out[i] = t * 0.125f; break;
      case SynthKind::kFactors: out[i] = 1 + (t + 1) * 0.5f; break;
    }
  }
}

Result<DType> choose_type(std::string_view type, const std::string& tensor, std::span<const std::uint64_t> dims,
                          const QuantizeFacts& facts) {
  const bool mix = is_mix(type);
  const DTypeInfo* wanted = find_dtype(mix ? type.substr(0, 4) : type);
  if (!wanted || !is_weight_type(wanted->type))
    return fail(ErrorCode::kInvalidRequest,
                "type '{}' is not known (F32, F16, BF16, a block format, or a mix such as Q4_K_M)", type);
  std::size_t extent = 0;
  for (const std::uint64_t d : dims) extent += d > 1;
  // Routers, and convolutions of a few columns: other engines want these in F32.
  constexpr std::string_view kSmall[] = {"ffn_gate_inp", "ssm_conv1d", "shortconv.conv"};
  const bool small = extent < 2 || tensor.ends_with(".bias") || std::ranges::any_of(kSmall, [&](std::string_view name) {
                       return tensor.find(name) != std::string::npos;
                     });
  if (small) return DType::kF32;
  DType result = wanted->type;
  if (mix) {
    int layer = -1;
    if (tensor.starts_with("blk.")) std::from_chars(tensor.data() + 4, tensor.data() + tensor.size(), layer);
    const bool medium = type.ends_with("_M");
    const bool greedy = tensor.find("attn_v.") != std::string::npos || tensor.find("ffn_down") != std::string::npos;
    if (tensor == "output.weight" || (facts.tied && tensor == "token_embd.weight"))
      result = DType::kQ6_K;
    else if (medium && greedy && more_bits(layer, facts.layers))
      result = type.starts_with("Q3") ? DType::kQ5_K : DType::kQ6_K;
  }
  if (result == DType::kMXFP4 && facts.experts && tensor.find("_exps.") == std::string::npos) result = DType::kQ8_0;
  while (dims[0] % info(result).block != 0) result = info(result).block == 32 ? DType::kF16 : fallback(result);
  return result;
}

Result<SynthModel> plan_synth(const SynthRequest& request) {
  LLORCH_TRY(const Shape shape, find_shape(request));
  const Hyper& h = shape.hyper;
  SynthModel model;
  Metadata& m = model.metadata;
  m.set("general.architecture", MetaValue::text(std::string(shape.family->name)));
  m.set("general.name",
        MetaValue::text(fmt::format("synthetic {} (random weights, seed {})",
                                    std::filesystem::path(request.shape).stem().string(), request.seed)));
  m.set("general.quantization_version", MetaValue::u32(2));
  for (const Metadata::Entry& e : shape.metadata.entries()) m.set(e.key, e.value);
  if (request.vocab) {
    for (const Metadata::Entry& e : request.vocab->entries())
      if (e.key.starts_with("tokenizer.")) m.set(e.key, e.value);
  } else {
    plain_vocabulary(m, h.vocab);
  }
  const bool tied = shape.tied || !request.optional_tensors;
  const QuantizeFacts facts{h.layers, tied, h.experts > 0};
  for (const TensorSpec& spec : shape.family->tensors(h)) {
    if (!spec.required && (!request.optional_tensors || (tied && spec.name == "output.weight"))) continue;
    LLORCH_TRY(const DType type, choose_type(request.type, spec.name, spec.dims, facts));
    model.tensors.push_back({spec, type});
  }
  return model;
}

void synth_rows(std::uint64_t seed, const SynthModel::Tensor& tensor, std::uint64_t first, std::span<std::byte> out) {
  const std::uint64_t columns = tensor.spec.dims[0], stride = row_bytes(tensor.type, columns);
  std::vector<float> row(columns);
  for (std::uint64_t r = 0; r < out.size() / stride; ++r) {
    synth_values(seed, tensor.spec, (first + r) * columns, row);
    quant::row_ops(tensor.type).quantize(row.data(), row.size(), out.data() + r * stride);
  }
}

Status synthesize(const SynthRequest& request, const std::string& path) {
  LLORCH_TRY(const SynthModel model, plan_synth(request));
  std::vector<GgufTensorPlan> plans;
  for (const SynthModel::Tensor& t : model.tensors)
    plans.push_back({t.spec.name, t.type, t.spec.dims, [&t, &request](std::span<std::byte> out) -> Status {
                       const std::uint64_t quick = kQuickRows * row_bytes(t.type, t.spec.dims[0]);
                       const std::uint64_t made = request.quick ? std::min(out.size(), quick) : out.size();
                       synth_rows(request.seed, t, 0, out.first(made));
                       if (made < out.size()) shuffle_rows(t.type, t.spec, made, out);
                       return {};
                     }});
  return write_gguf(path, model.metadata, plans);
}

}  // namespace llorch::arch
