#include "nn/profile_backend.h"

#include <fmt/format.h>

#include <chrono>

namespace llorch {
namespace {

class Timed final : public ProfileBackend {
 public:
  explicit Timed(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  const std::map<std::string, OpProfile>& profile() const override { return profile_; }
  void reset() override { profile_.clear(); }
  double overhead() override {
    constexpr int kCalls = 20'000;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) timed("nothing", [] {});
    const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double counted = profile_["nothing"].seconds;
    profile_.erase("nothing");
    return (all - counted) / kCalls;
  }

  std::string_view isa() const override { return inner_->isa(); }
  Result<std::unique_ptr<Weight>> matrix(const TensorView& t, const Read& read) override {
    return inner_->matrix(t, read);
  }
  bool loaded() override { return inner_->loaded(); }
  Status intact() override { return inner_->intact(); }
  Result<std::unique_ptr<Weight>> table(const TensorView& t, Read read) override {
    return inner_->table(t, std::move(read));
  }
  Result<DeviceBuffer> allocate(std::size_t floats) override { return inner_->allocate(floats); }
  void upload(std::span<const float> from, DeviceSpan to) override { inner_->upload(from, to); }
  void download(DeviceSpan from, std::span<float> to) override {
    timed("download", [&] { inner_->download(from, to); });
  }
  void copy(DeviceSpan from, DeviceSpan to) override {
    timed("copy", [&] { inner_->copy(from, to); });
  }
  Status embed(const Weight& table, std::span<const std::int32_t> ids, DeviceSpan out) override {
    Status done;
    timed("embed", [&] { done = inner_->embed(table, ids, out); });
    return done;
  }
  bool rms_norm(DeviceSpan x, DeviceSpan weight, float eps, DeviceSpan out) override {
    bool finite = true;
    timed("norm", [&] { finite = inner_->rms_norm(x, weight, eps, out); });
    return finite;
  }
  bool layer_norm(DeviceSpan x, DeviceSpan weight, DeviceSpan bias, float eps, DeviceSpan out) override {
    bool finite = true;
    timed("norm", [&] { finite = inner_->layer_norm(x, weight, bias, eps, out); });
    return finite;
  }
  bool check(DeviceSpan x, std::int64_t rows, float limit, std::span<std::uint8_t> bad) override {
    bool finite = true;
    timed("check", [&] { finite = inner_->check(x, rows, limit, bad); });
    return finite;
  }
  void linear(std::span<const LinearPart> parts, DeviceSpan x, std::int64_t rows) override {
    std::int64_t outputs = 0, bytes = 0;
    const std::int64_t columns = parts.front().weight->columns();
    for (const LinearPart& p : parts) outputs += p.weight->rows(), bytes += p.weight->bytes();
    std::string& name = product_names_[{columns, outputs}];  // made once: what is measured takes microseconds
    if (name.empty()) name = fmt::format("linear {} -> {}", columns, outputs);
    OpProfile& op = timed(name, [&] { inner_->linear(parts, x, rows); });
    op.operations += 2.0 * static_cast<double>(rows * columns * outputs);
    op.bytes += static_cast<double>(bytes);
  }
  bool activate(Activation kind, DeviceSpan gate, DeviceSpan up, float limit, float alpha, DeviceSpan out) override {
    bool finite = true;
    timed("activate", [&] { finite = inner_->activate(kind, gate, up, limit, alpha, out); });
    return finite;
  }
  void add(DeviceSpan x, DeviceSpan out) override {
    timed("add", [&] { inner_->add(x, out); });
  }
  void rope(DeviceSpan x, std::int64_t rows, int heads, int head_dim, DeviceSpan cos, DeviceSpan sin, int rotated,
            bool adjacent) override {
    timed("rope", [&] { inner_->rope(x, rows, heads, head_dim, cos, sin, rotated, adjacent); });
  }
  void gather(DeviceSpan x, std::int64_t width, std::span<const std::int32_t> indices, DeviceSpan out) override {
    timed("gather", [&] { inner_->gather(x, width, indices, out); });
  }
  void add_scaled(DeviceSpan x, float scale, DeviceSpan out) override {
    timed("add_scaled", [&] { inner_->add_scaled(x, scale, out); });
  }
  Result<std::unique_ptr<KvStore>> make_kv(const KvShape& shape) override { return inner_->make_kv(shape); }
  void kv_write(KvStore& store, int layer, std::span<const BatchRow> rows, DeviceSpan key, DeviceSpan value) override {
    timed("kv_write", [&] { inner_->kv_write(store, layer, rows, key, value); });
  }
  void attention(const AttentionCall& call, std::span<const BatchRow> rows) override {
    OpProfile& op = timed("attention", [&] { inner_->attention(call, rows); });
    const KvShape& shape = call.store->shape();
    const double item = shape.precision == KvPrecision::kF32 ? 4 : shape.precision == KvPrecision::kF16 ? 2 : 1.06;
    for (const BatchRow& row : rows) {
      const double seen = call.window > 0 ? std::min(row.position + 1, call.window) : row.position + 1;
      op.operations += 4 * seen * call.heads * shape.head_dim;
      op.bytes += 2 * seen * shape.kv_heads * shape.head_dim * item;
    }
  }

 private:
  template<class Work>
  OpProfile& timed(const std::string& name, const Work& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    OpProfile& op = profile_[name];
    op.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ++op.calls;
    return op;
  }

  std::unique_ptr<Backend> inner_;
  std::map<std::string, OpProfile> profile_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::string> product_names_;
};

}  // namespace

std::unique_ptr<ProfileBackend> ProfileBackend::wrap(std::unique_ptr<Backend> inner) {
  return std::make_unique<Timed>(std::move(inner));
}

}  // namespace llorch
