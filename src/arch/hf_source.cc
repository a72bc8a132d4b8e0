#include "arch/hf_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <list>
#include <unordered_map>

#include "arch/hf_fields.h"
#include "arch/hf_sampling.h"
#include "arch/hf_sentence.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "format/stacked_tensors.h"
#include "quant/table.h"

namespace llorch::arch {
namespace {

/// Copies elements of `size` bytes: out[i] = in[source(i)].
template<class Source>
std::vector<std::byte> rearrange(std::span<const std::byte> in, std::uint64_t size, std::uint64_t count,
                                 const Source& source) {
  std::vector<std::byte> out(count * size);
  for (std::uint64_t i = 0; i < count; ++i) std::memcpy(out.data() + i * size, in.data() + source(i) * size, size);
  return out;
}

/// Without dimensions of 1.
std::vector<std::uint64_t> squeezed(std::span<const std::uint64_t> dims) {
  std::vector<std::uint64_t> kept;
  std::ranges::copy_if(dims, std::back_inserter(kept), [](std::uint64_t d) { return d != 1; });
  return kept;
}

/// In float32, as GGUF's converter does.
std::vector<std::byte> converted(HfValue value, const TensorView& t, std::span<const std::byte> bytes) {
  std::vector<float> values(t.values());
  quant::row_ops(t.type).dequantize(bytes.data(), values.size(), values.data());
  for (float& v : values)
    v = value == HfValue::kPlusOne ? v + 1 : static_cast<float>(-std::exp(static_cast<double>(v)));
  const auto out = std::as_bytes(std::span(values));
  return {out.begin(), out.end()};
}

class HfSource final : public WeightSource {
 public:
  HfSource(SafetensorsDirectory directory, CancelFlag cancelled)
      : directory_(std::move(directory)), cancelled_(std::move(cancelled)) {}

  Status build() {
    LLORCH_TRY(HfModel model, read_hf(directory_.config()));
    metadata_ = std::move(model.metadata);
    LLORCH_OK(hf_read_sentence(directory_.path(), model.family->name, metadata_));
    LLORCH_OK(hf_read_sampling(directory_.path(), metadata_));
    const Architecture* family = model.family;
    const Hyper& h = model.hyper;
    for (const TensorView& t : directory_.tensors()) by_name_.emplace(t.name, &t);
    const bool tied = json::find_bool(directory_.config(), "tie_word_embeddings").value_or(family->name == "gpt2");
    for (const TensorSpec& spec : family->tensors(h)) {
      if (spec.name == "output.weight" && !tied && !find_hf_tensor(spec.hf))
        return bad_model("tensor '{}' is missing", spec.hf);
      LLORCH_OK(take(spec));
    }
    LLORCH_OK(rope_factors(h, family->tensors(h)));
    for (const auto& [name, view] : by_name_)
      if (!used_.contains(view) && !is_draft(name, h) &&
          std::ranges::none_of(family->hf_buffers, [&](std::string_view suffix) { return name.ends_with(suffix); }))
        return bad_model("tensor '{}' is not used by this architecture", name);
    return {};
  }

  Status read(std::span<const std::byte> part, std::byte* to) const override {
    const auto stored = [this](std::span<const std::byte> from, std::byte* at) { return directory_.read(from, at); };
    return stacks_.holds(part) ? stacks_.read(part, to, stored) : directory_.read(part, to);
  }
  Status unchanged(std::span<const std::byte> part) override { return directory_.unchanged(part); }

 private:
  const TensorView* find_hf_tensor(const std::string& name) const {
    // Bodies are stored with and without the name of the whole before theirs.
    std::string_view body = name;
    for (const std::string_view whole : {"transformer.", "model."})
      if (body.starts_with(whole)) body.remove_prefix(whole.size());
    for (const std::string& candidate : {name, std::string(body), "bert." + name})
      if (const auto found = by_name_.find(candidate); found != by_name_.end()) return found->second;
    return nullptr;
  }
  /// Layers behind the last, which only guess further tokens.
  static bool is_draft(std::string_view name, const Hyper& h) {
    for (int l = 0; l < h.skipped_layers; ++l)
      if (name.starts_with(fmt::format("model.layers.{}.", h.layers + l))) return true;
    return name.starts_with("mtp.");
  }

