// The operations that models are made of, over a device's memory.
//
// A backend computes eagerly or queues; host code sees results only through download(). Rows are tokens of the current
// batch: every operation treats each row by itself, in a fixed order, so that a row's bits do not depend on its
// neighbours. Values that are not finite: norms, activate() and check() find them; what comes between them passes them
// on or, as attention and products of quantized rows do, may lose them, so that a Decoder checks what goes in there.
// Implementations: the CPU kernels (cpu_backend.h) and the slow double-precision truth
// (reference_backend.h). Threads: one thread at a time. Errors: allocation only (kInsufficientMemory); shapes are the
// caller's duty and are asserted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "nn/device_memory.h"
#include "nn/panel_cache.h"
#include "tensor/tensor.h"

namespace llorch {

/// A matrix [rows][columns] in the backend's own layout.
class Weight {
 public:
  /// `bytes`: what one product reads.
  Weight(std::int64_t rows, std::int64_t columns, std::int64_t bytes) : rows_(rows), columns_(columns), bytes_(bytes) {}
  virtual ~Weight() = default;
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t columns() const { return columns_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t rows_, columns_, bytes_;
};

/// out (rows, weight rows) = x (rows, weight columns) times the weight transposed, plus bias (empty: none).
struct LinearPart {
  const Weight* weight = nullptr;
  DeviceSpan bias;
  DeviceSpan out;
};

enum class Activation {
  kSiluMul,        // silu(gate) * up
  kGelu,           // gelu(gate), tanh form; up is not used
  kSwigluClamped,  // gpt-oss: clamps, then gate * sigmoid(alpha gate) * (up + 1)
};

enum class KvPrecision { kF32, kF16, kQ8_0 };

struct KvShape {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int pages = 0;  // of limits::kKvPagePositions positions each
  KvPrecision precision = KvPrecision::kF16;
};

/// Keys and values of all layers, in pages.
class KvStore {
 public:
  explicit KvStore(KvShape shape) : shape_(shape) {}
  virtual ~KvStore() = default;
  [[nodiscard]] const KvShape& shape() const { return shape_; }
  [[nodiscard]] virtual std::size_t bytes() const = 0;

 private:
  KvShape shape_;
};

/// One token to compute: where it stands in its sequence, and that sequence's pages.
struct BatchRow {
  std::int32_t token = 0;
  std::int32_t position = 0;
  const std::int32_t* pages = nullptr;  // page numbers, indexed by position / 64
};

struct AttentionCall {
  DeviceSpan query;  // (rows, heads, head_dim)
  DeviceSpan out;    // (rows, heads, head_dim)
  const KvStore* store = nullptr;
  int layer = 0;
  int heads = 0;
  float scale = 1;
  int window = 0;                // 0: all earlier positions
  float softcap = 0;             // 0: none
  std::span<const float> sinks;  // one logit per head that joins the softmax's denominator, or empty
};

class Backend {
 public:
  virtual ~Backend() = default;

  [[nodiscard]] virtual std::string_view isa() const = 0;

  /// Copies some of a tensor's bytes; from any thread. Its errors end what asked for them. Empty: the tensor's span
  /// lies in memory.
  using Read = std::function<Status(std::span<const std::byte> part, std::byte* to)>;
  /// A matrix for linear(), copied. Errors: kModelLoadFailed where a weight that is read is not finite.
  [[nodiscard]] virtual Result<std::unique_ptr<Weight>> matrix(const TensorView& tensor, const Read& read) = 0;
  /// All weights have come. True: they were mapped, packed, from a cache.
  virtual bool loaded() { return false; }
  /// Whether mapped weights still are what they were; asked after each pass, whose results count only then. Errors:
  /// kModelChanged.
  [[nodiscard]] virtual Status intact() { return {}; }
  /// A matrix for embed(), which goes on reading the tensor's own bytes.
  [[nodiscard]] virtual Result<std::unique_ptr<Weight>> table(const TensorView& tensor, Read read) = 0;
  /// Any float tensor as plain floats. Errors: kModelLoadFailed where one is not finite.
  [[nodiscard]] Result<DeviceBuffer> vector(const TensorView& tensor, const Read& read);

  [[nodiscard]] virtual Result<DeviceBuffer> allocate(std::size_t floats) = 0;
  virtual void upload(std::span<const float> from, DeviceSpan to) = 0;
  virtual void download(DeviceSpan from, std::span<float> to) = 0;
  virtual void copy(DeviceSpan from, DeviceSpan to) = 0;

  /// out (ids, columns) = rows of the table. Ids are in range: the caller has checked.
  /// Errors: of the table's Read.
  [[nodiscard]] virtual Status embed(const Weight& table, std::span<const std::int32_t> ids, DeviceSpan out) = 0;
  /// Norms and activate() return false where a result is not finite; that of a row whose squares overflow is NaN.
  virtual bool rms_norm(DeviceSpan x, DeviceSpan weight, float eps, DeviceSpan out) = 0;
  virtual bool layer_norm(DeviceSpan x, DeviceSpan weight, DeviceSpan bias, float eps, DeviceSpan out) = 0;
  /// Rows of x (rows, any) with a value that is not finite or above `limit` become zeros, and their entry of `bad` 1;
  /// other entries stay. True: there is no such row.
  virtual bool check(DeviceSpan x, std::int64_t rows, float limit, std::span<std::uint8_t> bad) = 0;
  virtual void linear(std::span<const LinearPart> parts, DeviceSpan x, std::int64_t rows) = 0;
  virtual bool activate(Activation kind, DeviceSpan gate, DeviceSpan up, float limit, float alpha, DeviceSpan out) = 0;
  virtual void add(DeviceSpan x, DeviceSpan out) = 0;
  /// Rotates each head's first `rotated` values; cos and sin are (rows, rotated / 2). `adjacent`: pairs (2i, 2i+1),
  /// else (i, i + half).
  virtual void rope(DeviceSpan x, std::int64_t rows, int heads, int head_dim, DeviceSpan cos, DeviceSpan sin,
                    int rotated, bool adjacent) = 0;
  /// out (indices, width) = rows of x (any, width).
  virtual void gather(DeviceSpan x, std::int64_t width, std::span<const std::int32_t> indices, DeviceSpan out) = 0;
  /// out row += scale * x row.
  virtual void add_scaled(DeviceSpan x, float scale, DeviceSpan out) = 0;

  [[nodiscard]] virtual Result<std::unique_ptr<KvStore>> make_kv(const KvShape& shape) = 0;
  /// key, value (rows, kv_heads, head_dim) go to their rows' positions.
  virtual void kv_write(KvStore& store, int layer, std::span<const BatchRow> rows, DeviceSpan key,
                        DeviceSpan value) = 0;
  virtual void attention(const AttentionCall& call, std::span<const BatchRow> rows) = 0;
};

/// "reference", an ISA's name, or empty for the best; errors: kDeviceNotFound.
[[nodiscard]] Result<std::unique_ptr<Backend>> make_cpu_backend(std::string_view isa, int threads,
                                                                PanelCacheOptions cache = {});

}  // namespace llorch
