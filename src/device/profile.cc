#include "device/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace llorch {
namespace {

class Timed final : public ProfileDevice {
 public:
  using ProfileDevice::ProfileDevice;

  const std::map<std::string, OpProfile>& profile() const override { return profile_; }
  void reset() override { profile_.clear(); }
  double overhead() override {
    constexpr int kTries = 50, kCalls = 400;
    double least = HUGE_VAL;  // of tries: others may take the processor in the midst of one
    for (int t = 0; t < kTries; ++t) {
      profile_.erase("nothing");
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kCalls; ++i) take("nothing", [](Device&) {});
      const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      least = std::min(least, all - profile_["nothing"].seconds);
    }
    profile_.erase("nothing");
    return least / kCalls;
  }

  void begin(const StepPlan& plan, Cache& cache) override {
    rows_ = plan.rows;
    cache_ = &cache;
    inner().begin(plan, cache);
  }
  void linear(std::span<const LinearPart> parts, FloatSpan x) override {
    std::int64_t outputs = 0, bytes = 0;
    const std::int64_t columns = parts.front().weight->columns();
    for (const LinearPart& p : parts) outputs += p.weight->rows(), bytes += p.weight->bytes();
    std::string& name = product_names_[{columns, outputs}];  // made once: what is measured takes microseconds
    if (name.empty()) name = fmt::format("linear {} -> {}", columns, outputs);
    OpProfile& op = timed(name, [&] { inner().linear(parts, x); });
    op.operations += 2.0 * static_cast<double>(x.rows() * columns * outputs);
    op.bytes += static_cast<double>(bytes);
  }
  void moe(const MoeCall& call) override {
    OpProfile& op = timed("experts", [&] { inner().moe(call); });
    double bytes = 0;
    for (const Weight* w : {call.gate, call.up, call.down}) {
      if (!w) continue;
      op.operations += 2.0 * static_cast<double>(call.x.rows() * call.routing.active * w->rows() * w->columns());
      bytes += static_cast<double>(w->bytes()) / static_cast<double>(w->parts());
    }
    const auto most = static_cast<double>(call.x.rows() * call.routing.active);
    op.bytes += bytes * std::min(most, static_cast<double>(call.up->parts()));
  }
  void attend(const AttentionCall& call) override {
    OpProfile& op = timed("attention", [&] { inner().attend(call); });
    const KvPrecision precision = cache_->shape().precision;
    const CacheLayer& layer = cache_->shape().layers[static_cast<std::size_t>(call.layer)];
    const double item = precision == KvPrecision::kF32 ? 4 : precision == KvPrecision::kF16 ? 2 : 1.06;
    for (const StepPlan::Row& row : rows_) {
      const double seen = call.window > 0 ? std::min(row.position + 1, call.window) : row.position + 1;
      op.operations += 4 * seen * call.heads * layer.head_dim;
      op.bytes += 2 * seen * layer.kv_heads * layer.head_dim * item;
    }
  }

 protected:
  void take(const char* name, Operation operation) override {
    timed(name, [&] { operation(inner()); });
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

  std::map<std::string, OpProfile> profile_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::string> product_names_;
  std::vector<StepPlan::Row> rows_;
  Cache* cache_ = nullptr;
};

}  // namespace

std::unique_ptr<ProfileDevice> ProfileDevice::wrap(std::unique_ptr<Device> inner) {
  return std::make_unique<Timed>(std::move(inner));
}

}  // namespace llorch
