// Products of every weight type against loops in double, on a GPU or on the emulated device: odd shapes, the same bits
// for any number of rows, in any kernel and in any order of threads.
#include "cuda/kernel/product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "cuda/kernel/product_args.h"
#include "cuda/test_device.h"
#include "quant/table.h"
#ifdef LLORCH_CUDA_EMULATED
#include "cuda/host/device.h"
#endif

namespace llorch::cuda {
namespace {

using Floats = std::vector<float>;
constexpr float kGuard = 12345.0f;
constexpr std::size_t kGuards = 32;

std::size_t u(std::int64_t v) { return static_cast<std::size_t>(v); }

struct Shape {
  std::int64_t outputs, columns, rows;
};

/// A weight of `parts` matrices in its file's form, as floats, and on the device.
struct Weight {
  DType type;
  Shape shape;
  Floats values;
  DeviceMemory memory;
  Matrix matrix;
};

Weight make_weight(Stream& stream, DType type, const Shape& shape, std::int64_t parts, const Floats& from) {
  Weight out{type, shape, Floats(from.size()), {}, {}};
  const std::int64_t bytes = panel_bytes(type, shape.columns), panels = (shape.outputs + 15) / 16;
  const std::uint64_t stride = row_bytes(type, u(shape.columns));
  std::vector<std::byte> packed(u(parts * panels * bytes));
  std::vector<std::byte> raw(stride * u(parts * shape.outputs));
  const quant::RowOps& ops = quant::row_ops(type);
  for (std::size_t row = 0; row < u(parts * shape.outputs); ++row) {
    ops.quantize(from.data() + row * u(shape.columns), u(shape.columns), raw.data() + row * stride);
    ops.dequantize(raw.data() + row * stride, u(shape.columns), out.values.data() + row * u(shape.columns));
  }
  for (std::int64_t i = 0; i < parts * panels; ++i) {
    const std::int64_t part = i / panels, panel = i % panels;
    pack_panel(type, shape.columns, raw.data() + u(part * shape.outputs + panel * 16) * stride,
               static_cast<int>(std::min<std::int64_t>(16, shape.outputs - panel * 16)), packed.data() + u(i * bytes));
  }
  out.memory = to_device(stream, packed);
  out.matrix = {type, out.memory.as<std::byte>(), shape.outputs, shape.columns, parts, bytes};
  return out;
}

/// As the device rounds them, from the definition: steps of max / 127 of 32 columns; F16 and BF16 as they are.
std::vector<double> rounded(DType type, const Floats& x, std::size_t columns) {
  std::vector<double> out(x.begin(), x.end());
  if (info(type).block == 1) return out;
  for (std::size_t begin = 0; begin < x.size(); begin += std::min<std::size_t>(32, columns)) {
    float top = 0;
    for (std::size_t i = begin; i < begin + 32; ++i) top = std::max(top, std::fabs(x[i]));
    for (std::size_t i = begin; i < begin + 32; ++i)
      out[i] = top > 0 ? std::nearbyint(x[i] * (127 / top)) * static_cast<double>(top / 127) : 0;
  }
  return out;
}

class Products : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = no_device(); !reason.empty()) GTEST_SKIP() << reason;
    stream_ = Stream::create().value();
  }

  /// The product of one part with rows of x that lie a little apart; results too. What is between must stay.
  Floats multiply(const Weight& w, std::int64_t part, const Floats& x, const Floats& bias,
                  ProductKernel kernel = ProductKernel::kChosen) {
    const std::int64_t columns = w.shape.columns, rows = static_cast<std::int64_t>(x.size()) / columns;
    const std::int64_t x_stride = columns + 3, out_stride = w.shape.outputs + 5;
    Floats apart(u(rows * x_stride), std::nanf(""));
    for (std::int64_t r = 0; r < rows; ++r) std::copy_n(x.begin() + r * columns, columns, apart.begin() + r * x_stride);
    const DeviceMemory x_memory = to_device(stream_, apart),
                       bias_memory = to_device(stream_, bias.empty() ? Floats(1) : bias);
    const DeviceMemory out_memory = to_device(stream_, Floats(u(rows * out_stride) + kGuards, kGuard));
    const DeviceMemory room = DeviceMemory::allocate(activation_bytes(rows, columns)).value();
    const float* bias_at = bias.empty() ? nullptr : bias_memory.as<float>();
    convert_rows(stream_.handle(), w.type, x_memory.as<float>(), x_stride, rows, columns, room.data());
    const Product product{&w.matrix, part, bias_at, out_memory.as<float>(), out_stride};
    if (kernel == ProductKernel::kChosen) {
      cuda::multiply(stream_.handle(), {&product, 1}, room.data(), rows);
    } else {
      ProductArgs args = product_args(w.matrix, room.data(), rows);
      add_matrix(args, product);
      args.kernel = kernel;
      launch_product(stream_.handle(), w.type, args);
    }
    const auto all = from_device<float>(stream_, out_memory);
    EXPECT_TRUE(all) << info(w.type).name << ": " << all.error().message;
    if (!all) return {};
    return without_guards(*all, rows, w.shape.outputs, out_stride);
  }

  static Floats without_guards(const Floats& all, std::int64_t rows, std::int64_t outputs, std::int64_t stride) {
    Floats out;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool inside = i < u(rows * stride) && i % u(stride) < u(outputs);
      if (inside)
        out.push_back(all[i]);
      else
        EXPECT_EQ(all[i], kGuard) << "written behind a row, at " << i;
    }
    return out;
  }

  void check_close(const Weight& w, std::int64_t part, const Floats& x, const Floats& bias, const Floats& out) {
    const std::size_t columns = u(w.shape.columns), outputs = u(w.shape.outputs), rows = x.size() / columns;
    ASSERT_EQ(out.size(), rows * outputs);
    const std::vector<double> seen = rounded(w.type, x, columns);
    const float* weights = w.values.data() + u(part) * outputs * columns;
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t n = 0; n < outputs; ++n) {
        double sum = bias.empty() ? 0 : bias[n], size = 0;
        for (std::size_t c = 0; c < columns; ++c) {
          const double term = weights[n * columns + c] * seen[r * columns + c];
          sum += term, size += std::fabs(term);
        }
        const double got = out[r * outputs + n];
        ASSERT_TRUE(std::isfinite(got)) << info(w.type).name << " at " << r << "," << n;
        ASSERT_LE(std::fabs(got - sum), 1e-5 * (size + 1))
            << info(w.type).name << ": outputs " << outputs << " columns " << columns << " rows " << rows << " at " << r
            << "," << n;
      }
  }

  Stream stream_;
};