  /// One tensor over those that the experts have each.
  Status take_each(const TensorSpec& spec) {
    TensorView out;
    std::vector<std::span<const std::byte>> pieces;
    for (std::uint64_t e = 0; e < spec.dims.back(); ++e) {
      const std::string name = fmt::format(fmt::runtime(spec.hf), e);
      const TensorView* t = find_hf_tensor(name);
      if (!t) return bad_model("tensor '{}' is missing", name);
      used_.insert(t);
      TensorSpec one = spec;
      one.dims.pop_back();
      if (t->values() != spec.dims[0] * spec.dims[1])
        return bad_model("tensor '{}' has {} values, expected {}", name, t->values(), spec.dims[0] * spec.dims[1]);
      LLORCH_OK(check_shape(one, *t));
      if (info(t->type).block != 1 || !is_weight_type(t->type) || (e > 0 && t->type != out.type))
        return bad_model("tensor '{}' has type {}, which is no weight type or not its neighbours'", t->name,
                         info(t->type).name);
      out.type = t->type;
      pieces.push_back(t->data);
    }
    out.name = spec.name;
    out.n_dims = static_cast<int>(spec.dims.size());
    std::ranges::copy(spec.dims, out.dims.begin());
    LLORCH_TRY(out.data, stacks_.add(std::move(pieces)));
    tensors_.push_back(std::move(out));
    return {};
  }

  Status take(const TensorSpec& spec) {
    if (spec.layout == HfLayout::kEach) return take_each(spec);
    const TensorView* t = spec.hf.empty() ? nullptr : find_hf_tensor(spec.hf);
    if (!t) return spec.required ? Status(bad_model("tensor '{}' is missing", spec.hf)) : Status();
    used_.insert(t);
    TensorView out = *t;
    out.name = spec.name;
    out.n_dims = static_cast<int>(spec.dims.size());
    out.dims = {1, 1, 1, 1};
    std::ranges::copy(spec.dims, out.dims.begin());
    if (spec.layout == HfLayout::kRuns) {
      LLORCH_OK(take_runs(spec, *t, out));
      LLORCH_OK(convert(spec, out));
      tensors_.push_back(std::move(out));
      return {};
    }
    const bool halves = spec.layout == HfLayout::kGateOfPairs || spec.layout == HfLayout::kUpOfPairs ||
                        spec.layout == HfLayout::kGateBias || spec.layout == HfLayout::kUpBias;
    if (t->values() != out.values() * (halves ? 2 : 1))
      return bad_model("tensor '{}' has {} values, expected {}", t->name, t->values(), out.values() * (halves ? 2 : 1));
    LLORCH_OK(check_shape(spec, *t));
    if (info(t->type).block != 1 || !is_weight_type(t->type))
      return bad_model("tensor '{}' has type {}, which is no weight type", t->name, info(t->type).name);
    if (spec.layout != HfLayout::kSame) {
      if (cancelled_ && *cancelled_) return fail(ErrorCode::kCancelled, "loading was cancelled");
      std::vector<std::byte> bytes(t->data.size());
      LLORCH_OK(directory_.read(t->data, bytes.data()));
      out.data = owned_.emplace_back(turn(spec, bytes, out));
    }
    LLORCH_OK(convert(spec, out));
    tensors_.push_back(std::move(out));
    return {};
  }

  /// Whole rows stay in the file; smaller runs are copied.
  Status take_runs(const TensorSpec& spec, const TensorView& t, TensorView& out) {
    LLORCH_OK(check_shape(spec, t));
    if (info(t.type).block != 1 || !is_weight_type(t.type))
      return bad_model("tensor '{}' has type {}, which is no weight type", t.name, info(t.type).name);
    const std::uint64_t bytes = spec.runs.run * info(t.type).bytes, count = out.values() / spec.runs.run;
    std::vector<std::span<const std::byte>> pieces;
    const auto piece = [&](std::uint64_t i) { return t.data.subspan(spec.runs.from(i) * bytes, bytes); };
    if (spec.runs.run % spec.dims[0] == 0) {
      for (std::uint64_t i = 0; i < count; ++i) pieces.push_back(piece(i));
      LLORCH_TRY(out.data, stacks_.add(std::move(pieces)));
      return {};
    }
    LLORCH_TRY(const std::vector<std::byte> stored, bytes_of(t));
    auto& all = owned_.emplace_back(count * bytes);
    for (std::uint64_t i = 0; i < count; ++i)
      std::memcpy(all.data() + i * bytes, stored.data() + (piece(i).data() - t.data.data()), bytes);
    out.data = all;
    return {};
  }

