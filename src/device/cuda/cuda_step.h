// The plan of a step as kernels read it: one pinned image on the host, one copy of it to the device in each step.
//
// The sections of the image have room for the largest step so far, so that their addresses are the same in every step
// of that size and smaller ones: what graphs need that are replayed.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "cuda/kernel/step.h"
#include "device/cuda/cuda_memory.h"
#include "device/plan.h"

namespace llorch {

class CudaStep {
 public:
  /// Errors: kVramOom, kCudaError.
  [[nodiscard]] Status upload(const std::shared_ptr<CudaContext>& context, const StepPlan& plan, std::size_t groups);
  [[nodiscard]] const cuda::Step& on_device() const { return step_; }
  /// The step's row of each row of a set; null: all rows.
  [[nodiscard]] const std::int32_t* set(RowSet rows) const {
    return rows == RowSet::kAll ? nullptr : device<std::int32_t>(rows == RowSet::kLogits ? kLogitRows : kStateRows);
  }
  /// The faults come back: read by faults() after the copy.
  [[nodiscard]] Status download_faults(CudaContext& context);
  [[nodiscard]] std::span<const RowFault> faults();
  [[nodiscard]] static unsigned code(const Guard& guard) {
    return 1 + static_cast<unsigned>(guard.place) + static_cast<unsigned>(guard.layer) * kPlaces;
  }

 private:
  static constexpr unsigned kPlaces = 256;
  enum Section { kRows, kSequences, kSaves, kPages, kLogitRows, kStateRows, kFaults, kSections };
  template<class T>
  [[nodiscard]] T* device(Section section) const {
    return reinterpret_cast<T*>(memory_.as<std::byte>() + offsets_[section]);
  }
  template<class T>
  [[nodiscard]] T* host(Section section) const {
    return reinterpret_cast<T*>(image_.data() + offsets_[section]);
  }
  [[nodiscard]] Status make_room(const std::shared_ptr<CudaContext>& context,
                                 const std::array<std::size_t, kSections>& bytes);
  void fill(const StepPlan& plan, std::size_t groups);

  std::array<std::size_t, kSections> capacity_{}, offsets_{};
  std::size_t bytes_ = 0;
  PinnedRoom image_, downloaded_;
  CountedMemory memory_;
  cuda::Step step_;
  std::vector<RowFault> faults_;
};

}  // namespace llorch
