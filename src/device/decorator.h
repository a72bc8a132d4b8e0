// A device that hands everything on to another one: what profiles, recordings and tests that break something derive
// from.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "device/device.h"

namespace llorch {

class DeviceDecorator : public Device {
 public:
  explicit DeviceDecorator(std::unique_ptr<Device> inner) : inner_(std::move(inner)) {}
  std::string_view isa() const override { return inner_->isa(); }
  Result<std::unique_ptr<Weight>> matrix(const TensorView& t, std::int64_t parts, const Read& read) override {
    return inner_->matrix(t, parts, read);
  }
  Result<std::unique_ptr<Weight>> table(const TensorView& t, Read read) override {
    return inner_->table(t, std::move(read));
  }
  bool loaded() override { return inner_->loaded(); }
  Status intact() override { return inner_->intact(); }
  Result<FloatBuffer> allocate(std::int64_t rows, std::int64_t width) override { return inner_->allocate(rows, width); }
  Result<std::unique_ptr<Cache>> make_cache(const CacheShape& shape) override { return inner_->make_cache(shape); }
  Result<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) override { return inner_->make_rope(spec); }
  void upload(std::span<const float> from, FloatSpan to) override { inner_->upload(from, to); }
  void download(FloatSpan from, std::span<float> to) override { inner_->download(from, to); }
  std::optional<MemoryUse> memory() const override { return inner_->memory(); }
  std::unique_ptr<Device> measuring() const override { return inner_->measuring(); }
  Status check_resident() override { return inner_->check_resident(); }
  bool begin_rehearsal(const StepSizes& sizes, Cache& cache) override { return inner_->begin_rehearsal(sizes, cache); }
  Status end_rehearsal() override { return inner_->end_rehearsal(); }
  void begin(const StepPlan& plan, Cache& cache) override { inner_->begin(plan, cache); }
  bool replay(const void* walker) override { return inner_->replay(walker); }
  bool repeat() override { return inner_->repeat(); }
  Result<StepResult> finish() override { return inner_->finish(); }

  void embed_tokens(const Weight& table, FloatSpan out) override { inner_->embed_tokens(table, out); }
  void look_up_tokens(const Weight& table, FloatSpan out) override { inner_->look_up_tokens(table, out); }
  void add_positions(const Weight& table, FloatSpan out) override { inner_->add_positions(table, out); }
  void add_types(const Weight& table, FloatSpan out) override { inner_->add_types(table, out); }
  void fill_rope(RopeTable& table) override { inner_->fill_rope(table); }
  void rope(FloatSpan x, int heads, const RopeTable& table) override { inner_->rope(x, heads, table); }
  void rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) override {
    inner_->rms_norm(x, weight, eps, out, guard);
  }
  void layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out,
                  const Guard* guard) override {
    inner_->layer_norm(x, weight, bias, eps, out, guard);
  }
  void check(FloatSpan x, float limit, const Guard& guard) override { inner_->check(x, limit, guard); }
  void linear(std::span<const LinearPart> parts, FloatSpan x) override { inner_->linear(parts, x); }
  void add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet rows, std::int64_t first) override {
    inner_->add_low_rank(parts, x, rows, first);
  }
  void linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) override { inner_->linear_heads(weight, x, out); }
  void copy_columns(FloatSpan x, std::int64_t from, std::int64_t count, FloatSpan out, std::int64_t to) override {
    inner_->copy_columns(x, from, count, out, to);
  }
  void clear(FloatSpan x) override { inner_->clear(x); }
  void activate(const Activation& kind, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) override {
    inner_->activate(kind, gate, up, out, guard);
  }
  void add(FloatSpan x, float scale, FloatSpan out) override { inner_->add(x, scale, out); }
  void scale(FloatSpan x, float scale) override { inner_->scale(x, scale); }
  void gate(FloatSpan gate, FloatSpan x) override { inner_->gate(gate, x); }
  void soft_cap(FloatSpan x, float cap) override { inner_->soft_cap(x, cap); }
  void moe(const MoeCall& call) override { inner_->moe(call); }
  void write_cache(int layer, FloatSpan key, FloatSpan value) override { inner_->write_cache(layer, key, value); }
  void attend(const AttentionCall& call) override { inner_->attend(call); }
  void multiply(FloatSpan x, FloatSpan out) override { inner_->multiply(x, out); }
  void convolve(const ConvolutionCall& call) override { inner_->convolve(call); }
  void recur(const RecurrenceCall& call) override { inner_->recur(call); }
  void select(FloatSpan x, RowSet rows, FloatSpan out) override { inner_->select(x, rows, out); }
  void give_states(FloatSpan states) override { inner_->give_states(states); }
  void give_logits(FloatSpan logits) override { inner_->give_logits(logits); }

 protected:
  [[nodiscard]] Device& inner() { return *inner_; }

 private:
  std::unique_ptr<Device> inner_;
};

