// A synthetic model file with one thing changed, to see that the change is noticed.
#pragma once

#include <cstring>
#include <list>

#include "format/gguf.h"
#include "golden.h"
#include "quant/table.h"

namespace llorch {

/// A synthetic file, rewritten with a change to its metadata or tensors.
class Spoiled {
 public:
  explicit Spoiled(const std::string& shape = "tiny-llama", const std::string& type = "Q8_0", std::uint64_t seed = 1) {
    arch::SynthRequest request;
    request.shape = shape, request.type = type, request.seed = seed;
    EXPECT_TRUE(arch::synthesize(request, d_ / "good.gguf"));
    source_ = open_model(d_ / "good.gguf").value();
    metadata = source_->metadata();
    for (const TensorView& t : source_->tensors()) tensors.push_back(t);
  }
  explicit Spoiled(const Golden& golden) : Spoiled(golden.shape, golden.type, golden.seed) {}

  [[nodiscard]] TensorView& tensor(const std::string& name) {
    for (TensorView& t : tensors)
      if (t.name == name) return t;
    ADD_FAILURE() << name << " is not there";
    return tensors.front();
  }
  /// The tensor's values, changed by `change`.
  void alter(const std::string& name, const std::function<void(std::span<float>)>& change) {
    TensorView& t = tensor(name);
    auto& bytes = owned_.emplace_back(bytes_of(t));
    change({reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)});
    t.data = bytes;
  }
  /// The tensor's bytes, whatever its format, changed by `change`.
  void spoil(const std::string& name, const std::function<void(std::vector<std::byte>&)>& change) {
    TensorView& t = tensor(name);
    auto& bytes = owned_.emplace_back(bytes_of(t));
    change(bytes);
    t.data = bytes;
  }
  /// Writes all matrices but one in another type; they are F32.
  [[nodiscard]] std::string write_as(const std::string& type, const std::string& but) {
    const arch::QuantizeFacts facts{2, false, false};
    for (TensorView& t : tensors) {
      const std::vector<std::uint64_t> dims(t.dims.begin(), t.dims.begin() + t.n_dims);
      const DType to = arch::choose_type(type, t.name, dims, facts).value();
      if (to == t.type || t.name == but) continue;
      const std::vector<std::byte> from = bytes_of(t);
      auto& bytes = owned_.emplace_back(t.values() / info(to).block * info(to).bytes);
      quant::row_ops(to).quantize(reinterpret_cast<const float*>(from.data()), t.values(), bytes.data());
      t.type = to, t.data = bytes;
    }
    return write();
  }
  [[nodiscard]] std::string write() {
    std::vector<GgufTensorPlan> plans;
    for (const TensorView& t : tensors)
      plans.push_back(
          {t.name, t.type, {t.dims.begin(), t.dims.begin() + t.n_dims}, [this, &t](std::span<std::byte> out) -> Status {
             const std::vector<std::byte> bytes = bytes_of(t);
             std::memcpy(out.data(), bytes.data(), std::min(out.size(), bytes.size()));
             return {};
           }});
    EXPECT_TRUE(write_gguf(d_ / "bad.gguf", metadata, plans));
    return d_ / "bad.gguf";
  }
  /// What loading says, or "loaded".
  [[nodiscard]] std::string error() {
    ModelOptions options;
    options.path = write(), options.threads = 1;
    const auto model = LoadedModel::load(options);
    return model ? "loaded" : fmt::format("{}: {}", name(model.error().code), model.error().message);
  }
  /// From the file that was opened, or from where the tensor was put since.
  [[nodiscard]] std::vector<std::byte> bytes_of(const TensorView& t) const { return source_->bytes_of(t).value(); }
  Metadata metadata;
  std::vector<TensorView> tensors;

 private:
  ScratchDirectory d_;
  std::list<std::vector<std::byte>> owned_;
  std::unique_ptr<WeightSource> source_;
};

}  // namespace llorch