std::vector<DTypeInfo> weight_types() {
  std::vector<DTypeInfo> out;
  for (const DTypeInfo& type : kDTypes)
    if (is_weight_type(type.type)) out.push_back(type);
  return out;
}

TEST_F(Products, equal_a_double_loop_for_every_type_and_odd_shapes) {
  for (const DTypeInfo& type : weight_types()) {
    const std::vector<std::int64_t> columns = type.block == 1    ? std::vector<std::int64_t>{1, 31, 100, 257, 576}
                                              : type.block == 32 ? std::vector<std::int64_t>{32, 96, 320, 1056}
                                              : type.block == 64 ? std::vector<std::int64_t>{64, 192, 1088}
                                                                 : std::vector<std::int64_t>{256, 768, 2304};
    std::size_t next = 0;
    for (const auto& [outputs, rows] :
         {std::pair<std::int64_t, std::int64_t>{1, 1}, {17, 3}, {40, 8}, {17, 13}, {40, 35}}) {
      const Shape shape{outputs, columns[next++ % columns.size()], rows};
      const std::uint64_t seed = u(outputs * 1000 + shape.columns * 10 + rows);
      const Weight w = make_weight(stream_, type.type, shape, 1, random_floats(u(outputs * shape.columns), seed));
      Floats x = random_floats(u(rows * shape.columns), seed + 1), bias;
      for (float& v : x) v *= 3;
      if (rows % 2 == 1) bias = random_floats(u(outputs), seed + 2);
      check_close(w, 0, x, bias, multiply(w, 0, x, bias));
    }
  }
}

