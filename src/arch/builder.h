// Names the tensors that a graph's parts are made from, checks their shapes against the family's list, and at the end
// insists that every required tensor was there and that none was left unused (E-04). Reads none but the few whose
// values shape the graph itself.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "arch/tensor_spec.h"
#include "base/work_limit.h"
#include "format/weight_source.h"
#include "model/graph.h"

namespace llorch::arch {

class Builder {
 public:
  explicit Builder(WeightSource& source) : source_(source) {}

  /// Tensors whose names begin like this are neither checked nor used.
  void ignore(std::string prefix) { ignored_.push_back(std::move(prefix)); }

  /// The source must hold every required tensor with its shape, and nothing that is not listed.
  [[nodiscard]] Status check(const std::vector<TensorSpec>& specs);
  [[nodiscard]] bool has(const std::string& name) const { return source_.find(name) != nullptr; }

  /// "<stem>.weight" as a matrix, and "<stem>.bias" where it is there.
  [[nodiscard]] Result<Linear> linear(const std::string& stem);
  /// Rows first..first+count of the same.
  [[nodiscard]] Result<Linear> linear_rows(const std::string& stem, std::uint64_t first, std::uint64_t count);
  /// `run` rows of every `step` of the same, `count` together, beginning at `first`.
  [[nodiscard]] Result<Linear> linear_runs(const std::string& stem, std::uint64_t first, std::uint64_t count,
                                           std::uint64_t run, std::uint64_t step, int parts = 1);
  /// The same for as many experts, one behind the other; the bias has a row for each.
  [[nodiscard]] Result<Linear> experts(const std::string& stem, int experts);
  /// "<stem>.weight", and "<stem>.bias" for a LayerNorm.
  [[nodiscard]] Result<Norm> norm(const std::string& stem, float eps);
  [[nodiscard]] Result<TensorId> table(const std::string& name);
  [[nodiscard]] Result<TensorId> vector(const std::string& name);
  /// All of a tensor's values in one row.
  [[nodiscard]] Result<TensorId> flat(const std::string& name);
  /// (rows, columns) floats as (columns, rows).
  [[nodiscard]] Result<TensorId> transposed(const std::string& name);
  /// `count` times `value`, of no tensor.
  [[nodiscard]] TensorId constant(float value, std::uint64_t count);
  /// A tensor's values, now.
  [[nodiscard]] Result<std::vector<float>> values(const std::string& name);
  /// The output head: "output.weight", or the token embedding where the file has none.
  [[nodiscard]] Result<Linear> head();

  /// All that was named so far. Errors: kModelLoadFailed where a tensor of the source was not.
  [[nodiscard]] Result<std::vector<TensorUse>> finish();

 private:
  [[nodiscard]] Result<const TensorView*> use(const std::string& name);
  /// What is used twice in the same way is loaded once.
  [[nodiscard]] TensorId add(TensorUse use);

  WeightSource& source_;
  std::set<std::string> used_;
  std::vector<TensorUse> tensors_;
  [[nodiscard]] bool is_ignored(std::string_view name) const;
  std::vector<std::string> ignored_;
  std::map<std::tuple<std::string, int, std::uint64_t, std::uint64_t, std::uint64_t, float>, int> ids_;  // of tensors_
};

}  // namespace llorch::arch
