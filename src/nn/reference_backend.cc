#include "nn/reference_backend.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/limits.h"
#include "base/thread_pool.h"
#include "nn/host_backend.h"
#include "quant/table.h"

namespace llorch {
namespace {

class ReferenceKvStore final : public KvStore {
 public:
  ReferenceKvStore(const KvShape& shape, AlignedBuffer memory) : KvStore(shape), memory_(std::move(memory)) {}
  /// head_dim floats of one position; which: 0 key, 1 value.
  [[nodiscard]] float* at(int layer, int head, const BatchRow& row, std::int64_t position, int which) const {
    const KvShape& s = shape();
    const std::int64_t page = row.pages[position / limits::kKvPagePositions];
    const std::int64_t index =
        (((static_cast<std::int64_t>(layer) * s.kv_heads + head) * s.pages + page) * limits::kKvPagePositions +
         position % limits::kKvPagePositions) *
            2 +
        which;
    return reinterpret_cast<float*>(memory_.data()) + index * s.head_dim;
  }
  [[nodiscard]] std::size_t bytes() const override { return memory_.size(); }

 private:
  AlignedBuffer memory_;
};

class ReferenceBackend final : public HostBackend {
 public:
  explicit ReferenceBackend(int threads) : pool_(threads) {}
  std::string_view isa() const override { return "reference"; }
  Result<std::unique_ptr<Weight>> matrix(const TensorView& tensor, const Read& read) override {
    if (!quant::find_row_ops(tensor.type)) return table(tensor, {});  // which says what is wrong
    AlignedBuffer bytes;
    if (read) {
      LLORCH_TRY(bytes, AlignedBuffer::make(tensor.data.size()));
      constexpr std::size_t kReadMost = 32 << 20;  // between two times that loading may be cancelled
      for (std::size_t i = 0; i < tensor.data.size(); i += kReadMost)
        LLORCH_OK(read(tensor.data.subspan(i, std::min(kReadMost, tensor.data.size() - i)), bytes.data() + i));
    }
    LLORCH_OK(quant::check_finite(
        tensor, read ? std::span<const std::byte>(bytes.data(), tensor.data.size()) : tensor.data, 0));
    return std::make_unique<RawWeight>(tensor, Read{}, std::move(bytes));
  }