TEST_F(Products, of_one_of_several_parts) {
  for (const DType type : {DType::kQ4_K, DType::kMXFP4, DType::kBF16}) {
    const Weight w = make_weight(stream_, type, {17, 256, 3}, 3, random_floats(3 * 17 * 256, 5));
    const Floats x = random_floats(3 * 256, 6);
    for (std::int64_t part = 0; part < 3; ++part) check_close(w, part, x, {}, multiply(w, part, x, {}));
  }
}

/// Matrices of two types with the same rows, the first three in one launch, give what each gives alone; the panels of
/// three are more than one block of the wide kernel has.
TEST_F(Products, of_several_matrices) {
  constexpr std::int64_t kColumns = 320;
  for (const std::int64_t rows : {3, 70}) {
    std::vector<Weight> weights;
    std::vector<DeviceMemory> outs;
    std::vector<Product> products;
    const Floats x = random_floats(u(rows * kColumns), 20), bias = random_floats(300, 21);
    const DeviceMemory x_memory = to_device(stream_, x), bias_memory = to_device(stream_, bias);
    for (const auto& [type, outputs] :
         {std::pair{DType::kQ8_0, 17}, {DType::kQ8_0, 300}, {DType::kQ8_0, 33}, {DType::kQ4_0, 40}})
      weights.push_back(
          make_weight(stream_, type, {outputs, kColumns, rows}, 1, random_floats(u(outputs * kColumns), u(outputs))));
    for (const Weight& w : weights) {
      outs.push_back(to_device(stream_, Floats(u(rows * w.shape.outputs) + kGuards, kGuard)));
      products.push_back({&w.matrix, 0, bias_memory.as<float>(), outs.back().as<float>(), w.shape.outputs});
    }
    const DeviceMemory room = DeviceMemory::allocate(activation_bytes(rows, kColumns)).value();
    convert_rows(stream_.handle(), DType::kQ8_0, x_memory.as<float>(), kColumns, rows, kColumns, room.data());
    cuda::multiply(stream_.handle(), products, room.data(), rows);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const Weight& w = weights[i];
      const Floats all = from_device<float>(stream_, outs[i]).value();
      const Floats out = without_guards(all, rows, w.shape.outputs, w.shape.outputs);
      const Floats own_bias(bias.begin(), bias.begin() + w.shape.outputs);
      for (const ProductKernel kernel : {ProductKernel::kSplit, ProductKernel::kWide}) {
        const Floats alone = multiply(w, 0, x, own_bias, kernel);
        ASSERT_EQ(out.size(), alone.size());
        EXPECT_EQ(std::memcmp(out.data(), alone.data(), out.size() * sizeof(float)), 0) << i << " of rows " << rows;
      }
      check_close(w, 0, x, own_bias, out);
    }
  }
}

/// Rows alone, and 8 of them, as among all; in both kernels. No slice of so many columns is empty.
TEST_F(Products, a_row_has_the_same_bits_alone_and_among_others) {
  for (const DTypeInfo& type : weight_types()) {
    const Shape shape{17, type.block == 1 ? 2099 : 2304, 35};
    const Weight w = make_weight(stream_, type.type, shape, 1, random_floats(u(shape.outputs * shape.columns), 3));
    const Floats x = random_floats(u(shape.rows * shape.columns), 4), bias = random_floats(u(shape.outputs), 5);
    const Floats all = multiply(w, 0, x, bias, ProductKernel::kWide);
    ASSERT_EQ(all.size(), u(shape.rows * shape.outputs));
    const auto expect_same = [&](std::int64_t first, std::int64_t rows, ProductKernel kernel) {
      const Floats some(x.begin() + first * shape.columns, x.begin() + (first + rows) * shape.columns);
      const Floats out = multiply(w, 0, some, bias, kernel);
      ASSERT_EQ(out.size(), u(rows * shape.outputs));
      EXPECT_EQ(std::memcmp(out.data(), all.data() + first * shape.outputs, out.size() * sizeof(float)), 0)
          << type.name << " rows from " << first << ": " << rows;
    };
    expect_same(0, 35, ProductKernel::kSplit);
    expect_same(3, 1, ProductKernel::kSplit);
    expect_same(34, 1, ProductKernel::kWide);
    expect_same(9, 8, ProductKernel::kChosen);
  }
}

