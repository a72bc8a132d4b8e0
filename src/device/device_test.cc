// The device layer, and memory that cannot be read by mistake (W-40..45, T-33, T-46).
#include "device/open.h"

#include "device/cpu/cpu_device.h"
#include "device/decorator.h"
#include "quant/table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace llorch {
namespace {

// A device buffer where a host span or pointer is wanted does not compile.
static_assert(!std::is_convertible_v<FloatSpan, std::span<const float>>);
static_assert(!std::is_convertible_v<FloatBuffer, std::span<float>>);
static_assert(!std::is_convertible_v<FloatSpan, const float*>);
template<class T>
concept Readable = requires(T t) {
  t[0];
}
|| requires(T t) { *t; }
|| requires(T t) { t.data(); }
|| requires(T t) { t.begin(); };
static_assert(!Readable<FloatSpan> && !Readable<FloatBuffer>);
static_assert(Readable<std::span<float>>, "the concept sees what is readable");
// Nor does a host span where device memory is wanted, memory of another element type, or a key of one's own making.
static_assert(!std::is_convertible_v<std::span<float>, FloatSpan> && !std::is_convertible_v<float*, FloatSpan>);
static_assert(!std::is_convertible_v<DeviceSpan<std::int32_t>, FloatSpan>);
static_assert(!std::is_constructible_v<DeviceKey, const Device&> && !std::is_default_constructible_v<DeviceKey>);
static_assert(!std::is_invocable_v<decltype(&Device::scale), Device&, std::span<float>, float>);
static_assert(std::is_invocable_v<decltype(&Device::scale), Device&, FloatSpan, float>, "the right use compiles");

TEST(DeviceDeathTest, memory_of_another_device_is_not_opened) {
  if (!LLORCH_ASSERTIONS) GTEST_SKIP() << "not run: this build has no assertions";
  const auto one = make_cpu_device("scalar", 1).value(), other = make_cpu_device("reference", 1).value();
  const FloatBuffer buffer = one->allocate(2, 3).value();
  one->scale(buffer.span(), 2);
  EXPECT_DEATH(other->scale(buffer.span(), 2), "memory of another device");
  EXPECT_DEATH((void)buffer.span().part(1, 2), "outside the device span");
  EXPECT_DEATH((void)buffer.span().as(3, 3), "beyond the device span");
}

TEST(Device, cpu_opens_and_verifies_on_every_isa) {
  for (const char* isa : {"", "reference", "scalar"}) {
    auto device = init_cpu_device(isa);
    ASSERT_TRUE(device) << device.error().message;
    EXPECT_EQ(device->id, "cpu");
    EXPECT_TRUE(verify_device(*device->device));
  }
}

TEST(Device, what_is_not_there_is_a_typed_error) {
  const auto wrong = init_cpu_device("mmx");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(device_status(wrong.error().code), DeviceStatus::kDeviceNotFound);
  EXPECT_NE(wrong.error().message.find("scalar"), std::string::npos) << "the message lists what there is";
  for (const int index : {-1, 0, 7, 1 << 30})
    EXPECT_EQ(init_cuda_device(index).error().code, ErrorCode::kDeviceNotFound);
  EXPECT_EQ(init_accelerate_device(nullptr).error().code, ErrorCode::kDeviceNotFound);
}

TEST(Device, memory_that_is_not_there_is_an_error_that_names_the_size) {
  auto device = init_cpu_device();
  ASSERT_TRUE(device);
  const auto huge = device->device->allocate(std::int64_t{1} << 40, 1 << 10);
  ASSERT_FALSE(huge);
  EXPECT_EQ(device_status(huge.error().code), DeviceStatus::kOutOfMemory);
  EXPECT_NE(huge.error().message.find("alloc"), std::string::npos);
  EXPECT_TRUE(verify_device(*device->device)) << "the device works on after a failed allocation";
}

/// One that computes one element wrongly.
class Broken final : public DeviceDecorator {
 public:
  using DeviceDecorator::DeviceDecorator;
  void linear(std::span<const LinearPart> parts, FloatSpan x) override {
    inner().linear(parts, x);
    const FloatSpan out = parts[0].out.as(static_cast<std::int64_t>(parts[0].out.size()), 1);
    inner().add(out.part(0, 1), 1, out.part(5, 1));
  }
};

TEST(Device, verification_notices_one_wrong_element) {
  Broken device(make_cpu_device("scalar", 1).value());
  const Status s = verify_device(device);
  ASSERT_FALSE(s);
  EXPECT_EQ(device_status(s.error().code), DeviceStatus::kInferenceFailed);
}

/// Heads of 24 rows: a part of some formats fills no whole line of memory.
TEST(Device, parts_of_a_matrix_lie_where_they_are_looked_for) {
  constexpr std::int64_t kHeads = 3, kOutputs = 24, kRows = 2;
  for (const DTypeInfo& type : kDTypes) {
    const quant::RowOps* ops = quant::find_row_ops(type.type);
    if (!ops) continue;
    const std::int64_t columns = std::max<std::int64_t>(32, type.block);
    std::vector<float> values(static_cast<std::size_t>(kHeads * kOutputs * columns)),
        x(static_cast<std::size_t>(kRows * kHeads * columns));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * i % 61) / 30 - 1;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * i % 37) / 18 - 1;
    std::vector<std::byte> bytes(row_bytes(type.type, values.size()));
    ops->quantize(values.data(), values.size(), bytes.data());
    TensorView t;
    t.name = "w", t.type = type.type, t.n_dims = 3, t.dims = {static_cast<std::uint64_t>(columns), kOutputs, kHeads, 1},
    t.data = bytes;
    const auto product = [&](const std::string& isa) {
      const auto device = make_cpu_device(isa, 2).value();
      const auto weight = device->matrix(t, kHeads, {}).value();
      const FloatBuffer in = device->allocate(kRows * kHeads, columns).value(),
                        out = device->allocate(kRows * kHeads, kOutputs).value();
      device->upload(x, in.span());
      device->linear_heads(*weight, in.span(), out.span());
      std::vector<float> got(out.size());
      device->download(out.span(), got);
      return got;
    };
    const std::vector<float> want = product("reference"), got = product("");
    double off = 0, size = 0;
    for (std::size_t i = 0; i < want.size(); ++i)
      off += std::pow(got[i] - want[i], 2.0), size += std::pow(want[i], 2.0);
    EXPECT_LE(std::sqrt(off / size), 0.02) << type.name;  // activations have 8 bits
  }
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
