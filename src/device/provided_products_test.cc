// Products of a library in the one shape that it is asked for: right at every size, the same bits in every company; and
// a library whose products are not is refused.
#include "device/cpu/provided_products.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>

#include "base/random.h"
#include "device/cpu/cpu_device.h"
#include "device/open.h"
#include "quant/table.h"

namespace llorch {
namespace {

constexpr int kRows = ProductProvider::kRows, kOutputs = ProductProvider::kOutputs,
              kColumns = ProductProvider::kColumns;

/// A library as it should be, in plain loops.
class Plain : public ProductProvider {
 public:
  [[nodiscard]] std::string_view name() const override { return "plain"; }
  void add_product(const float* x, const float* weight, float* out) const override {
    ++calls;
    aligned = aligned && reinterpret_cast<std::uintptr_t>(x) % 64 == 0 &&
              reinterpret_cast<std::uintptr_t>(weight) % 64 == 0 && reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
    for (int r = 0; r < kRows; ++r)
      for (int n = 0; n < kOutputs; ++n) out[r * kOutputs + n] += sum(x, weight, r, n);
  }
  mutable std::atomic<int> calls = 0;
  mutable std::atomic<bool> aligned = true;

 protected:
  [[nodiscard]] virtual float sum(const float* x, const float* weight, int r, int n) const {
    float total = 0;
    for (int k = 0; k < kColumns; ++k) total = std::fma(x[r * kColumns + k], weight[n * kColumns + k], total);
    return total;
  }
};

/// Keeps what it was given last; for one thread.
class Keeps final : public Plain {
 public:
  void add_product(const float* x, const float* weight, float* out) const override {
    last_x.assign(x, x + kRows * kColumns), last_weight.assign(weight, weight + kOutputs * kColumns);
    Plain::add_product(x, weight, out);
  }
  mutable std::vector<float> last_x, last_weight;
};

/// A row of the last tile place is summed from its end: other bits, no other value.
class ByPlace final : public Plain {
  [[nodiscard]] float sum(const float* x, const float* weight, int r, int n) const override {
    if (r != kRows - 1) return Plain::sum(x, weight, r, n);
    float total = 0;
    for (int k = kColumns - 1; k >= 0; --k) total = std::fma(x[r * kColumns + k], weight[n * kColumns + k], total);
    return total;
  }
};
class ByOutput final : public Plain {
  [[nodiscard]] float sum(const float* x, const float* weight, int r, int n) const override {
    const float value = Plain::sum(x, weight, r, n);
    return n == 17 ? std::nextafter(value, 2 * value) : value;
  }
};
class Short final : public Plain {
  [[nodiscard]] float sum(const float* x, const float* weight, int r, int n) const override {
    return Plain::sum(x, weight, r, n) - x[r * kColumns + 255] * weight[n * kColumns + 255];
  }
};
/// Another row times zero: nothing, unless that row is not finite.
class Neighbour final : public Plain {
  [[nodiscard]] float sum(const float* x, const float* weight, int r, int n) const override {
    return Plain::sum(x, weight, r, n) + 0 * x[(r + 1) % kRows * kColumns];
  }
};
class NotANumber final : public Plain {
  [[nodiscard]] float sum(const float*, const float*, int, int) const override {
    return std::numeric_limits<float>::quiet_NaN();
  }
};

TEST(CheckProducts, a_library_is_refused_whose_products_are_wrong_or_depend_on_place_or_neighbours) {
  EXPECT_TRUE(check_products(Plain()));
  const auto refusal = [](const ProductProvider& products) {
    const Status s = check_products(products);
    EXPECT_TRUE(s || s.error().code == ErrorCode::kDeviceNotFound);
    const auto device = make_cpu_device("", 1, {}, &products);
    EXPECT_EQ(static_cast<bool>(device), static_cast<bool>(s)) << "a device is made of it";
    return s ? "" : s.error().message;
  };
  EXPECT_NE(refusal(ByPlace()).find("the products of plain depend on the place"), std::string::npos);
  EXPECT_NE(refusal(ByOutput()).find("depend on the place"), std::string::npos);
  EXPECT_NE(refusal(Short()).find("the products of plain are wrong"), std::string::npos);
  EXPECT_NE(refusal(NotANumber()).find("are wrong"), std::string::npos);
  EXPECT_NE(refusal(Neighbour()).find("NaN into another row"), std::string::npos);
}

/// A weight, rows, and what they give in double.
struct Case {
  std::int64_t rows, outputs, columns;
  DType type;
  std::vector<std::byte> weight;
  std::vector<float> x, bias;

  Case(std::int64_t r, std::int64_t n, std::int64_t k, DType t) : rows(r), outputs(n), columns(k), type(t) {
    const auto value = [](std::uint64_t which, std::int64_t i) {
      return static_cast<float>(2 * uniform(5, which, static_cast<std::uint64_t>(i)) - 1);
    };
    for (std::int64_t i = 0; i < r * k; ++i) x.push_back(value(0, i));
    for (std::int64_t i = 0; i < n; ++i) bias.push_back(value(1, i));
    const std::size_t size = row_bytes(t, static_cast<std::uint64_t>(k));
    weight.resize(static_cast<std::size_t>(n) * size);
    std::vector<float> row(static_cast<std::size_t>(k));
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < k; ++j) row[static_cast<std::size_t>(j)] = value(2, i * k + j);
      quant::row_ops(t).quantize(row.data(), row.size(), weight.data() + static_cast<std::size_t>(i) * size);
    }
  }
  [[nodiscard]] double want(std::int64_t r, std::int64_t n) const {
    const std::size_t size = row_bytes(type, static_cast<std::uint64_t>(columns));
    return quant::row_ops(type).dot(weight.data() + static_cast<std::size_t>(n) * size, x.data() + r * columns,
                                    static_cast<std::uint64_t>(columns)) +
           static_cast<double>(bias[static_cast<std::size_t>(n)]);
  }
};

