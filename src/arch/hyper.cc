#include "arch/hyper.h"

#include <algorithm>

#include "base/limits.h"

namespace llorch::arch {
namespace {

/// Understood for every family: either read below, or known not to change the maths.
constexpr std::string_view kKnown[] = {
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "tensor_data_layout",
    "pooling_type",
};

Status refuse_unknown(const Metadata& m, std::string_view prefix, const std::vector<std::string_view>& extra) {
  for (const Metadata::Entry& e : m.entries()) {
    if (!e.key.starts_with(prefix)) continue;
    const std::string_view key = std::string_view(e.key).substr(prefix.size());
    if (std::ranges::find(kKnown, key) == std::end(kKnown) && std::ranges::find(extra, key) == extra.end())
      return bad_model("metadata key '{}' is not understood, and may change what the model computes", e.key);
  }
  return {};
}

Status read_rope(const Metadata& m, const std::string& p, Hyper& h) {
  LLORCH_TRY(h.rope_base, m.number_or(p + "rope.freq_base", 10000));
  if (!(h.rope_base > 1 && h.rope_base < 1e12)) return bad_model("'{}rope.freq_base' is {}", p, h.rope_base);
  LLORCH_TRY(const auto rotated, m.integer_in(p + "rope.dimension_count", 2, static_cast<std::uint64_t>(h.head_dim),
                                              static_cast<std::uint64_t>(h.head_dim)));
  if (rotated % 2 != 0) return bad_model("'{}rope.dimension_count' is {}, which is odd", p, rotated);
  h.rotated = static_cast<int>(rotated);
  if (m.has(p + "rope.scaling.type")) {
    LLORCH_TRY(h.scaling.kind, m.text(p + "rope.scaling.type"));
  }
  const std::string_view kind = h.scaling.kind;
  if (kind != "none" && kind != "linear" && kind != "yarn" && kind != "longrope")
    return bad_model("rope scaling '{}' is not supported", kind);
  LLORCH_TRY(h.scaling.factor, m.number_or(p + "rope.scaling.factor", 1));
  LLORCH_TRY(h.scaling.original_context, m.number_or(p + "rope.scaling.original_context_length", h.context));
  LLORCH_TRY(const double yarn_factor, m.number_or(p + "rope.scaling.yarn_attn_factor", 0));
  LLORCH_TRY(h.scaling.attention_factor, m.number_or(p + "rope.scaling.attn_factor", yarn_factor));
  LLORCH_TRY(h.scaling.finetuned, m.boolean_or(p + "rope.scaling.finetuned", true));
  LLORCH_TRY(h.scaling.beta_fast, m.number_or(p + "rope.scaling.yarn_beta_fast", 32));
  LLORCH_TRY(h.scaling.beta_slow, m.number_or(p + "rope.scaling.yarn_beta_slow", 1));
  if (!(h.scaling.attention_factor >= 0 && h.scaling.attention_factor < 1e6 && h.scaling.beta_fast > 0 &&
        h.scaling.beta_fast < 1e6 && h.scaling.beta_slow > 0 && h.scaling.beta_slow < 1e6))
    return bad_model("'{}rope.scaling': attention factor {}, betas {} and {} are out of range", p,
                     h.scaling.attention_factor, h.scaling.beta_fast, h.scaling.beta_slow);
  if (!(h.scaling.factor > 0 && h.scaling.factor < 1e6))
    return bad_model("'{}rope.scaling.factor' is {}", p, h.scaling.factor);
  if (!(h.scaling.original_context >= 1 && h.scaling.original_context <= static_cast<double>(limits::kContextMax)))
    return bad_model("'{}rope.scaling.original_context_length' is {}", p, h.scaling.original_context);
  return {};
}

}  // namespace

Result<std::vector<int>> read_each(const Metadata& m, const std::string& key, int layers, std::uint64_t low,
                                   std::uint64_t high, std::optional<std::uint64_t> otherwise) {
  const auto count = static_cast<std::size_t>(layers);
  const MetaValue* v = m.find(key);
  const auto* list = v ? std::get_if<MetaValue::Integers>(&v->value) : nullptr;
  if (!list) {
    LLORCH_TRY(const std::uint64_t one, m.integer_in(key, low, high, otherwise));
    return std::vector<int>(count, static_cast<int>(one));
  }
  if (list->size() != count) return bad_model("'{}' has {} entries for {} layers", key, list->size(), layers);
  std::vector<int> each;
  for (const std::int64_t one : *list) {
    if (one < static_cast<std::int64_t>(low) || one > static_cast<std::int64_t>(high))
      return bad_model("metadata key '{}' holds {}, outside {}..{}", key, one, low, high);
    each.push_back(static_cast<int>(one));
  }
  return each;
}

Result<std::vector<bool>> read_pattern(const Metadata& m, const std::string& key, int layers) {
  if (!m.has(key)) return std::vector<bool>();
  LLORCH_TRY(const auto* list, m.integers(key));
  if (list->size() != static_cast<std::size_t>(layers))
    return bad_model("'{}' has {} entries for {} layers", key, list->size(), layers);
  std::vector<bool> each;
  for (const std::int64_t one : *list) {
    if (one != 0 && one != 1) return bad_model("metadata key '{}' holds {}, which is no boolean", key, one);
    each.push_back(one == 1);
  }
  return each;
}

Result<Hyper> read_hyper(const Metadata& m, std::string_view arch, const std::vector<std::string_view>& extra) {
  Hyper h;
  h.arch = arch;
  const std::string p = h.arch + ".";
  LLORCH_OK(refuse_unknown(m, p, extra));
  const auto read = [&](int& out, const std::string& key, std::uint64_t low, std::uint64_t high,
                        std::optional<std::uint64_t> otherwise = {}) -> Status {
    LLORCH_TRY(const std::uint64_t v, m.integer_in(p + key, low, high, otherwise));
    out = static_cast<int>(v);
    return {};
  };
  LLORCH_OK(read(h.context, "context_length", 1, limits::kContextMax));
  LLORCH_OK(m.integer_in(p + "pooling_type", 0, 4, 0));
  LLORCH_OK(read(h.dim, "embedding_length", 1, limits::kEmbeddingMax));
  LLORCH_OK(read(h.layers, "block_count", 1, limits::kLayersMax));
  LLORCH_OK(read(h.heads, "attention.head_count", 1, limits::kHeadsMax));
  LLORCH_TRY(h.layer_kv_heads, read_each(m, p + "attention.head_count_kv", h.layers, 0, limits::kHeadsMax,
                                         static_cast<std::uint64_t>(h.heads)));
  for (const int kv_heads : h.layer_kv_heads)
    if (kv_heads > 0 && h.heads % kv_heads != 0)
      return bad_model("{} query heads cannot share {} KV heads", h.heads, kv_heads);
  h.kv_heads = std::ranges::max(h.layer_kv_heads);
  if (!m.has(p + "attention.key_length") && h.dim % h.heads != 0)
    return bad_model("{} values cannot be split into {} heads", h.dim, h.heads);
  LLORCH_OK(
      read(h.head_dim, "attention.key_length", 1, limits::kHeadDimMax, static_cast<std::uint64_t>(h.dim / h.heads)));
  LLORCH_OK(
      read(h.value_dim, "attention.value_length", 1, limits::kHeadDimMax, static_cast<std::uint64_t>(h.head_dim)));
  if (h.head_dim > static_cast<int>(limits::kHeadDimMax)) return bad_model("key length {} is too large", h.head_dim);
  LLORCH_TRY(h.layer_ffn,
             read_each(m, p + "feed_forward_length", h.layers, 0, limits::kFeedForwardMax,
                       m.has(p + "expert_feed_forward_length") ? std::optional<std::uint64_t>(1) : std::nullopt));
  h.ffn = std::ranges::max(h.layer_ffn);
  const std::string rms = p + "attention.layer_norm_rms_epsilon", plain = p + "attention.layer_norm_epsilon";
  LLORCH_TRY(const double eps, m.number(m.has(rms) ? rms : plain));
  LLORCH_TRY(const double same, m.number_or(plain, eps));
  if (!(eps > 0 && eps < 1)) return bad_model("norm epsilon {} is outside 0..1", eps);
  if (same != eps) return bad_model("'{}' is {}, '{}' is {}", rms, eps, plain, same);
  h.eps = static_cast<float>(eps);
  LLORCH_OK(read_rope(m, p, h));
  h.run_context = h.context;
  return h;
}

}  // namespace llorch::arch
