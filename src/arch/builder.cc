#include "arch/builder.h"

#include <algorithm>
#include <unordered_map>

#include "quant/table.h"

namespace llorch::arch {
namespace {

std::string shape_text(std::span<const std::uint64_t> dims) { return fmt::format("[{}]", fmt::join(dims, ", ")); }

}  // namespace

Status Builder::check(const std::vector<TensorSpec>& specs) {
  std::unordered_map<std::string_view, const TensorSpec*> known;
  for (const TensorSpec& spec : specs) {
    known.emplace(spec.name, &spec);
    if (spec.required && !has(spec.name)) return bad_model("tensor '{}' is missing", spec.name);
  }
  for (const TensorView& t : source_.tensors()) {
    if (is_ignored(t.name)) continue;
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

bool Builder::is_ignored(std::string_view name) const {
  return std::ranges::any_of(ignored_, [&](const std::string& prefix) { return name.starts_with(prefix); });
}

Result<const TensorView*> Builder::use(const std::string& name) {
  const TensorView* t = source_.find(name);
  if (!t) return bad_model("tensor '{}' is missing", name);
  used_.insert(name);
  return t;
}

TensorId Builder::add(TensorUse use) {
  const auto [at, fresh] =
      ids_.try_emplace({use.tensor, static_cast<int>(use.as), use.first, use.count, use.run, use.value},
                       static_cast<int>(tensors_.size()));
  if (fresh) tensors_.push_back(std::move(use));
  return {at->second};
}

Result<Linear> Builder::linear(const std::string& stem) {
  LLORCH_TRY(const TensorView* t, use(stem + ".weight"));
  return linear_rows(stem, 0, t->rows());
}

Result<Linear> Builder::linear_rows(const std::string& stem, std::uint64_t first, std::uint64_t count) {
  Linear linear;
  LLORCH_TRY(const TensorView* t, use(stem + ".weight"));
  if (first + count > t->rows()) return bad_model("tensor '{}' has too few rows", t->name);
  linear.weight = add({TensorUse::As::kMatrix, t->name, first, count});
  linear.outputs = static_cast<std::int64_t>(count);
  if (has(stem + ".bias")) {
    LLORCH_TRY(const TensorView* bias, use(stem + ".bias"));
    linear.bias = add({TensorUse::As::kVector, bias->name, first, count});
  }
  return linear;
}

Result<Linear> Builder::linear_runs(const std::string& stem, std::uint64_t first, std::uint64_t count,
                                    std::uint64_t run, std::uint64_t step, int parts) {
  Linear linear;
  LLORCH_TRY(const TensorView* t, use(stem + ".weight"));
  TensorUse rows{TensorUse::As::kMatrix, t->name, first, count};
  rows.run = run, rows.step = step, rows.parts = parts;
  linear.weight = add(rows);
  linear.outputs = static_cast<std::int64_t>(count) / parts;
  if (has(stem + ".bias")) {
    LLORCH_TRY(const TensorView* bias, use(stem + ".bias"));
    rows.as = TensorUse::As::kVector, rows.tensor = bias->name;
    linear.bias = add(rows);
  }
  return linear;
}

Result<Linear> Builder::experts(const std::string& stem, int experts) {
  Linear linear;
  LLORCH_TRY(const TensorView* t, use(stem + ".weight"));
  linear.weight = add({TensorUse::As::kMatrix, t->name, 0, 0, experts});
  linear.outputs = static_cast<std::int64_t>(t->rows()) / experts;
  if (has(stem + ".bias")) {
    LLORCH_TRY(linear.bias, vector(stem + ".bias"));
  }
  return linear;
}

Result<Norm> Builder::norm(const std::string& stem, float eps) {
  Norm norm;
  norm.eps = eps;
  LLORCH_TRY(norm.weight, vector(stem + ".weight"));
  if (has(stem + ".bias")) {
    LLORCH_TRY(norm.bias, vector(stem + ".bias"));
  }
  return norm;
}

Result<TensorId> Builder::table(const std::string& name) {
  LLORCH_TRY(const TensorView* t, use(name));
  return add({TensorUse::As::kTable, t->name});
}

Result<TensorId> Builder::vector(const std::string& name) {
  LLORCH_TRY(const TensorView* t, use(name));
  return add({TensorUse::As::kVector, t->name});
}

Result<TensorId> Builder::flat(const std::string& name) {
  LLORCH_TRY(const TensorView* t, use(name));
  return add({TensorUse::As::kVector, t->name, 0, t->values()});
}

Result<TensorId> Builder::transposed(const std::string& name) {
  LLORCH_TRY(const TensorView* t, use(name));
  return add({TensorUse::As::kTransposed, t->name});
}

TensorId Builder::constant(float value, std::uint64_t count) {
  TensorUse use{TensorUse::As::kConstant, "", 0, count};
  use.value = value;
  return add(std::move(use));
}

Result<std::vector<float>> Builder::values(const std::string& name) {
  LLORCH_TRY(const TensorView* t, use(name));
  std::vector<std::byte> bytes(t->data.size());
  LLORCH_OK(source_.read(t->data, bytes.data()));
  LLORCH_OK(quant::check_finite(*t, bytes, 0));
  std::vector<float> out(t->values());
  const std::uint64_t stride = row_bytes(t->type, t->columns());
  for (std::uint64_t r = 0; r < t->rows(); ++r)
    quant::row_ops(t->type).dequantize(bytes.data() + r * stride, t->columns(), out.data() + r * t->columns());
  return out;
}

Result<Linear> Builder::head() {
  if (has("output.weight")) return linear("output");
  LLORCH_TRY(const TensorView* t, use("token_embd.weight"));
  return Linear{add({TensorUse::As::kMatrix, t->name}), {}, static_cast<std::int64_t>(t->rows())};
}

Result<std::vector<TensorUse>> Builder::finish() {
  for (const TensorView& t : source_.tensors())
    if (!used_.contains(t.name) && !is_ignored(t.name))
      return bad_model("tensor '{}' was not used by the model", t.name);
  return std::move(tensors_);
}

}  // namespace llorch::arch
