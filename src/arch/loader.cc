#include "arch/loader.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "quant/table.h"

namespace llorch::arch {
namespace {

std::string shape_text(std::span<const std::uint64_t> dims) { return fmt::format("[{}]", fmt::join(dims, ", ")); }

}  // namespace

Status Loader::check(const std::vector<TensorSpec>& specs) {
  std::unordered_map<std::string_view, const TensorSpec*> known;
  for (const TensorSpec& spec : specs) {
    known.emplace(spec.name, &spec);
    if (spec.required && !has(spec.name)) return bad_model("tensor '{}' is missing", spec.name);
  }
  for (const TensorView& t : source_.tensors()) {
    const auto found = known.find(t.name);
    if (found == known.end()) return bad_model("tensor '{}' is not used by this architecture", t.name);
    std::vector<std::uint64_t> dims(t.dims.begin(), t.dims.begin() + t.n_dims), want = found->second->dims;
    while (dims.size() > 1 && dims.back() == 1) dims.pop_back();
    while (want.size() > 1 && want.back() == 1) want.pop_back();
    if (dims != want)
      return bad_model("tensor '{}' has shape {}, expected {}", t.name, shape_text(dims), shape_text(want));
    if (!is_weight_type(t.type))
      return bad_model("tensor '{}' has type {}, which is no weight type", t.name, info(t.type).name);
  }
  return {};
}

Result<const TensorView*> Loader::use(const std::string& name) {
  const TensorView* t = source_.find(name);
  if (!t) return bad_model("tensor '{}' is missing", name);
  if (used_.insert(name).second && progress) {
    if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer_);
    const bool all = used_.size() == source_.tensors().size();
    progress({used_.size(), source_.tensors().size(), all ? layers : std::max(layer_, 0), layers});
  }
  return t;
}

Result<std::unique_ptr<Weight>> Loader::matrix(const TensorView& whole, std::uint64_t first, std::uint64_t count) {
  if (first + count > whole.rows()) return bad_model("tensor '{}' has too few rows", whole.name);
  return backend_.matrix(whole.slice(first, count), reader());
}

Backend::Read Loader::reader() const {
  return [source = &source_, cancelled = cancelled_](std::span<const std::byte> part, std::byte* to) -> Status {
    if (cancelled && cancelled->load(std::memory_order_relaxed))
      return fail(ErrorCode::kCancelled, "loading was cancelled");
    return source->read(part, to);
  };
}

Result<Linear> Loader::linear(const std::string& stem) {
  LLORCH_TRY(const TensorView* t, use(stem + ".weight"));
  return linear_rows(stem, 0, t->rows());
}

Result<Linear> Loader::linear_rows(const std::string& stem, std::uint64_t first, std::uint64_t count) {
  Linear linear;
  LLORCH_TRY(const TensorView* t, use(stem + ".weight"));
  LLORCH_TRY(linear.weight, matrix(*t, first, count));
  if (has(stem + ".bias")) {
    LLORCH_TRY(const std::vector<float> all, values(stem + ".bias"));
    if (first + count > all.size()) return bad_model("tensor '{}.bias' has too few values", stem);
    LLORCH_TRY(linear.bias, backend_.allocate(count));
    backend_.upload({all.data() + first, count}, linear.bias.span());
  }
  return linear;
}

Result<Norm> Loader::norm(const std::string& stem, float eps) {
  Norm norm;
  norm.eps = eps;
  LLORCH_TRY(const TensorView* weight, use(stem + ".weight"));
  LLORCH_TRY(norm.weight, backend_.vector(*weight, reader()));
  if (has(stem + ".bias")) {
    LLORCH_TRY(const TensorView* bias, use(stem + ".bias"));
    LLORCH_TRY(norm.bias, backend_.vector(*bias, reader()));
  }
  return norm;
}

Result<std::unique_ptr<Weight>> Loader::table(const std::string& name) {
  LLORCH_TRY(const TensorView* t, use(name));
  if (t->type == DType::kMXFP4) {  // its rows would be NaN (E-08); those of other types are looked at as they come
    std::vector<std::byte> row(row_bytes(t->type, t->columns()));
    for (std::uint64_t r = 0; r < t->rows(); ++r) {
      LLORCH_OK(reader()(t->data.subspan(r * row.size(), row.size()), row.data()));
      LLORCH_OK(quant::check_finite(*t, row, r));
    }
  }
  return backend_.table(*t, [source = &source_](auto part, std::byte* to) { return source->read(part, to); });
}

Result<std::vector<float>> Loader::values(const std::string& name) {
  LLORCH_TRY(const TensorView* t, use(name));
  std::vector<std::byte> bytes(t->data.size());
  LLORCH_OK(reader()(t->data, bytes.data()));
  LLORCH_OK(quant::check_finite(*t, bytes, 0));
  std::vector<float> out(t->values());
  const std::uint64_t stride = row_bytes(t->type, t->columns());
  for (std::uint64_t r = 0; r < t->rows(); ++r)
    quant::row_ops(t->type).dequantize(bytes.data() + r * stride, t->columns(), out.data() + r * t->columns());
  return out;
}

Result<Linear> Loader::head() {
  if (has("output.weight")) return linear("output");
  LLORCH_TRY(const TensorView* t, use("token_embd.weight"));
  Linear linear;
  LLORCH_TRY(linear.weight, matrix(*t, 0, t->rows()));
  return linear;
}

Status Loader::finish() {
  for (const TensorView& t : source_.tensors())
    if (!used_.contains(t.name)) return bad_model("tensor '{}' was not used by the model", t.name);
  return source_.unchanged({});
}

}  // namespace llorch::arch
