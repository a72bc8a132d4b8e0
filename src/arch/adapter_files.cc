// The two forms in which adapters are stored.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <map>

#include "arch/adapter.h"
#include "arch/architecture.h"
#include "base/limits.h"
#include "format/gguf.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "quant/table.h"

namespace llorch::arch {
namespace {

/// A and B of one matrix, before both are there.
struct Halves {
  const TensorView *a = nullptr, *b = nullptr;
};

/// All values of a tensor of any weight type.
template<class Source>
Result<std::vector<float>> floats_of(const Source& source, const TensorView& t) {
  const quant::RowOps* ops = quant::find_row_ops(t.type);
  if (!ops) return bad_model("tensor '{}' has type {}, which is no weight type", t.name, info(t.type).name);
  std::vector<std::byte> bytes(t.data.size());
  LLORCH_OK(source.read(t.data, bytes.data()));
  LLORCH_OK(quant::check_finite(t, bytes, 0));
  std::vector<float> values(t.values());
  const std::uint64_t stride = row_bytes(t.type, t.columns());
  for (std::uint64_t r = 0; r < t.rows(); ++r)
    ops->dequantize(bytes.data() + r * stride, t.columns(), values.data() + r * t.columns());
  return values;
}

/// A pair of the stored tensors of `name`, in the order in which they are stored; without its values, which are not
/// read before it is known that the model has such a matrix.
Result<StoredPair> shape_of(const std::string& name, const Halves& halves) {
  if (!halves.a || !halves.b) return bad_model("'{}' has {} alone: a pair has A and B", name, halves.a ? "A" : "B");
  for (const TensorView* t : {halves.a, halves.b})
    if (t->n_dims != 2) return bad_model("tensor '{}' has {} dimensions, a half of a pair has 2", t->name, t->n_dims);
  StoredPair pair;
  pair.tensor = pair.name = name;
  pair.inputs = halves.a->dims[0], pair.rank = halves.a->dims[1], pair.outputs = halves.b->dims[1];
  if (pair.rank < 1 || pair.rank > limits::kAdapterRankMax || halves.b->dims[0] != pair.rank)
    return bad_model("'{}' has an A of rank {} and a B of rank {}; they must be equal, and at most {}", name, pair.rank,
                     halves.b->dims[0], limits::kAdapterRankMax);
  return pair;
}

template<class Source>
Status read_values(const Source& source, const Halves& halves, StoredPair& pair) {
  LLORCH_TRY(pair.a, floats_of(source, *halves.a));
  LLORCH_TRY(pair.b, floats_of(source, *halves.b));
  return {};
}

Status check_gguf(const Metadata& metadata, const WeightSource& base) {
  LLORCH_TRY(const std::string general, metadata.text("general.type"));
  if (general != "adapter") return bad_model("'general.type' is '{}', not 'adapter'", general);
  LLORCH_TRY(const std::string kind, metadata.text("adapter.type"));
  if (kind != "lora") return bad_model("'adapter.type' is '{}'; only 'lora' is supported", kind);
  LLORCH_TRY(const std::string for_base, metadata.text("general.architecture"));
  LLORCH_TRY(const std::string is_base, base.metadata().text("general.architecture"));
  if (for_base != is_base) return bad_model("it is for architecture '{}', the model is '{}'", for_base, is_base);
  for (const Metadata::Entry& e : metadata.entries())
    if (e.key.starts_with("adapter.") && e.key != "adapter.type" && e.key != "adapter.lora.alpha")
      return bad_model("'{}' is not supported", e.key);
  return {};
}

// ---- PEFT

/// Fields of adapter_config.json that say how an adapter was trained or found, or that are read here.
constexpr std::string_view kPeftFields[] = {"alpha_pattern",
                                            "auto_mapping",
                                            "base_model_name_or_path",
                                            "corda_config",
                                            "eva_config",
                                            "exclude_modules",
                                            "fan_in_fan_out",
                                            "inference_mode",
                                            "layers_pattern",
                                            "layers_to_transform",
                                            "loftq_config",
                                            "lora_alpha",
                                            "lora_dropout",
                                            "megatron_core",
                                            "peft_type",
                                            "peft_version",
                                            "r",
                                            "rank_pattern",
                                            "qalora_group_size",
                                            "revision",
                                            "target_modules",
                                            "task_type",
                                            "use_rslora",
                                            "init_lora_weights",
                                            "bias"};

/// Nothing is asked for.
bool is_neutral(const json::value& v) {
  return v.is_null() || (v.is_bool() && !v.get_bool()) || (v.is_array() && v.get_array().empty()) ||
         (v.is_object() && v.get_object().empty()) || (v.is_string() && v.get_string().empty());
}

class PeftConfig {
 public:
  static Result<PeftConfig> read(const std::string& folder) {
    PeftConfig c;
    const std::string path = folder + "/adapter_config.json";
    LLORCH_TRY(c.root_, json::parse_file(path));
    if (!c.root_.is_object()) return bad_model("adapter_config.json is no JSON object");
    LLORCH_OK(c.check());
    return c;
  }
  /// By which B A x of this module is multiplied. Errors: another rank than the configuration says.
  [[nodiscard]] Result<double> scale(const std::string& module, std::uint64_t rank) const {
    const json::object& o = root_.get_object();
    const double want = pattern("rank_pattern", module).value_or(json::find_number(o, "r").value_or(0));
    if (want != static_cast<double>(rank))
      return bad_model("module '{}' has rank {}, adapter_config.json says {}", module, rank, want);
    const double alpha = pattern("alpha_pattern", module).value_or(json::find_number(o, "lora_alpha").value_or(0));
    const auto r = static_cast<double>(rank);
    return alpha / (json::find_bool(o, "use_rslora").value_or(false) ? std::sqrt(r) : r);
  }

