// A device that keeps the operations of one step and can run them again for another with as many rows of each kind: the
// walk over the model is done once. What a GPU does with a captured graph; here on any device, and what a step must
// keep to is counted: no view of the host's into device memory between begin() and finish().
#pragma once

#include "device/decorator.h"

namespace llorch {

class RecordingDevice final : public OperationDecorator {
 public:
  using OperationDecorator::OperationDecorator;
  /// From the next begin() on until finish(), operations are kept as well as run.
  void record() { operations_.clear(), recording_ = true; }
  /// A step of the recorded kind, without a walk.
  [[nodiscard]] Result<StepResult> run_again(const StepPlan& plan, Cache& cache) {
    begin(plan, cache);
    for (const Operation& operation : operations_) operation(inner());
    return finish();
  }
  [[nodiscard]] std::size_t operations() const { return operations_.size(); }
  /// upload() and download() between begin() and finish(), so far.
  [[nodiscard]] int host_accesses() const { return host_accesses_; }

  void begin(const StepPlan& plan, Cache& cache) override {
    in_step_ = true;
    inner().begin(plan, cache);
  }
  Result<StepResult> finish() override {
    in_step_ = recording_ = false;
    return inner().finish();
  }
  void upload(std::span<const float> from, FloatSpan to) override {
    host_accesses_ += in_step_;
    inner().upload(from, to);
  }
  void download(FloatSpan from, std::span<float> to) override {
    host_accesses_ += in_step_;
    inner().download(from, to);
  }

 protected:
  void take(const char*, Operation operation) override {
    operation(inner());
    if (recording_) operations_.push_back(std::move(operation));
  }

 private:
  std::vector<Operation> operations_;
  bool recording_ = false, in_step_ = false;
  int host_accesses_ = 0;
};

}  // namespace llorch
