// A CUDA device: kernels of src/cuda/kernel/ in one stream, or the same kernels on the emulated device.
//
// Operations launch and return; finish() waits for the step's event. Rows of embeddings are read on the host, as
// HostDevice does, gathered in pinned memory and uploaded before the operation that wants them; tokens are drawn on the
// host from logits that were downloaded. Nothing is allocated in a step once one as large was computed.
// Errors: kVramOom, kCudaError; after a kernel failed, every step gives that failure.
// Next: captured graphs for decode steps, drawing tokens on the device.
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "cuda/kernel/product.h"
#include "device/cuda/cuda_cache.h"
#include "device/cuda/cuda_memory.h"
#include "device/cuda/cuda_step.h"
#include "device/cuda/cuda_weight.h"
#include "device/device.h"
#include "device/open.h"

namespace llorch {

class CudaDevice final : public Device {
 public:
  /// `threads`: of the host, for rows of embeddings and for drawing tokens. Errors: kDeviceNotFound, kCudaError.
  [[nodiscard]] static Result<std::unique_ptr<CudaDevice>> make(int index, int threads);
  ~CudaDevice() override;

  std::string_view isa() const override { return isa_; }
  [[nodiscard]] const cuda::DeviceProperties& properties() const { return properties_; }
  /// Of device memory: weights, buffers, caches, room.
  [[nodiscard]] std::size_t memory_bytes() const { return context_->bytes; }

  Result<std::unique_ptr<Weight>> matrix(const TensorView& tensor, std::int64_t parts, const Read& read) override;
  Result<std::unique_ptr<Weight>> table(const TensorView& tensor, Read read) override;
  Result<FloatBuffer> allocate(std::int64_t rows, std::int64_t width) override;
  Result<std::unique_ptr<Cache>> make_cache(const CacheShape& shape) override;
  Result<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) override;
  void upload(std::span<const float> from, FloatSpan to) override;
  void download(FloatSpan from, std::span<float> to) override;

  void begin(const StepPlan& plan, Cache& cache) override;
  Result<StepResult> finish() override;

  void embed_tokens(const Weight& table, FloatSpan out) override;
  void look_up_tokens(const Weight& table, FloatSpan out) override;
  void add_positions(const Weight& table, FloatSpan out) override;
  void add_types(const Weight& table, FloatSpan out) override;
  void fill_rope(RopeTable& table) override;
  void rope(FloatSpan x, int heads, const RopeTable& table) override;
  void rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) override;
  void layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out, const Guard* guard) override;
  void check(FloatSpan x, float limit, const Guard& guard) override;
  void linear(std::span<const LinearPart> parts, FloatSpan x) override;
  void add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet rows, std::int64_t first) override;
  void linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) override;
  void activate(const Activation& kind, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) override;
  void copy_columns(FloatSpan x, std::int64_t from, std::int64_t count, FloatSpan out, std::int64_t to) override;
  void clear(FloatSpan x) override;
  void add(FloatSpan x, float scale, FloatSpan out) override;
  void scale(FloatSpan x, float scale) override;
  void gate(FloatSpan gate, FloatSpan x) override;
  void soft_cap(FloatSpan x, float cap) override;
  void multiply(FloatSpan x, FloatSpan out) override;
  void moe(const MoeCall& call) override;
  void write_cache(int layer, FloatSpan key, FloatSpan value) override;
  void attend(const AttentionCall& call) override;
  void convolve(const ConvolutionCall& call) override;
  void recur(const RecurrenceCall& call) override;
  void select(FloatSpan x, RowSet rows, FloatSpan out) override;
  void give_states(FloatSpan states) override;
  void give_logits(FloatSpan logits) override;

 private:
  CudaDevice(std::shared_ptr<CudaContext> context, int threads) : context_(std::move(context)), pool_(threads) {}
  template<class T>
  [[nodiscard]] T* at(DeviceSpan<T> span) const {
    return span.address(DeviceKey(*this));
  }
  /// Null for an empty span.
  template<class T>
  [[nodiscard]] T* at_or_null(DeviceSpan<T> span) const {
    return span.empty() ? nullptr : at(span);
  }
  /// None where the step's plan found no room on the device: nothing is launched then.
  [[nodiscard]] cuda::StreamHandle stream() const { return planned_ ? context_->stream.handle() : nullptr; }
  /// Keeps what went wrong for finish().
  bool keep(Status status) {
    const bool fine = status.has_value();
    context_->error.add(std::move(status));
    return fine;
  }
  [[nodiscard]] cuda::FaultMark mark(const Guard& guard) const;
  [[nodiscard]] const CudaCache& cache() const { return static_cast<const CudaCache&>(*cache_); }

  /// One row for each of the step's goes to `to`. row(index, to) reads one.
  template<class Row>
  bool gather(FloatSpan of, float* to, const Row& row);
  void add_rows_of(const Weight& table, std::int32_t StepPlan::Row::*index, FloatSpan out);

  /// Where a result that the host gets lies after finish().
  struct Given {
    PinnedRoom memory;
    std::size_t count = 0, width = 0;
    [[nodiscard]] std::span<const float> values() const {
      return {reinterpret_cast<const float*>(memory.data()), count};
    }
  };
  void give(FloatSpan from, Given& to);
  void draw_tokens(StepResult& result);

  std::shared_ptr<CudaContext> context_;
  cuda::DeviceProperties properties_;
  std::string isa_;
  ThreadPool pool_;
  cuda::Event done_;
  // The step.
  CudaStep step_;
  Cache* cache_ = nullptr;
  std::vector<StepPlan::Row> rows_;
  std::vector<float> embeddings_;
  std::vector<SamplingRow> sampling_;
  bool logits_wanted_ = false, running_ = false, planned_ = false;
  std::int32_t adapters_ = 0;  // one more than the highest number in this step
  /// Rows that the host reads: each use of a step has room of its own, by its number in the step.
  std::vector<std::unique_ptr<PinnedRoom>> gathered_;
  std::size_t gathers_ = 0;  // of this step so far
  Given logits_, states_;
  std::vector<cuda::Product> products_;  // of one operation
  // Room of operations.
  CudaRoom added_rows_, activations_, low_rank_, chosen_, chosen_weights_, mixture_, decays_, strengths_;
};

/// "cuda:<index>". For programs that link this library: what init_cuda_device() takes.
[[nodiscard]] Result<OpenDevice> open_cuda_device(int index, int threads);

}  // namespace llorch
