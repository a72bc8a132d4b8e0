#include "arch/part_maker.h"

namespace llorch::arch {

void PartMaker::layer(int number, std::string_view hf_format) {
  prefix_ = fmt::format("blk.{}.", number);
  hf_prefix_ = fmt::format(fmt::runtime(hf_format), number);
}

void PartMaker::list(const std::string& name, const HfTensor& hf, const std::string& hf_suffix, std::vector<int> dims,
                     SynthKind kind, bool required) {
  TensorSpec spec{name,      {},      hf.name.empty() ? "" : hf_prefix_ + hf.name + hf_suffix, kind, required,
                  hf.layout, hf.heads};
  for (const int d : dims) spec.dims.push_back(static_cast<std::uint64_t>(d));
  spec.runs = hf.runs, spec.value = hf.value;
  list_->push_back(std::move(spec));
}

void PartMaker::tensor(std::string_view name, const HfTensor& hf, std::vector<int> dims, bool bias) {
  if (!list_) return;
  list(full(name) + ".weight", hf, ".weight", dims, SynthKind::kMatrix);
  if (!bias) return;
  HfTensor of_bias = hf;
  if (hf.layout != HfLayout::kRotaryPairs) of_bias.layout = HfLayout::kSame;
  list(full(name) + ".bias", of_bias, ".bias", {dims.back()}, SynthKind::kBias);
}

Linear PartMaker::linear(std::string_view name, const HfTensor& hf, int in, int out, bool bias) {
  tensor(name, hf, {in, out}, bias);
  return list_ ? Linear{} : take(in_->linear(full(name)));
}

Linear PartMaker::rows(std::string_view name, int first, int count) {
  if (list_) return {};
  return take(in_->linear_rows(full(name), static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(count)));
}

Linear PartMaker::runs(std::string_view name, int first, int count, int run, int step) {
  if (list_) return {};
  return take(in_->linear_runs(full(name), static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(count),
                               static_cast<std::uint64_t>(run), static_cast<std::uint64_t>(step)));
}

Linear PartMaker::optional_linear(std::string_view name, const HfTensor& hf, int in, int out) {
  if (list_) list(full(name) + ".weight", hf, ".weight", {in, out}, SynthKind::kMatrix, false);
  if (list_ || !in_->has(full(name) + ".weight")) return {};
  return take(in_->linear(full(name)));
}

void PartMaker::unused(std::string_view name, const HfTensor& hf, std::vector<int> dims) {
  if (list_)
    list(full(name) + ".weight", hf, ".weight", std::move(dims), SynthKind::kMatrix, false);
  else
    in_->ignore(full(name) + ".weight");
}

void PartMaker::stacked(std::string_view name, const HfTensor& hf, int in, int out, int experts) {
  if (list_) list(full(name) + ".weight", hf, "", {in, out, experts}, SynthKind::kMatrix);
}

Linear PartMaker::rows_of_experts(std::string_view name, int first, int rows, int experts) {
  if (list_) return {};
  const auto count = static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(experts);
  return take(in_->linear_runs(full(name), static_cast<std::uint64_t>(first), count, static_cast<std::uint64_t>(rows),
                               2 * static_cast<std::uint64_t>(rows), experts));
}

Linear PartMaker::experts(std::string_view name, HfTensor hf, int in, int out, int experts) {
  if (!list_) return take(in_->experts(full(name), experts));
  const bool each = hf.name.find("{}") != std::string::npos;
  if (each) hf.layout = HfLayout::kEach;
  list(full(name) + ".weight", hf, each ? ".weight" : "", {in, out, experts}, SynthKind::kMatrix);
  return {};
}

Norm PartMaker::norm(std::string_view name, HfTensor hf, int width) {
  if (hf.value == HfValue::kStored) hf.value = gain;
  if (list_) list(full(name) + ".weight", hf, ".weight", {width}, SynthKind::kGain);
  return list_ ? Norm{} : take(in_->norm(full(name), eps));
}

std::optional<Norm> PartMaker::optional_norm(std::string_view name, const HfTensor& hf, int width) {
  if (list_) list(full(name) + ".weight", hf, ".weight", {width}, SynthKind::kGain, false);
  if (list_ || !in_->has(full(name) + ".weight")) return {};
  return take(in_->norm(full(name), eps));
}

Norm PartMaker::layer_norm(std::string_view name, const HfTensor& hf, int width, bool bias) {
  if (list_) list(full(name) + ".weight", hf, ".weight", {width}, SynthKind::kGain);
  if (list_ && bias) list(full(name) + ".bias", hf, ".bias", {width}, SynthKind::kBias);
  if (list_) return {};
  Norm norm = take(in_->norm(full(name), eps));
  if (!bias) norm.bias = in_->constant(0, static_cast<std::uint64_t>(width));
  return norm;
}

Norm PartMaker::plain_norm(int width) {
  return list_ ? Norm{} : Norm{in_->constant(1, static_cast<std::uint64_t>(width)), {}, eps};
}

TensorId PartMaker::vector(std::string_view full_name, const HfTensor& hf, std::vector<int> dims, SynthKind kind) {
  if (list_) list(full(full_name), hf, "", std::move(dims), kind);
  return list_ ? TensorId{} : take(in_->flat(full(full_name)));
}

TensorId PartMaker::transposed(std::string_view name, const HfTensor& hf, int taps, int channels) {
  if (list_) list(full(name) + ".weight", hf, ".weight", {taps, channels}, SynthKind::kMatrix);
  return list_ ? TensorId{} : take(in_->transposed(full(name) + ".weight"));
}

TensorId PartMaker::table(std::string_view name, const HfTensor& hf, int width, int rows) {
  if (list_) list(full(name) + ".weight", hf, ".weight", {width, rows}, SynthKind::kMatrix);
  return list_ ? TensorId{} : take(in_->table(full(name) + ".weight"));
}

Linear PartMaker::head(const HfTensor& hf, int width, int rows) {
  if (list_) list("output.weight", hf, ".weight", {width, rows}, SynthKind::kMatrix, false);
  return list_ ? Linear{} : take(in_->head());
}

std::vector<float> PartMaker::values(std::string_view full_name, const HfTensor& hf, std::vector<int> dims,
                                     bool required) {
  if (list_) list(full(full_name), hf, "", std::move(dims), SynthKind::kFactors, required);
  if (list_ || !in_->has(full(full_name))) return {};
  return take(in_->values(full(full_name)));
}

}  // namespace llorch::arch
