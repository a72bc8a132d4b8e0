// What devices share whose memory is the host's own: buffers, the step's plan, rows of embeddings that are read from
// the file as they are needed, faults, and drawing tokens.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "device/device.h"
#include "device/slots.h"
#include "quant/table.h"

namespace llorch {

/// The first of the errors of some threads.
class FirstError {
 public:
  [[nodiscard]] bool there() const { return there_.load(std::memory_order_relaxed); }
  void add(Status status);
  /// The error, or success; forgets it.
  [[nodiscard]] Status take();

 private:
  std::mutex mutex_;
  std::atomic<bool> there_{false};
  Status status_;
};

class RawWeight;

/// Which row of a table a row of a step takes.
enum class TableRow : std::uint8_t {
  kToken,       // its token's, or the plan's embedding
  kTokenAlone,  // its token's; the first in the place of an embedding
  kPosition,
  kType,
};
/// The table's row for one row of a step. Errors: of reading.
[[nodiscard]] Status read_row(const RawWeight& table, TableRow which, const StepPlan::Row& row,
                              std::span<const float> embeddings, float* out);
/// The same for all rows, to out (rows, columns), by the threads of a pool.
void read_rows(ThreadPool& pool, const RawWeight& table, TableRow which, std::span<const StepPlan::Row> rows,
               std::span<const float> embeddings, float* out, FirstError& error);

class HostDevice : public Device {
 public:
  explicit HostDevice(int threads) : pool_(threads) {}
  Result<std::unique_ptr<Weight>> table(const TensorView& tensor, Read read) override;
  Result<FloatBuffer> allocate(std::int64_t rows, std::int64_t width) override;
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
  void select(FloatSpan x, RowSet rows, FloatSpan out) override;
  void copy_columns(FloatSpan x, std::int64_t from, std::int64_t count, FloatSpan out, std::int64_t to) override;
  void clear(FloatSpan x) override;
  void convolve(const ConvolutionCall& call) override;
  void give_states(FloatSpan states) override;
  void give_logits(FloatSpan logits) override;

 protected:
  template<class T>
  [[nodiscard]] T* at(DeviceSpan<T> span) const {
    return span.address(DeviceKey(*this));
  }
  struct Rope final : RopeTable {
    using RopeTable::RopeTable;
    std::vector<float> cos, sin;  // (rows of the step, rotated / 2)
  };

  /// The step's rows, and the pages of each row's sequence.
  [[nodiscard]] const std::vector<StepPlan::Row>& rows() const { return rows_; }
  [[nodiscard]] const std::int32_t* pages(std::size_t row, std::size_t group) const {
    return pages_.data() + sequences_[static_cast<std::size_t>(rows_[row].sequence)].pages[group];
  }
  /// Of the step: rows first..end-1 are of one sequence.
  struct Sequence {
    std::array<std::size_t, limits::kPageGroupsMax> pages;  // the first of each group in pages_
    std::size_t first, end;
    std::int32_t slot, border, restore, drafts, adapter;
    std::size_t saves, saves_end;  // in saves_
  };
  [[nodiscard]] std::span<const Sequence> sequences() const { return sequences_; }
  [[nodiscard]] std::span<const StepPlan::Save> saves(const Sequence& s) const {
    return std::span(saves_).subspan(s.saves, s.saves_end - s.saves);
  }
  /// One past the last row of this row's sequence.
  [[nodiscard]] std::size_t sequence_end(std::size_t row) const {
    return sequences_[static_cast<std::size_t>(rows_[row].sequence)].end;
  }
  /// Of a row of a set; -1: none.
  [[nodiscard]] std::int32_t adapter_of(RowSet of, std::int64_t row) const {
    const auto index = of == RowSet::kAll ? row : set(of)[static_cast<std::size_t>(row)];
    return sequences_[static_cast<std::size_t>(rows_[static_cast<std::size_t>(index)].sequence)].adapter;
  }
  /// One more than the highest number of an adapter in this step; 0: there is none.
  [[nodiscard]] std::int32_t adapters() const { return adapters_; }
  [[nodiscard]] Cache& cache() const { return *cache_; }
  /// One position of a convolution; x: its last inputs, one for each tap.
  virtual void convolve_row(const ConvolutionCall& call, const float* const* x, float* out) const = 0;
  [[nodiscard]] ThreadPool& pool() { return pool_; }

  /// Makes row `row` of a matrix zeros and remembers the fault. From any thread, each row from one.
  void spoil(const Guard& guard, std::int64_t row, float* values, std::int64_t width);
  /// Remembers the fault of row `row` of the step.
  void blame(std::size_t row, const Guard& guard);

 private:
  [[nodiscard]] const std::vector<std::int32_t>& set(RowSet rows) const {
    return rows == RowSet::kLogits ? logit_rows_ : state_rows_;
  }

  /// out += the table's row that each row of the step names.
  void add_of_rows(const Weight& table, TableRow which, FloatSpan out);

  ThreadPool pool_;
  // The step.
  std::vector<StepPlan::Row> rows_;
  std::vector<Sequence> sequences_;
  std::vector<StepPlan::Save> saves_;
  std::vector<std::int32_t> pages_, logit_rows_, state_rows_;
  std::vector<float> embeddings_, zeros_;
  std::vector<SamplingRow> sampling_;
  bool logits_wanted_ = false;
  std::int32_t adapters_ = 0;
  Cache* cache_ = nullptr;
  std::vector<RowFault> faults_;
  FirstError error_;
  StepResult result_;
};

/// A matrix that stays in its file's layout.
class RawWeight final : public Weight {
 public:
  /// `owned`: the tensor's bytes, where they are not read one row at a time.
  RawWeight(const TensorView& tensor, std::int64_t parts, Device::Read read, AlignedBuffer owned = {});

  /// Rows count over all parts.
  Status row(std::int64_t index, float* out) const;
  [[nodiscard]] double dot(std::int64_t index, const float* x) const {
    return ops_.dot(bytes(index), x, tensor_.columns());
  }

 private:
  [[nodiscard]] const std::byte* bytes(std::int64_t index) const {
    return tensor_.data.data() + static_cast<std::uint64_t>(index) * stride_;
  }
  TensorView tensor_;
  const quant::RowOps& ops_;
  std::uint64_t stride_;
  Device::Read read_;
  AlignedBuffer owned_;
};

}  // namespace llorch