  Status convert(const TensorSpec& spec, TensorView& out) {
    if (spec.value == HfValue::kStored) return {};
    std::vector<std::byte> bytes(out.data.size());
    if (std::ranges::any_of(owned_, [&](const auto& o) { return o.data() == out.data.data(); }))
      std::ranges::copy(out.data, bytes.begin());
    else
      LLORCH_OK(read(out.data, bytes.data()));
    out.data = owned_.emplace_back(converted(spec.value, out, bytes));
    out.type = DType::kF32;
    return {};
  }

  static Status check_shape(const TensorSpec& spec, const TensorView& t) {
    std::vector<std::uint64_t> want = spec.dims;
    if (spec.layout == HfLayout::kTransposed && want.size() == 2) std::swap(want[0], want[1]);
    if (spec.layout == HfLayout::kTransposedEach) std::swap(want[0], want[1]);
    if (spec.layout == HfLayout::kGateOfPairs || spec.layout == HfLayout::kUpOfPairs)
      want = {2 * spec.dims[1], spec.dims[0], spec.dims[2]};
    if (spec.layout == HfLayout::kGateBias || spec.layout == HfLayout::kUpBias) want[0] *= 2;
    if (spec.layout == HfLayout::kRuns) want = spec.runs.dims;
    if (squeezed(t.dims) != squeezed(want))
      return bad_model("tensor '{}' has a shape that the configuration does not give ([{}], expected [{}])", t.name,
                       fmt::join(t.dims.begin(), t.dims.begin() + t.n_dims, ", "), fmt::join(want, ", "));
    return {};
  }

  static std::vector<std::byte> turn(const TensorSpec& spec, std::span<const std::byte> t, const TensorView& out) {
    const std::uint64_t size = info(out.type).bytes, c = out.dims[0], r = out.dims[1], n = out.values();
    switch (spec.layout) {
      case HfLayout::kTransposed:
        return rearrange(t, size, n, [&](std::uint64_t i) { return out.n_dims == 1 ? i : (i % c) * r + i / c; });
      case HfLayout::kTransposedEach:
        return rearrange(t, size, n,
                         [&](std::uint64_t i) { return i / (c * r) * (c * r) + (i % c) * r + i % (c * r) / c; });
      case HfLayout::kRotaryPairs: {
        const std::uint64_t columns = out.n_dims == 1 ? 1 : c, rows = n / columns,
                            dim = rows / static_cast<std::uint64_t>(spec.heads);
        return rearrange(t, size, n, [=](std::uint64_t i) {
          const std::uint64_t row = i / columns, in_head = row % dim;
          return (row - in_head + in_head % 2 * (dim / 2) + in_head / 2) * columns + i % columns;
        });
      }
      case HfLayout::kGateOfPairs:
      case HfLayout::kUpOfPairs: {
        const std::uint64_t odd = spec.layout == HfLayout::kUpOfPairs;
        return rearrange(t, size, n, [=](std::uint64_t i) {
          return i / (c * r) * (2 * c * r) + (i % c) * 2 * r + 2 * (i % (c * r) / c) + odd;
        });
      }
      case HfLayout::kGateBias:
      case HfLayout::kUpBias: {
        const std::uint64_t odd = spec.layout == HfLayout::kUpBias;
        return rearrange(t, size, n, [=](std::uint64_t i) { return 2 * i + odd; });
      }
      case HfLayout::kSame:
      case HfLayout::kEach:
      case HfLayout::kRuns: break;
    }
    return {};
  }

