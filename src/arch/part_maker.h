// Makes the parts of a model, each tensor said once: a family's one function either lists what its files hold (names
// and shapes in both formats) or names what is there, as the maker was made.
//
//   linear.weight = m.linear("attn_q", "self_attn.q_proj", dim, width)
//
// Names go without the layer's prefix and without ".weight". The first error is kept, and what is made after it does
// not count. Threads: one.
#pragma once

#include "arch/architecture.h"

namespace llorch::arch {

/// Where Hugging Face has a tensor.
struct HfTensor {
  std::string name;
  HfLayout layout = HfLayout::kSame;
  int heads = 0;
  HfRuns runs{};
  HfValue value = HfValue::kStored;
  HfTensor(const char* stored) : name(stored) {}
  HfTensor(std::string stored) : name(std::move(stored)) {}
  HfTensor(std::string stored, HfLayout how, int of_heads = 0)
      : name(std::move(stored)), layout(how), heads(of_heads) {}
  HfTensor(std::string stored, HfRuns how) : name(std::move(stored)), layout(HfLayout::kRuns), runs(std::move(how)) {}
  HfTensor(std::string stored, HfValue how) : name(std::move(stored)), value(how) {}
};

class PartMaker {
 public:
  PartMaker(std::vector<TensorSpec>& list, const Hyper& h) : list_(&list), eps(h.eps) {}
  PartMaker(Builder& in, const Hyper& h) : in_(&in), eps(h.eps) {}
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] bool listing() const { return list_ != nullptr; }

  /// Names that follow are of this layer, or of none.
  void layer(int number, std::string_view hf_format = "model.layers.{}.");
  void no_layer() { prefix_.clear(), hf_prefix_.clear(); }

  Linear linear(std::string_view name, const HfTensor& hf, int in, int out, bool bias = false);
  /// A tensor that several parts use.
  void tensor(std::string_view name, const HfTensor& hf, std::vector<int> dims, bool bias = false);
  Linear rows(std::string_view name, int first, int count);
  Linear runs(std::string_view name, int first, int count, int run, int step);
  /// As linear(), but weight.there() is false where the file has none.
  Linear optional_linear(std::string_view name, const HfTensor& hf, int in, int out);
  /// A tensor that may be there and is not used.
  void unused(std::string_view name, const HfTensor& hf, std::vector<int> dims);
  /// A tensor of a matrix for each expert, stored as it is; and `rows` of the twice as many rows of each.
  void stacked(std::string_view name, const HfTensor& hf, int in, int out, int experts);
  Linear rows_of_experts(std::string_view name, int first, int rows, int experts);
  Linear experts(std::string_view name, HfTensor hf, int in, int out, int experts);
  /// RMSNorm; its weight as `gain` says.
  Norm norm(std::string_view name, HfTensor hf, int width);
  std::optional<Norm> optional_norm(std::string_view name, const HfTensor& hf, int width);
  /// LayerNorm; without a stored bias it is 0.
  Norm layer_norm(std::string_view name, const HfTensor& hf, int width, bool bias);
  /// RMSNorm whose weights are 1.
  Norm plain_norm(int width);
  TensorId vector(std::string_view full_name, const HfTensor& hf, std::vector<int> dims,
                  SynthKind kind = SynthKind::kBias);
  TensorId transposed(std::string_view name, const HfTensor& hf, int taps, int channels);
  TensorId table(std::string_view name, const HfTensor& hf, int width, int rows);
  Linear head(const HfTensor& hf, int width, int rows);
  /// A tensor's values, where it is there and the maker does not list.
  std::vector<float> values(std::string_view full_name, const HfTensor& hf, std::vector<int> dims, bool required);
  void refuse(Error error) {
    if (status_) status_ = std::unexpected(std::move(error));
  }

 private:
  void list(const std::string& name, const HfTensor& hf, const std::string& hf_suffix, std::vector<int> dims,
            SynthKind kind, bool required = true);
  [[nodiscard]] std::string full(std::string_view name) const { return prefix_ + std::string(name); }
  template<class T>
  T take(Result<T> made) {
    if (made) return std::move(*made);
    refuse(std::move(made.error()));
    return {};
  }

  std::vector<TensorSpec>* list_ = nullptr;
  Builder* in_ = nullptr;
  std::string prefix_, hf_prefix_;
  Status status_;

 public:
  float eps;
  HfValue gain = HfValue::kStored;
};

/// A family's `tensors` and `assemble`, from its one function.
using MakeGraph = void (*)(const Hyper&, PartMaker&, Graph&);
template<MakeGraph make>
std::vector<TensorSpec> listed(const Hyper& h) {
  std::vector<TensorSpec> list;
  PartMaker maker(list, h);
  Graph graph;
  make(h, maker, graph);
  return list;
}
template<MakeGraph make>
Result<Graph> made(const Hyper& h, Builder& in) {
  PartMaker maker(in, h);
  Graph graph;
  make(h, maker, graph);
  LLORCH_OK(maker.status());
  return graph;
}

}  // namespace llorch::arch
