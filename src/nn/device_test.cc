// The device layer, and memory that cannot be read by mistake (W-40..45, T-33, T-46).
#include "nn/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <type_traits>

namespace llorch {
namespace {

// A device buffer where a host span or pointer is wanted does not compile.
static_assert(!std::is_convertible_v<DeviceSpan, std::span<const float>>);
static_assert(!std::is_convertible_v<DeviceBuffer, std::span<float>>);
static_assert(!std::is_convertible_v<DeviceSpan, const float*>);
template<class T>
concept Readable = requires(T t) {
  t[0];
}
|| requires(T t) { *t; }
|| requires(T t) { t.data(); }
|| requires(T t) { t.begin(); };
static_assert(!Readable<DeviceSpan> && !Readable<DeviceBuffer>);
static_assert(Readable<std::span<float>>, "the concept sees what is readable");

TEST(Device, cpu_opens_and_verifies_on_every_isa) {
  for (const char* isa : {"", "reference", "scalar"}) {
    auto device = init_cpu_device(isa);
    ASSERT_TRUE(device) << device.error().message;
    EXPECT_EQ(device->id, "cpu");
    EXPECT_TRUE(verify_device(*device));
  }
}

TEST(Device, what_is_not_there_is_a_typed_error) {
  const auto wrong = init_cpu_device("mmx");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(device_status(wrong.error().code), DeviceStatus::kDeviceNotFound);
  EXPECT_NE(wrong.error().message.find("scalar"), std::string::npos) << "the message lists what there is";
  for (const int index : {-1, 0, 7, 1 << 30})
    EXPECT_EQ(init_cuda_device(index).error().code, ErrorCode::kDeviceNotFound);
  EXPECT_EQ(init_accelerate_device().error().code, ErrorCode::kDeviceNotFound);
}

TEST(Device, memory_that_is_not_there_is_an_error_that_names_the_size) {
  auto device = init_cpu_device();
  ASSERT_TRUE(device);
  const auto huge = device->backend->allocate(std::size_t{1} << 50);
  ASSERT_FALSE(huge);
  EXPECT_EQ(device_status(huge.error().code), DeviceStatus::kOutOfMemory);
  EXPECT_NE(huge.error().message.find("alloc"), std::string::npos);
  EXPECT_TRUE(verify_device(*device)) << "the device works on after a failed allocation";
}

/// A backend that computes wrongly is noticed.
class Broken final : public Backend {
 public:
  explicit Broken(std::unique_ptr<Backend> real) : real_(std::move(real)) {}
  std::string_view isa() const override { return "broken"; }
  Result<std::unique_ptr<Weight>> matrix(const TensorView& t, const Read& read) override {
    return real_->matrix(t, read);
  }
  Result<std::unique_ptr<Weight>> table(const TensorView& t, Read read) override {
    return real_->table(t, std::move(read));
  }
  Result<DeviceBuffer> allocate(std::size_t n) override { return real_->allocate(n); }
  void upload(std::span<const float> from, DeviceSpan to) override { real_->upload(from, to); }
  void download(DeviceSpan from, std::span<float> to) override { real_->download(from, to); }
  void copy(DeviceSpan from, DeviceSpan to) override { real_->copy(from, to); }
  Status embed(const Weight& t, std::span<const std::int32_t> ids, DeviceSpan out) override {
    return real_->embed(t, ids, out);
  }
  bool rms_norm(DeviceSpan, DeviceSpan, float, DeviceSpan) override { return true; }
  bool layer_norm(DeviceSpan, DeviceSpan, DeviceSpan, float, DeviceSpan) override { return true; }
  bool check(DeviceSpan, std::int64_t, float, std::span<std::uint8_t>) override { return true; }
  void linear(std::span<const LinearPart> parts, DeviceSpan x, std::int64_t rows) override {
    real_->linear(parts, x, rows);
    real_->add(parts[0].out.part(0, 1), parts[0].out.part(5, 1));  // one element off
  }
  bool activate(Activation, DeviceSpan, DeviceSpan, float, float, DeviceSpan) override { return true; }
  void add(DeviceSpan x, DeviceSpan out) override { real_->add(x, out); }
  void rope(DeviceSpan, std::int64_t, int, int, DeviceSpan, DeviceSpan, int, bool) override {}
  void gather(DeviceSpan, std::int64_t, std::span<const std::int32_t>, DeviceSpan) override {}
  void add_scaled(DeviceSpan, float, DeviceSpan) override {}
  Result<std::unique_ptr<KvStore>> make_kv(const KvShape& s) override { return real_->make_kv(s); }
  void kv_write(KvStore&, int, std::span<const BatchRow>, DeviceSpan, DeviceSpan) override {}
  void attention(const AttentionCall&, std::span<const BatchRow>) override {}

 private:
  std::unique_ptr<Backend> real_;
};

TEST(Device, verification_notices_one_wrong_element) {
  Device device{"cpu", "broken", std::make_unique<Broken>(make_cpu_backend("scalar", 1).value())};
  const Status s = verify_device(device);
  ASSERT_FALSE(s);
  EXPECT_EQ(device_status(s.error().code), DeviceStatus::kInferenceFailed);
}

TEST(Device, status_integers_have_their_texts) {
  EXPECT_STREQ(llorch_device_error_message(0), "ok");
  EXPECT_STREQ(llorch_device_error_message(3), "invalid device");
  EXPECT_STREQ(llorch_device_error_message(7), "kernel launch failed");
  for (const int unknown : {99, 8, -1, 1000})
    EXPECT_STREQ(llorch_device_error_message(unknown), "unknown device error");
}

}  // namespace
}  // namespace llorch