#ifdef LLORCH_CUDA_EMULATED
TEST_F(Products, have_the_same_bits_in_every_order_of_threads) {
  for (const DTypeInfo& type : weight_types()) {
    const Shape shape{17, type.block == 1 ? 551 : 512, 9};
    const Weight w = make_weight(stream_, type.type, shape, 1, random_floats(u(shape.outputs * shape.columns), 7));
    const Floats x = random_floats(u(shape.rows * shape.columns), 8);
    for (const ProductKernel kernel : {ProductKernel::kSplit, ProductKernel::kWide}) {
      const Floats first = multiply(w, 0, x, {}, kernel);
      for (const char* order : {"reverse", "random:1", "forward"}) {
        host::Device::instance().set_order(host::Order::parse(order));
        const Floats again = multiply(w, 0, x, {}, kernel);
        ASSERT_EQ(first.size(), again.size());
        EXPECT_EQ(std::memcmp(first.data(), again.data(), first.size() * sizeof(float)), 0)
            << type.name << " " << order;
      }
    }
  }
}
#endif

/// Largest weights against largest activations of one sign: every product of codes at its limit.
TEST_F(Products, extreme_codes_do_not_overflow) {
  for (const DTypeInfo& type : weight_types())
    for (const float sign : {1.0f, -1.0f}) {
      const Shape shape{16, 256, 1};
      Floats values(u(shape.outputs * shape.columns)), x(u(shape.columns), sign);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 16 == 0 ? -1.0f : i / 256 % 2 == 0 ? 1.0f : -1.0f;
      const Weight w = make_weight(stream_, type.type, shape, 1, values);
      check_close(w, 0, x, {}, multiply(w, 0, x, {}));
    }
}

/// Far from 1, where one scale for all would lose what is small; zeros; and what is not finite stays so, in its row
/// alone.
TEST_F(Products, activations_of_all_sizes) {
  for (const DTypeInfo& type : weight_types()) {
    const Shape shape{16, 256, 6};
    const Weight w = make_weight(stream_, type.type, shape, 1, random_floats(u(shape.outputs * shape.columns), 9));
    Floats x = random_floats(u(shape.rows * shape.columns), 10);
    for (std::size_t i = 0; i < 256; ++i) {
      x[i] *= 1e-20f, x[256 + i] *= 1e20f, x[2 * 256 + i] = 0;
      if (i / 32 % 2 == 0) x[5 * 256 + i] *= 1e-6f;
    }
    x[3 * 256 + 77] = std::numeric_limits<float>::infinity(), x[4 * 256 + 78] = std::nanf("");
    const Floats out = multiply(w, 0, x, {});
    ASSERT_EQ(out.size(), u(shape.rows * shape.outputs));
    for (std::size_t row : {0, 1, 2, 5}) {
      const float size = row == 0 ? 1e-20f : row == 1 ? 1e20f : 1;
      Floats scaled(x.begin() + static_cast<std::ptrdiff_t>(row * 256),
                    x.begin() + static_cast<std::ptrdiff_t>(row * 256 + 256));
      Floats got(out.begin() + static_cast<std::ptrdiff_t>(row * 16),
                 out.begin() + static_cast<std::ptrdiff_t>(row * 16 + 16));
      for (float& v : scaled) v /= size;
      for (float& v : got) v /= size;
      check_close(w, 0, scaled, {}, got);
    }
    for (std::size_t i = 3 * 16; i < 5 * 16; ++i) EXPECT_FALSE(std::isfinite(out[i])) << type.name << " at " << i;
  }
}

}  // namespace
}  // namespace llorch::cuda