/// One that is told of every operation of a step, and runs it or keeps it.
class OperationDecorator : public DeviceDecorator {
 public:
  using DeviceDecorator::DeviceDecorator;
  bool replay(const void*) override { return false; }  // each operation is seen
  void embed_tokens(const Weight& table, FloatSpan out) override {
    take("embed", [=, t = &table](Device& d) { d.embed_tokens(*t, out); });
  }
  void look_up_tokens(const Weight& table, FloatSpan out) override {
    take("embed", [=, t = &table](Device& d) { d.look_up_tokens(*t, out); });
  }
  void add_positions(const Weight& table, FloatSpan out) override {
    take("embed", [=, t = &table](Device& d) { d.add_positions(*t, out); });
  }
  void add_types(const Weight& table, FloatSpan out) override {
    take("embed", [=, t = &table](Device& d) { d.add_types(*t, out); });
  }
  void fill_rope(RopeTable& table) override {
    take("rope", [t = &table](Device& d) { d.fill_rope(*t); });
  }
  void rope(FloatSpan x, int heads, const RopeTable& table) override {
    take("rope", [=, t = &table](Device& d) { d.rope(x, heads, *t); });
  }
  void rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) override {
    take("norm", [=, g = copy(guard)](Device& d) { d.rms_norm(x, weight, eps, out, g ? &*g : nullptr); });
  }
  void layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out,
                  const Guard* guard) override {
    take("norm", [=, g = copy(guard)](Device& d) { d.layer_norm(x, weight, bias, eps, out, g ? &*g : nullptr); });
  }
  void check(FloatSpan x, float limit, const Guard& guard) override {
    take("check", [=](Device& d) { d.check(x, limit, guard); });
  }
  void linear(std::span<const LinearPart> parts, FloatSpan x) override {
    take("linear", [p = std::vector(parts.begin(), parts.end()), x](Device& d) { d.linear(p, x); });
  }
  void add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet rows, std::int64_t first) override {
    take("adapters",
         [=, p = std::vector(parts.begin(), parts.end())](Device& d) { d.add_low_rank(p, x, rows, first); });
  }
  void linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) override {
    take("linear_heads", [=, w = &weight](Device& d) { d.linear_heads(*w, x, out); });
  }
  void copy_columns(FloatSpan x, std::int64_t from, std::int64_t count, FloatSpan out, std::int64_t to) override {
    take("copy", [=](Device& d) { d.copy_columns(x, from, count, out, to); });
  }
  void clear(FloatSpan x) override {
    take("copy", [=](Device& d) { d.clear(x); });
  }
  void activate(const Activation& kind, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) override {
    take("activate", [=](Device& d) { d.activate(kind, gate, up, out, guard); });
  }
  void add(FloatSpan x, float scale, FloatSpan out) override {
    take("add", [=](Device& d) { d.add(x, scale, out); });
  }
  void scale(FloatSpan x, float scale) override {
    take("add", [=](Device& d) { d.scale(x, scale); });
  }
  void gate(FloatSpan gate, FloatSpan x) override {
    take("gate", [=](Device& d) { d.gate(gate, x); });
  }
  void soft_cap(FloatSpan x, float cap) override {
    take("soft_cap", [=](Device& d) { d.soft_cap(x, cap); });
  }
  void moe(const MoeCall& call) override {
    take("experts", [=](Device& d) { d.moe(call); });
  }
  void write_cache(int layer, FloatSpan key, FloatSpan value) override {
    take("kv_write", [=](Device& d) { d.write_cache(layer, key, value); });
  }
  void attend(const AttentionCall& call) override {
    take("attention", [=](Device& d) { d.attend(call); });
  }
  void multiply(FloatSpan x, FloatSpan out) override {
    take("add", [=](Device& d) { d.multiply(x, out); });
  }
  void convolve(const ConvolutionCall& call) override {
    take("convolution", [=](Device& d) { d.convolve(call); });
  }
  void recur(const RecurrenceCall& call) override {
    take("recurrence", [=](Device& d) { d.recur(call); });
  }
  void select(FloatSpan x, RowSet rows, FloatSpan out) override {
    take("select", [=](Device& d) { d.select(x, rows, out); });
  }
  void give_states(FloatSpan states) override {
    take("result", [=](Device& d) { d.give_states(states); });
  }
  void give_logits(FloatSpan logits) override {
    take("sample", [=](Device& d) { d.give_logits(logits); });
  }

 protected:
  using Operation = std::function<void(Device&)>;
  virtual void take(const char* name, Operation operation) = 0;

 private:
  static std::optional<Guard> copy(const Guard* guard) { return guard ? std::optional(*guard) : std::nullopt; }
};

}  // namespace llorch