 private:
  [[nodiscard]] Status check() const {
    const json::object& o = root_.get_object();
    const std::string kind = json::find_text(o, "peft_type").value_or("");
    if (kind != "LORA") return bad_model("adapter_config.json: peft_type is '{}'; only LORA is supported", kind);
    for (const auto& [key, value] : o) {
      const std::string_view name(key.data(), key.size());
      if (!is_neutral(value) && std::ranges::find(kPeftFields, name) == std::end(kPeftFields))
        return bad_model("adapter_config.json: '{}' is not supported with this value", name);
    }
    const auto fits = [&](const char* key, bool (*is)(const json::value&)) -> Status {
      const json::value* v = json::find(o, key);
      return !v || is(*v) ? Status() : bad_model("adapter_config.json: '{}' has a value of another kind", key);
    };
    for (const char* flag : {"use_rslora", "fan_in_fan_out"})
      LLORCH_OK(fits(flag, [](const json::value& v) { return v.is_bool(); }));
    for (const char* patterns : {"rank_pattern", "alpha_pattern"})
      LLORCH_OK(fits(patterns, [](const json::value& v) { return v.is_object(); }));
    LLORCH_OK(fits("bias", [](const json::value& v) { return v.is_string(); }));
    if (const std::string bias = json::find_text(o, "bias").value_or("none"); bias != "none")
      return bad_model("adapter_config.json: bias '{}' is not supported", bias);
    if (const json::value* init = json::find(o, "init_lora_weights"); init && !init->is_bool() && !init->is_null()) {
      std::string how = json::find_text(o, "init_lora_weights").value_or("");
      std::ranges::transform(how, how.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      if (how != "gaussian" && how != "eva" && how != "orthogonal")
        return bad_model(
            "adapter_config.json: init_lora_weights '{}' is not supported: it may have changed the base model's "
            "weights",
            json::find_text(o, "init_lora_weights").value_or("of another kind"));
    }
    const auto alpha = json::find_number(o, "lora_alpha");
    if (!alpha || !std::isfinite(*alpha)) return bad_model("adapter_config.json has no lora_alpha");
    if (!json::find_unsigned(o, "r")) return bad_model("adapter_config.json has no r");
    for (const char* patterns : {"rank_pattern", "alpha_pattern"}) LLORCH_OK(check_patterns(patterns));
    return {};
  }
  /// Keys are expressions; those that are plain names, whole or their ends, are understood.
  [[nodiscard]] Status check_patterns(const char* field) const {
    const json::object* patterns = json::find_object(root_.get_object(), field);
    if (!patterns) return {};
    for (const auto& [key, value] : *patterns) {
      std::string_view name(key.data(), key.size());
      if (name.starts_with('^')) name.remove_prefix(1);
      const bool plain = !name.empty() && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
      });
      const auto number = json::as_number(value);
      if (!plain || !number || !std::isfinite(*number))
        return bad_model("adapter_config.json: {} has an entry '{}' that is no plain name and number", field,
                         std::string_view(key.data(), key.size()));
    }
    return {};
  }
  [[nodiscard]] std::optional<double> pattern(const char* field, const std::string& module) const {
    const json::object* patterns = json::find_object(root_.get_object(), field);
    if (!patterns) return std::nullopt;
    for (const auto& [key, value] : *patterns) {
      std::string_view name(key.data(), key.size());
      const bool whole = name.starts_with('^');
      if (whole) name.remove_prefix(1);
      if (module == name || (!whole && module.ends_with("." + std::string(name)))) return json::as_number(value);
    }
    return std::nullopt;
  }