/// What fills up the last block that was multiplied is zeros.
void expect_zeros_behind(const Case& c, const Keeps& seen) {
  const auto filled = [](std::int64_t all, std::int64_t block) { return (all - 1) % block + 1; };
  const std::int64_t rows = filled(c.rows, kRows), outputs = filled(c.outputs, kOutputs),
                     columns = filled(c.columns, kColumns);
  const auto count_not_zero = [&](const std::vector<float>& block, std::int64_t lines) {
    int count = 0;
    for (std::size_t i = 0; i < block.size(); ++i) {
      const auto line = static_cast<std::int64_t>(i) / kColumns, column = static_cast<std::int64_t>(i) % kColumns;
      count += (line >= lines || column >= columns) && block[i] != 0;
    }
    return count;
  };
  EXPECT_EQ(count_not_zero(seen.last_x, rows), 0);
  EXPECT_EQ(count_not_zero(seen.last_weight, outputs), 0);
}

TEST(ProvidedProducts, are_those_of_the_reference_at_odd_sizes_and_write_nothing_else) {
  for (const auto& [rows, outputs, columns, type] : {std::tuple{1, 1, 1, DType::kF32},
                                                     {1, 64, 256, DType::kF32},
                                                     {7, 63, 255, DType::kF32},
                                                     {8, 65, 257, DType::kF32},
                                                     {9, 130, 600, DType::kF16},
                                                     {17, 70, 96, DType::kQ8_0},
                                                     {3, 5, 288, DType::kQ5_0},
                                                     {20, 66, 512, DType::kQ4_K}}) {
    const Case c(rows, outputs, columns, type);
    const Keeps plain;
    ProvidedProducts products(plain);
    // What was there before is larger and must not be seen.
    products.resize(rows + 9, columns + 300);
    const std::vector<float> nan(static_cast<std::size_t>(columns) + 300, std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t r = 0; r < rows + 9; ++r) products.convert_row(r, nan.data());
    products.resize(rows, columns);
    for (std::int64_t r = 0; r < rows; ++r) products.convert_row(r, c.x.data() + r * columns);
    for (std::int64_t r = rows; r % kRows != 0; ++r) products.clear_row(r);
    const std::int64_t stride = outputs + 3;
    std::vector<float> out(static_cast<std::size_t>(rows * stride), 77.0f);
    const auto* weight = reinterpret_cast<const std::uint8_t*>(c.weight.data());
    products.compute({weight, type, columns, 0, outputs, 0, rows, c.bias.data(), out.data(), stride});
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t n = 0; n < stride; ++n) {
        const float got = out[static_cast<std::size_t>(r * stride + n)];
        if (n >= outputs)
          ASSERT_EQ(got, 77.0f) << "behind row " << r;
        else
          ASSERT_TRUE(std::fabs(static_cast<double>(got) - c.want(r, n)) <= 1e-5 * static_cast<double>(columns + 1))
              << info(type).name << " row " << r << " output " << n << ": " << got << ", not " << c.want(r, n);
      }
    EXPECT_EQ(plain.calls, (rows + kRows - 1) / kRows * ((outputs + kOutputs - 1) / kOutputs) *
                               ((columns + kColumns - 1) / kColumns));
    EXPECT_TRUE(plain.aligned);
    expect_zeros_behind(c, plain);
  }
}

TEST(ProvidedProducts, a_row_has_the_same_bits_alone_and_in_any_place_among_others) {
  const Case c(21, 100, 300, DType::kF32);
  const Plain plain;
  const auto* weight = reinterpret_cast<const std::uint8_t*>(c.weight.data());
  std::vector<float> alone(100);
  for (std::int64_t place = 0; place < c.rows; ++place) {
    ProvidedProducts products(plain);
    products.resize(c.rows, c.columns);
    for (std::int64_t r = 0; r < c.rows; ++r) products.convert_row(r, c.x.data() + (r == place ? 0 : r) * c.columns);
    for (std::int64_t r = c.rows; r % kRows != 0; ++r) products.clear_row(r);
    std::vector<float> out(static_cast<std::size_t>(c.rows * c.outputs));
    products.compute({weight, c.type, c.columns, 0, c.outputs, 0, c.rows, nullptr, out.data(), c.outputs});
    const auto mine = std::span(out).subspan(static_cast<std::size_t>(place * c.outputs), 100);
    if (place == 0) std::ranges::copy(mine, alone.begin());
    EXPECT_TRUE(std::ranges::equal(mine, alone)) << "in place " << place;
  }
}

TEST(CpuDevice, with_a_librarys_products_is_verified_and_names_it) {
  const Plain plain;
  const auto opened = init_accelerate_device(&plain, "scalar", 2);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->id, "cpu");
  EXPECT_EQ(opened->device->isa(), "scalar+plain");
  const int before = plain.calls;
  EXPECT_TRUE(verify_device(*opened->device));
  EXPECT_GT(plain.calls, before) << "its products are the library's";
  const auto canonical = init_accelerate_device(&plain, "canonical");
  ASSERT_FALSE(canonical);
  EXPECT_EQ(canonical.error().code, ErrorCode::kDeviceNotFound);
  EXPECT_NE(canonical.error().message.find("canonical bits are those of the kernels"), std::string::npos);
  const auto none = init_accelerate_device(nullptr);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message, "accelerate: this program is built without a CBLAS");
}

}  // namespace
}  // namespace llorch