  bool rms_norm(DeviceSpan x, DeviceSpan weight, float eps, DeviceSpan out) override {
    const std::size_t n = weight.size();
    for (std::size_t r = 0; r < x.size() / n; ++r) {
      double squares = 0;
      for (std::size_t i = 0; i < n; ++i) squares += square(at(x)[r * n + i]);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
      for (std::size_t i = 0; i < n; ++i)
        at(out)[r * n + i] = static_cast<float>(at(x)[r * n + i] * scale * at(weight)[i]);
    }
    return finite(out);
  }
  bool layer_norm(DeviceSpan x, DeviceSpan weight, DeviceSpan bias, float eps, DeviceSpan out) override {
    const std::size_t n = weight.size();
    for (std::size_t r = 0; r < x.size() / n; ++r) {
      double mean = 0, variance = 0;
      for (std::size_t i = 0; i < n; ++i) mean += at(x)[r * n + i];
      mean /= static_cast<double>(n);
      for (std::size_t i = 0; i < n; ++i) variance += square(at(x)[r * n + i] - mean);
      const double scale = 1 / std::sqrt(variance / static_cast<double>(n) + static_cast<double>(eps));
      for (std::size_t i = 0; i < n; ++i)
        at(out)[r * n + i] = static_cast<float>((at(x)[r * n + i] - mean) * scale * at(weight)[i] + at(bias)[i]);
    }
    return finite(out);
  }
  bool check(DeviceSpan x, std::int64_t rows, float limit, std::span<std::uint8_t> bad) override {
    bool all = true;
    const std::size_t width = x.size() / static_cast<std::size_t>(rows);
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
      const std::span<float> row(at(x) + r * width, width);
      if (std::ranges::all_of(row, [&](float v) { return std::fabs(v) <= limit; })) continue;
      std::ranges::fill(row, 0.0f);
      bad[r] = 1, all = false;
    }
    return all;
  }
  void linear(std::span<const LinearPart> parts, DeviceSpan x, std::int64_t rows) override {
    for (const LinearPart& part : parts) {
      const auto& w = static_cast<const RawWeight&>(*part.weight);
      pool_.run(w.rows(), [&](std::int64_t n) {
        const double bias = part.bias.empty() ? 0 : at(part.bias)[n];
        for (std::int64_t r = 0; r < rows; ++r)
          at(part.out)[r * w.rows() + n] = static_cast<float>(w.dot(n, at(x) + r * w.columns()) + bias);
      });
    }
  }
  bool activate(Activation kind, DeviceSpan gate, DeviceSpan up, float limit, float alpha, DeviceSpan out) override {
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = at(gate)[i];
      double y = 0;
      if (kind == Activation::kSiluMul) y = g / (1 + std::exp(-g)) * at(up)[i];
      if (kind == Activation::kGelu) y = 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
      if (kind == Activation::kSwigluClamped) {
        const double c = std::min<double>(g, limit), u = std::clamp<double>(at(up)[i], -limit, limit);
        y = c / (1 + std::exp(-static_cast<double>(alpha) * c)) * (u + 1);
        if (!std::isfinite(g) || !std::isfinite(at(up)[i])) y = NAN;  // the clamp would hide it
      }
      at(out)[i] = static_cast<float>(y);
    }
    return finite(out);
  }
  void add(DeviceSpan x, DeviceSpan out) override { add_scaled(x, 1, out); }
  void add_scaled(DeviceSpan x, float scale, DeviceSpan out) override {
    for (std::size_t i = 0; i < x.size(); ++i)
      at(out)[i] = static_cast<float>(at(out)[i] + static_cast<double>(scale) * at(x)[i]);
  }
  void rope(DeviceSpan x, std::int64_t rows, int heads, int head_dim, DeviceSpan cos, DeviceSpan sin, int rotated,
            bool adjacent) override {
    const int half = rotated / 2;
    for (std::int64_t r = 0; r < rows; ++r)
      for (int h = 0; h < heads; ++h)
        for (int i = 0; i < half; ++i) {
          float* head = at(x) + (r * heads + h) * head_dim;
          float &first = head[adjacent ? 2 * i : i], &second = head[adjacent ? 2 * i + 1 : i + half];
          const double c = at(cos)[r * half + i], s = at(sin)[r * half + i], a = first, b = second;
          first = static_cast<float>(a * c - b * s);
          second = static_cast<float>(a * s + b * c);
        }
  }
  Result<std::unique_ptr<KvStore>> make_kv(const KvShape& s) override {
    const std::size_t floats = std::size_t{2} * static_cast<std::size_t>(s.layers) *
                               static_cast<std::size_t>(s.kv_heads) * static_cast<std::size_t>(s.pages) *
                               limits::kKvPagePositions * static_cast<std::size_t>(s.head_dim);
    LLORCH_TRY(AlignedBuffer memory, AlignedBuffer::make(floats * sizeof(float)));
    return std::make_unique<ReferenceKvStore>(s, std::move(memory));
  }
  void kv_write(KvStore& store, int layer, std::span<const BatchRow> rows, DeviceSpan key, DeviceSpan value) override {
    const auto& kv = static_cast<const ReferenceKvStore&>(store);
    const int heads = store.shape().kv_heads, dim = store.shape().head_dim;
    // An F16 cache holds what is nearest, here too: what fast backends are compared with. (q8_0 stays exact.)
    const bool halves = store.shape().precision == KvPrecision::kF16;
    const auto held = [&](float x) {
      return halves ? half_to_float(float_to_half(std::clamp(x, -65504.0f, 65504.0f))) : x;
    };
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (int h = 0; h < heads; ++h)
        for (int d = 0; d < dim; ++d) {
          const std::size_t from =
              (r * static_cast<std::size_t>(heads) + static_cast<std::size_t>(h)) * static_cast<std::size_t>(dim) +
              static_cast<std::size_t>(d);
          kv.at(layer, h, rows[r], rows[r].position, 0)[d] = held(at(key)[from]);
          kv.at(layer, h, rows[r], rows[r].position, 1)[d] = held(at(value)[from]);
        }
  }
  void attention(const AttentionCall& call, std::span<const BatchRow> rows) override {
    pool_.run(static_cast<std::int64_t>(rows.size()), [&](std::int64_t r) {
      for (int h = 0; h < call.heads; ++h) attend(call, rows[static_cast<std::size_t>(r)], r, h);
    });
  }

 private:
  static bool finite(DeviceSpan x) {
    return std::all_of(at(x), at(x) + x.size(), [](float v) { return std::isfinite(v); });
  }
  static double square(double x) { return x * x; }

  void attend(const AttentionCall& call, const BatchRow& row, std::int64_t r, int head) const {
    const auto& kv = static_cast<const ReferenceKvStore&>(*call.store);
    const int dim = kv.shape().head_dim, kv_head = head / (call.heads / kv.shape().kv_heads);
    const float* query = at(call.query) + (r * call.heads + head) * dim;
    const std::int64_t oldest = call.window > 0 ? std::max<std::int64_t>(0, row.position + 1 - call.window) : 0;
    std::vector<double> scores;
    double top = call.sinks.empty() ? -HUGE_VAL : call.sinks[static_cast<std::size_t>(head)];
    for (std::int64_t p = oldest; p <= row.position; ++p) {
      double dot = 0;
      for (int d = 0; d < dim; ++d) dot += static_cast<double>(query[d]) * kv.at(call.layer, kv_head, row, p, 0)[d];
      dot *= call.scale;
      if (call.softcap > 0) dot = call.softcap * std::tanh(dot / call.softcap);
      top = std::max(top, dot);
      scores.push_back(dot);
    }
    double mass = call.sinks.empty() ? 0 : std::exp(call.sinks[static_cast<std::size_t>(head)] - top);
    for (double& s : scores) mass += s = std::exp(s - top);
    for (int d = 0; d < dim; ++d) {
      double sum = 0;
      for (std::int64_t p = oldest; p <= row.position; ++p)
        sum += scores[static_cast<std::size_t>(p - oldest)] * kv.at(call.layer, kv_head, row, p, 1)[d];
      at(call.out)[(r * call.heads + head) * dim + d] = static_cast<float>(sum / mass);
    }
  }

  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(int threads) { return std::make_unique<ReferenceBackend>(threads); }

}  // namespace llorch