  json::value root_;
};

/// Names come with and without that of the whole before the body's.
std::string_view body_of(std::string_view name) {
  for (const std::string_view whole : {"transformer.", "model."})
    if (name.starts_with(whole)) return name.substr(whole.size());
  return name;
}

/// Of each row of a matrix here the row that is stored, of each column the column.
struct Order {
  std::vector<std::uint64_t> rows, columns;
};

std::vector<std::uint64_t> counted(std::uint64_t n) {
  std::vector<std::uint64_t> all(n);
  for (std::uint64_t i = 0; i < n; ++i) all[i] = i;
  return all;
}

/// Where values are stored in runs: an order of rows and one of columns, if there are such.
std::optional<Order> order_of_runs(const TensorSpec& spec) {
  const std::uint64_t columns = spec.dims[0], rows = spec.dims[1], stored = spec.runs.dims[0], run = spec.runs.run;
  const std::uint64_t step = std::min(run, columns);  // values that lie together in any case
  if (run == 0 || columns % step != 0 || run % step != 0 || stored % step != 0) return std::nullopt;
  const auto place = [&](std::uint64_t value) { return spec.runs.from(value / run) * run + value % run; };
  Order order{{}, counted(columns)};
  for (std::uint64_t c = 0; c < columns; ++c) order.columns[c] = place(c / step * step) % stored + c % step;
  for (std::uint64_t r = 0; r < rows; ++r) {
    order.rows.push_back(place(r * columns) / stored);
    for (std::uint64_t c = 0; c < columns; c += step) {
      const std::uint64_t at = place(r * columns + c);
      if (at / stored != order.rows.back() || at % stored != order.columns[c]) return std::nullopt;
    }
  }
  return order;
}

std::optional<Order> order_of(const TensorSpec& spec) {
  if (spec.dims.size() != 2 || spec.value != HfValue::kStored) return std::nullopt;
  Order order{counted(spec.dims[1]), counted(spec.dims[0])};
  switch (spec.layout) {
    case HfLayout::kSame:
    case HfLayout::kTransposed: return order;  // a pair's halves lie as for any other matrix
    case HfLayout::kRotaryPairs: {
      const std::uint64_t dim = spec.dims[1] / static_cast<std::uint64_t>(spec.heads);
      for (std::uint64_t& row : order.rows) {
        const std::uint64_t in_head = row % dim;
        row = row - in_head + in_head % 2 * (dim / 2) + in_head / 2;
      }
      return order;
    }
    case HfLayout::kRuns: return order_of_runs(spec);
    default: return std::nullopt;
  }
}

class PeftReader {
 public:
  PeftReader(SafetensorsFile file, PeftConfig config, std::vector<TensorSpec> specs, const WeightSource& base)
      : file_(std::move(file)), config_(std::move(config)), specs_(std::move(specs)), base_(base) {}

