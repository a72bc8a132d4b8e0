// The plan of a step as kernels read it: one pinned image on the host, one copy of it to the device in each step.
//
// Sections of what each row and each sequence has come first, with room for the largest step so far, so that their
// addresses are the same in every step of that size and smaller ones: what graphs need that are replayed. Behind them,
// without gaps, what has no such bound: saves, pages, known tokens, allowed tokens. The copy ends with the last of it.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "cuda/kernel/draw.h"
#include "cuda/kernel/step.h"
#include "device/cuda/cuda_memory.h"
#include "device/plan.h"

namespace llorch {

class CudaStep {
 public:
  /// How much of each kind a step has. `words`: of 4 bytes, of all that lies behind the sections.
  struct Sizes {
    std::size_t rows = 0, sequences = 0, logit_rows = 0, state_rows = 0, draws = 0, words = 0;
    std::int32_t positions = 1, sequence_rows = 1;  // the highest position and one more; rows of one sequence
    [[nodiscard]] static Sizes of(const StepPlan& plan, std::size_t groups);
  };
  /// Room for steps up to these sizes. Errors: kVramOom, kCudaError.
  [[nodiscard]] Status make_room(const std::shared_ptr<CudaContext>& context, const Sizes& sizes);
  /// Errors: as make_room().
  [[nodiscard]] Status upload(const std::shared_ptr<CudaContext>& context, const StepPlan& plan, std::size_t groups);
  /// on_device() is of so many rows and sequences, whose contents nobody reads.
  void pretend(const Sizes& sizes);
  [[nodiscard]] const cuda::Step& on_device() const { return step_; }
  /// The step's row of each row of a set; null: all rows.
  [[nodiscard]] const std::int32_t* set(RowSet rows) const {
    return rows == RowSet::kAll ? nullptr : device<std::int32_t>(rows == RowSet::kLogits ? kLogitRows : kStateRows);
  }
  /// How the tokens of the rows with logits are drawn; what they refer to.
  [[nodiscard]] const cuda::StepDraw* draws() const { return device<cuda::StepDraw>(kDraws); }
  [[nodiscard]] std::int32_t* tail() const { return device<std::int32_t>(kTail); }
  /// The faults come back: read by faults() after the copy.
  [[nodiscard]] Status download_faults(CudaContext& context);
  [[nodiscard]] std::span<const RowFault> faults();
  [[nodiscard]] static unsigned code(const Guard& guard) {
    return 1 + static_cast<unsigned>(guard.place) + static_cast<unsigned>(guard.layer) * kPlaces;
  }

 private:
  static constexpr unsigned kPlaces = 256;
  enum Section { kRows, kSequences, kLogitRows, kStateRows, kDraws, kFaults, kTail, kSections };
  /// Null where there was no room.
  template<class T>
  [[nodiscard]] T* in(std::byte* base, Section section) const {
    return base ? reinterpret_cast<T*>(base + offsets_[section]) : nullptr;
  }
  template<class T>
  [[nodiscard]] T* device(Section section) const {
    return in<T>(memory_.as<std::byte>(), section);
  }
  template<class T>
  [[nodiscard]] T* host(Section section) const {
    return in<T>(image_.as<std::byte>(), section);
  }
  void fill(const StepPlan& plan, std::size_t groups);
  void fill_draws(const StepPlan& plan);
  /// Puts values behind what the tail has; where they begin, in words.
  template<class T>
  std::int32_t append(std::span<const T> values);

  std::array<std::size_t, kSections> capacity_{}, offsets_{};
  std::size_t bytes_ = 0;
  std::size_t words_ = 0;  // of the tail, of this step
  PinnedRoom image_, downloaded_;
  CountedMemory memory_;
  cuda::Step step_;
  std::vector<RowFault> faults_;
};

}  // namespace llorch