  /// Rotary factors that GGUF stores as tensors and config.json as numbers.
  Status rope_factors(const Hyper& h, const std::vector<TensorSpec>& specs) {
    const json::object& config = directory_.config();
    const json::object* rope = json::find_object(config, "rope_parameters");
    if (!rope) rope = json::find_object(config, "rope_scaling");
    if (const json::object* full = rope ? json::find_object(*rope, "full_attention") : nullptr) rope = full;
    if (!rope) return {};
    const std::string kind =
        json::find_text(*rope, "rope_type").value_or(json::find_text(*rope, "type").value_or("default"));
    const auto number = [&](std::string_view key, double otherwise) {
      return json::find_number(*rope, key).value_or(otherwise);
    };
    const bool has_factors = std::ranges::find(specs, "rope_freqs.weight", &TensorSpec::name) != specs.end();
    if (kind == "llama3" && !has_factors) return bad_model("config.json: rope scaling 'llama3' is not supported");
    if (kind == "llama3") {
      std::vector<float> factors;
      for (const double f :
           llama3_factors(h.rotated, h.rope_base, number("factor", 8), number("low_freq_factor", 1),
                          number("high_freq_factor", 4), number("original_max_position_embeddings", 8192)))
        factors.push_back(static_cast<float>(f));
      add_vector("rope_freqs.weight", factors);
    }
    if (kind == "proportional" && has_factors) {  // pairs behind a part of the head do not turn
      std::vector<float> factors(static_cast<std::size_t>(h.rotated / 2), 1e30f);
      const double turning = std::clamp(number("partial_rotary_factor", 1), 0.0, 1.0) * h.rotated / 2;
      std::fill_n(factors.begin(), static_cast<std::size_t>(turning), 1.0f);
      add_vector("rope_freqs.weight", factors);
    }
    if ((kind == "longrope" || kind == "su") && h.arch == "phi3") {
      for (const auto& [key, name] :
           {std::pair{"short_factor", "rope_factors_short.weight"}, {"long_factor", "rope_factors_long.weight"}}) {
        const json::array* list = json::find_array(*rope, key);
        if (!list || list->size() != static_cast<std::size_t>(h.rotated / 2))
          return bad_model("config.json: rope '{}' does not have {} numbers", key, h.rotated / 2);
        std::vector<float> factors;
        for (const json::value& v : *list) factors.push_back(static_cast<float>(json::as_number(v).value_or(0)));
        add_vector(name, factors);
      }
    }
    return {};
  }

  void add_vector(const std::string& name, const std::vector<float>& values) {
    TensorView t;
    t.name = name;
    t.dims[0] = values.size();
    auto& bytes = owned_.emplace_back(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    t.data = bytes;
    tensors_.push_back(std::move(t));
  }

  SafetensorsDirectory directory_;
  CancelFlag cancelled_;
  std::unordered_map<std::string, const TensorView*> by_name_;
  std::set<const TensorView*> used_;
  std::list<std::vector<std::byte>> owned_;
  StackedTensors stacks_;
};

}  // namespace

Result<HfModel> read_hf(const json::object& config) {
  HfModel model;
  LLORCH_TRY(model.family, find_hf(config));
  LLORCH_OK(hf_check_fields(config, model.family->name));
  model.metadata.set("general.architecture", MetaValue::text(std::string(model.family->name)));
  LLORCH_OK(model.family->from_hf(config, model.metadata));
  const auto vocab = json::find_unsigned(config, "vocab_size");
  if (!vocab) return bad_model("config.json has no vocab_size");
  LLORCH_TRY(model.hyper, arch::read(*model.family, model.metadata, *vocab));
  return model;
}

Result<std::unique_ptr<WeightSource>> open_hf(const std::string& directory, CancelFlag cancelled) {
  LLORCH_TRY(SafetensorsDirectory files, SafetensorsDirectory::open(directory));
  auto source = std::make_unique<HfSource>(std::move(files), std::move(cancelled));
  LLORCH_OK(source->build());
  return source;
}

Result<std::unique_ptr<WeightSource>> open_source(const std::string& path, CancelFlag cancelled) {
  std::error_code problem;
  if (std::filesystem::is_directory(path, problem)) return open_hf(path, std::move(cancelled));
  LLORCH_TRY(auto file, GgufFile::open(path));
  return std::unique_ptr<WeightSource>(std::move(file));
}

}  // namespace llorch::arch