  Result<std::vector<StoredPair>> read() {
    LLORCH_OK(sort());
    std::vector<StoredPair> pairs;
    for (const auto& [module, halves] : halves_) {
      LLORCH_TRY(StoredPair stored, shape_of(module, halves));
      LLORCH_TRY(stored.scale, config_.scale(module, stored.rank));
      LLORCH_OK(translate(stored, nullptr));
      LLORCH_OK(read_values(file_, halves, stored));
      LLORCH_OK(translate(stored, &pairs));
    }
    return pairs;
  }

 private:
  Status sort() {
    constexpr std::string_view kBefore = "base_model.model.";
    for (const TensorView& t : file_.tensors()) {
      std::string_view name = t.name;
      if (!name.starts_with(kBefore)) return bad_model("tensor '{}' does not begin with '{}'", t.name, kBefore);
      name.remove_prefix(kBefore.size());
      if (name.contains(".lora_magnitude_vector")) return bad_model("tensor '{}': DoRA is not supported", t.name);
      if (name.contains(".lora_embedding_"))
        return bad_model("tensor '{}': adapters of embeddings are not supported", t.name);
      if (name.ends_with(".base_layer.weight"))
        return bad_model("tensor '{}' is a weight of the base model: save the adapter without its embedding layers",
                         t.name);
      bool found = false;
      for (const auto& [end, half] :
           {std::pair{std::string_view(".lora_A.weight"), &Halves::a}, {".lora_B.weight", &Halves::b}}) {
        if (!name.ends_with(end)) continue;
        halves_[std::string(name.substr(0, name.size() - end.size()))].*half = &t;
        found = true;
      }
      if (!found) return bad_model("tensor '{}' is no half of a low-rank pair, and not supported", t.name);
    }
    return {};
  }

  /// A module may be several tensors here, each of some rows. Without `out`: whether it fits, from its shape.
  Status translate(const StoredPair& stored, std::vector<StoredPair>* out) const {
    bool found = false;
    for (const TensorSpec& spec : specs_) {
      if (spec.hf.empty() || !names(spec, stored.tensor)) continue;
      if (!spec.required && spec.name != "output.weight" && !base_.find(spec.name)) continue;
      LLORCH_TRY(const Order order, fitting_order(stored, spec));
      if (out) out->push_back(translated(stored, spec, order));
      found = true;
    }
    return found ? Status() : bad_model("module '{}' is no matrix of this model", stored.tensor);
  }
  static bool names(const TensorSpec& spec, std::string_view module) {
    if (spec.layout == HfLayout::kEach) {
      const std::string_view hf = body_of(spec.hf);
      const std::size_t number = hf.find("{}");
      std::string_view after = hf.substr(number + 2);
      if (after.ends_with(".weight")) after.remove_suffix(7);
      return body_of(module).starts_with(hf.substr(0, number)) && module.ends_with(after);
    }
    return body_of(spec.hf) == std::string(body_of(module)) + ".weight";
  }
  static Result<Order> fitting_order(const StoredPair& stored, const TensorSpec& spec) {
    if (spec.layout == HfLayout::kEach)
      return bad_model("module '{}' is an expert of a mixture: adapters of experts are not supported", stored.tensor);
    const std::optional<Order> order = order_of(spec);
    if (!order)
      return bad_model("module '{}' cannot be adapted: the model has its values in another order", stored.tensor);
    const bool runs = spec.layout == HfLayout::kRuns;
    const std::uint64_t inputs = runs ? spec.runs.dims[0] : spec.dims[0];
    std::uint64_t outputs = runs ? 1 : spec.dims[1];
    for (std::size_t d = 1; runs && d < spec.runs.dims.size(); ++d) outputs *= spec.runs.dims[d];
    if (stored.inputs != inputs || stored.outputs != outputs)
      return bad_model("module '{}' has a pair for {} outputs and {} inputs, the model has {} and {}", stored.tensor,
                       stored.outputs, stored.inputs, outputs, inputs);
    return *order;
  }
  static StoredPair translated(const StoredPair& stored, const TensorSpec& spec, const Order& order) {
    StoredPair pair{spec.name, stored.name, stored.rank, spec.dims[0], spec.dims[1], {}, {}, stored.scale};
    for (std::uint64_t j = 0; j < pair.rank; ++j)
      for (const std::uint64_t column : order.columns) pair.a.push_back(stored.a[j * stored.inputs + column]);
    for (const std::uint64_t row : order.rows)
      for (std::uint64_t j = 0; j < pair.rank; ++j) pair.b.push_back(stored.b[row * pair.rank + j]);
    return pair;
  }

