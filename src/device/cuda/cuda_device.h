// A CUDA device: kernels of src/cuda/kernel/ in one stream, or the same kernels on the emulated device.
//
// Operations launch and return; finish() waits for the step, for no longer than a limit. Rows of embeddings are read on
// the host, as HostDevice does, gathered in pinned memory and copied; tokens are drawn on the device, and the host gets
// what was asked for. A rehearsal takes all memory of steps; without one, the largest step so far has taken it.
// A step of at most CudaGraphs::kRowsMax rows that comes the third time is captured, and replayed from then on; one
// that cannot be captured (a graph takes device memory) is launched each time.
// Errors: kVramOom, kInsufficientMemory (pinned memory), kCudaError; after a kernel failed, or the device did not
// answer, every step gives that failure.
#pragma once

#include <chrono>
#include <vector>

#include "base/thread_pool.h"
#include "cuda/kernel/draw.h"
#include "cuda/kernel/product.h"
#include "device/cuda/cuda_cache.h"
#include "device/cuda/cuda_graphs.h"
#include "device/cuda/cuda_memory.h"
#include "device/cuda/cuda_step.h"
#include "device/cuda/cuda_weight.h"
#include "device/device.h"
#include "device/open.h"

namespace llorch {

class CudaDevice final : public Device {
 public:
  /// `threads`: of the host, for rows of embeddings. Errors: kDeviceNotFound, kCudaError.
  [[nodiscard]] static Result<std::unique_ptr<CudaDevice>> make(int index, int threads);
  ~CudaDevice() override;

  std::string_view isa() const override { return isa_; }
  [[nodiscard]] const cuda::DeviceProperties& properties() const { return properties_; }
  /// Of device memory: weights, buffers, caches, room.
  [[nodiscard]] std::size_t memory_bytes() const { return context_->bytes; }
  /// Steps that can be replayed now, and those that were so far.
  [[nodiscard]] std::size_t captured() const { return graphs_.captured(); }
  [[nodiscard]] std::uint64_t replayed() const { return replayed_; }
  /// How long finish() has waited so far.
  [[nodiscard]] std::chrono::nanoseconds waited() const { return waited_; }
  /// Bytes in device memory that check_resident() reads: an address for tests alone.
  [[nodiscard]] std::span<const std::byte> canary() const { return {canary_.as<std::byte>(), canary_.bytes()}; }
  /// How long finish() waits, and what reads or writes pages.
  void set_step_limit(std::chrono::milliseconds limit) { context_->limit = limit; }

  Result<std::unique_ptr<Weight>> matrix(const TensorView& tensor, std::int64_t parts, const Read& read) override;
  Result<std::unique_ptr<Weight>> table(const TensorView& tensor, Read read) override;
  Result<FloatBuffer> allocate(std::int64_t rows, std::int64_t width) override;
  Result<std::unique_ptr<Cache>> make_cache(const CacheShape& shape) override;
  Result<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) override;
  void upload(std::span<const float> from, FloatSpan to) override;
  void download(FloatSpan from, std::span<float> to) override;

  std::optional<MemoryUse> memory() const override;
  std::unique_ptr<Device> measuring() const override;
  Status check_resident() override;
  bool begin_rehearsal(const StepSizes& sizes, Cache& cache) override;
  Status end_rehearsal() override;

  void begin(const StepPlan& plan, Cache& cache) override;
  bool replay(const void* walker) override;
  bool repeat() override;
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
  void set_properties(cuda::DeviceProperties properties);
  template<class T>
  [[nodiscard]] T* at(DeviceSpan<T> span) const {
    return span.address(DeviceKey(*this));
  }
  /// Null for an empty span.
  template<class T>
  [[nodiscard]] T* at_or_null(DeviceSpan<T> span) const {
    return span.empty() ? nullptr : at(span);
  }
  /// Whether operations compute: not where the step's plan found no room on the device, nor in a rehearsal.
  [[nodiscard]] bool computes() const { return planned_ && !rehearsing_; }
  /// None where nothing computes: nothing is launched then.
  [[nodiscard]] cuda::StreamHandle stream() const { return computes() ? context_->stream.handle() : nullptr; }
  /// Keeps what went wrong for finish().
  bool keep(Status status) {
    const bool fine = status.has_value();
    context_->error.add(std::move(status));
    return fine;
  }
  [[nodiscard]] cuda::FaultMark mark(const Guard& guard) const;
  [[nodiscard]] const CudaCache& cache() const { return static_cast<const CudaCache&>(*cache_); }

  /// The table's row for each row of the step goes to `to`. False where it does not.
  bool gather(const Weight& table, TableRow which, FloatSpan of, float* to);
  void add_rows_of(const Weight& table, TableRow which, FloatSpan out);
  /// Copies a result of the step to the host; how many floats there are.
  [[nodiscard]] std::size_t give(FloatSpan from, PinnedRoom& to);
  void draw_tokens(FloatSpan logits);
  [[nodiscard]] Result<Sampled> sampled(const cuda::Drawn& drawn, const SamplingRow& row) const;
  [[nodiscard]] CudaGraphs::Kind kind_of_step(const void* walker) const;

  std::shared_ptr<CudaContext> context_;
  cuda::DeviceProperties properties_;
  std::string isa_;
  ThreadPool pool_;
  CountedMemory canary_;     // bytes that are known, for check_resident()
  PinnedBytes canary_copy_;  // where it reads them to: a copy to other memory would wait without a limit
  // The step.
  CudaStep step_;
  Cache* cache_ = nullptr;
  std::vector<StepPlan::Row> rows_;
  std::vector<float> embeddings_;
  std::vector<SamplingRow> sampling_;
  bool logits_wanted_ = false, running_ = false, planned_ = false, rehearsing_ = false;
  std::size_t logit_rows_ = 0, state_rows_ = 0;
  std::int32_t adapters_ = 0;  // one more than the highest number in this step
  /// Rows that the host reads: each use of a step has room of its own, by its number in the step.
  std::vector<std::unique_ptr<PinnedRoom>> gathered_;
  std::vector<Gather> gathers_;  // of this step so far
  PinnedRoom logits_, states_, drawn_;
  GivenSizes given_;  // of the step
  CudaGraphs graphs_;
  CudaGraphs::Entry* capturing_ = nullptr;
  std::uint64_t replayed_ = 0;
  std::chrono::nanoseconds waited_{0};
  std::vector<cuda::Product> products_;  // of one operation
  // Room of operations.
  CudaRoom added_rows_, activations_, low_rank_, chosen_, chosen_weights_, mixture_, partials_, draws_;
};

/// "cuda:<index>". For programs that link this library: what init_cuda_device() takes.
[[nodiscard]] Result<OpenDevice> open_cuda_device(int index, int threads);

}  // namespace llorch
