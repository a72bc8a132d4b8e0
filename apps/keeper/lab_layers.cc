#include "keeper/lab_layers.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/mapped_file.h"
#include "format/npy.h"

namespace llorch::keeper {
namespace {

struct Matrix {
  std::vector<float> values;
  std::size_t rows = 0, columns = 0;
  [[nodiscard]] std::span<const float> row(std::size_t i) const {
    return std::span(values).subspan(i * columns, columns);
  }
};

/// Empty: there is no such file.
Result<Matrix> read_matrix(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name + ".npy";
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) return Matrix{};
  LLORCH_TRY(const MappedFile file, MappedFile::open(path));
  LLORCH_TRY(const NpyArray array, parse_npy(file.bytes(), path));
  if (array.type != "<f4" || array.shape.size() != 2)
    return fail(ErrorCode::kInvalidRequest, "{} is no matrix of float32", path);
  Matrix m{std::vector<float>(array.values()), static_cast<std::size_t>(array.shape[0]),
           static_cast<std::size_t>(array.shape[1])};
  std::memcpy(m.values.data(), array.data.data(), array.data.size());
  return m;
}

std::string layer_name(int i, const char* what) { return fmt::format("layer_{:02}.{}", i, what); }

double length_of(std::span<const float> v) {
  double sum = 0;
  for (const float x : v) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

/// The weight of an RMS norm, from what went in and what came out: least squares over the positions. Empty: not known.
std::vector<double> norm_weight(const Matrix& in, const Matrix& out) {
  if (in.values.empty() || in.rows != out.rows || in.columns != out.columns) return {};
  std::vector<double> products(in.columns), squares(in.columns);
  for (std::size_t r = 0; r < in.rows; ++r) {
    const double rms = length_of(in.row(r)) / std::sqrt(static_cast<double>(in.columns));
    if (!(rms > 0) || !std::isfinite(rms)) continue;
    for (std::size_t c = 0; c < in.columns; ++c) {
      const double x = in.row(r)[c] / rms;
      products[c] += x * out.row(r)[c], squares[c] += x * x;
    }
  }
  for (std::size_t c = 0; c < in.columns; ++c) products[c] = squares[c] > 0 ? products[c] / squares[c] : 0;
  return products;
}
double weights_apart(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size() || a.empty()) return 1;
  double off = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) off += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
  return size > 0 ? std::sqrt(off / size) : 1;
}

Result<std::vector<std::vector<double>>> norm_weights(const std::string& folder, int layers) {
  std::vector<std::vector<double>> out;
  for (int i = 0; i < layers; ++i) {
    LLORCH_TRY(const Matrix in, read_matrix(folder, i == 0 ? "embedding" : layer_name(i - 1, "output")));
    LLORCH_TRY(const Matrix normed, read_matrix(folder, layer_name(i, "attn_norm")));
    out.push_back(norm_weight(in, normed));
  }
  return out;
}

/// Layers of the engine that have the weights of another of the truth's.
void name_swapped(const std::vector<std::vector<double>>& truth, const std::vector<std::vector<double>>& engine,
                  std::vector<Finding>& findings) {
  constexpr double kSame = 0.01, kOther = 0.05;
  for (std::size_t i = 0; i < engine.size(); ++i) {
    if (engine[i].empty() || weights_apart(engine[i], truth[i]) < kOther) continue;
    for (std::size_t j = 0; j < truth.size(); ++j) {
      if (j == i || !(weights_apart(engine[i], truth[j]) < kSame)) continue;
      const bool both = weights_apart(engine[j], truth[i]) < kSame;
      if (both && j < i) continue;  // named already
      findings.push_back({"swapped_layers", both ? fmt::format("layers {} and {} are swapped", i, j)
                                                 : fmt::format("layer {} has the weights of layer {}", i, j)});
    }
  }
}

Status add_checkpoint(LayerMap& map, const std::string& name, const std::string& truth, const std::string& engine,
                      double tolerance) {
  LLORCH_TRY(const Matrix theirs, read_matrix(truth, name));
  LLORCH_TRY(const Matrix mine, read_matrix(engine, name));
  if (theirs.values.empty() || mine.values.empty()) return {};
  if (theirs.columns != mine.columns)
    return fail(ErrorCode::kInvalidRequest, "{} has {} columns in {} and {} in {}", name, theirs.columns, truth,
                mine.columns, engine);
  std::vector<double>& row = map.difference.emplace_back();
  map.names.push_back(name);
  for (std::size_t r = 0; r < std::min(theirs.rows, mine.rows); ++r) {
    double off = 0;
    for (std::size_t c = 0; c < mine.columns; ++c) {
      const double d = static_cast<double>(mine.row(r)[c]) - theirs.row(r)[c];
      off += d * d;
    }
    const double size = length_of(theirs.row(r));
    row.push_back(size > 0 ? std::sqrt(off) / size : std::sqrt(off));
    if (map.first.empty() && !(row.back() <= tolerance)) map.first = name;
  }
  return {};
}

}  // namespace

Result<LayerMap> compare_layers(const std::string& truth, const std::string& engine, double tolerance) {
  LayerMap map;
  std::error_code problem;
  int layers = 0;
  while (std::filesystem::exists(truth + "/" + layer_name(layers, "output.npy"), problem) &&
         std::filesystem::exists(engine + "/" + layer_name(layers, "output.npy"), problem))
    ++layers;
  if (layers == 0) return map;
  LLORCH_OK(add_checkpoint(map, "embedding", truth, engine, tolerance));
  for (int i = 0; i < layers; ++i) LLORCH_OK(add_checkpoint(map, layer_name(i, "output"), truth, engine, tolerance));
  LLORCH_OK(add_checkpoint(map, "final_norm", truth, engine, tolerance));
  LLORCH_TRY(const auto theirs, norm_weights(truth, layers));
  LLORCH_TRY(const auto mine, norm_weights(engine, layers));
  name_swapped(theirs, mine, map.findings);
  return map;
}

}  // namespace llorch::keeper