  SafetensorsFile file_;
  PeftConfig config_;
  std::vector<TensorSpec> specs_;
  const WeightSource& base_;
  std::map<std::string, Halves> halves_;  // by module
};

}  // namespace

Result<std::vector<StoredPair>> read_gguf_pairs(const std::string& path, const WeightSource& base) {
  LLORCH_TRY(const auto file, GgufFile::open(path));
  LLORCH_OK(check_gguf(file->metadata(), base));
  LLORCH_TRY(const double alpha, file->metadata().number("adapter.lora.alpha"));
  if (!std::isfinite(alpha)) return bad_model("'adapter.lora.alpha' is {}", alpha);
  std::map<std::string, Halves> halves;
  for (const TensorView& t : file->tensors()) {
    const bool is_a = t.name.ends_with(".lora_a");
    if (!is_a && !t.name.ends_with(".lora_b"))
      return bad_model("tensor '{}' is no half of a low-rank pair, and not supported", t.name);
    Halves& both = halves[t.name.substr(0, t.name.size() - 7)];
    (is_a ? both.a : both.b) = &t;
  }
  std::vector<StoredPair> pairs;
  for (const auto& [tensor, both] : halves) {
    LLORCH_TRY(StoredPair pair, shape_of(tensor, both));
    const TensorView* whole = base.find(tensor);
    if (!whole && tensor == "output.weight") whole = base.find("token_embd.weight");
    if (!whole) return bad_model("'{}' is not in this model", tensor);
    LLORCH_OK(check_shape(pair, *whole));
    LLORCH_OK(read_values(*file, both, pair));
    pair.scale = alpha == 0 ? 1 : alpha / static_cast<double>(pair.rank);
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

Result<std::vector<StoredPair>> read_peft_pairs(const std::string& folder, const WeightSource& base) {
  LLORCH_TRY(PeftConfig config, PeftConfig::read(folder));
  const std::string weights = folder + "/adapter_model.safetensors";
  std::error_code problem;
  if (!std::filesystem::exists(weights, problem) && std::filesystem::exists(folder + "/adapter_model.bin", problem))
    return bad_model("{} holds adapter_model.bin, which can run code when read: convert it to safetensors", folder);
  LLORCH_TRY(SafetensorsFile file, SafetensorsFile::open(weights));
  LLORCH_TRY(const std::string name, base.metadata().text("general.architecture"));
  LLORCH_TRY(const Architecture* family, find(name));
  const TensorView* embedding = base.find("token_embd.weight");
  if (!embedding) return bad_model("tensor 'token_embd.weight' is missing");
  LLORCH_TRY(const Hyper hyper, arch::read(*family, base.metadata(), embedding->rows()));
  return PeftReader(std::move(file), std::move(config), family->tensors(hyper), base).read();
}

}  // namespace llorch::arch
