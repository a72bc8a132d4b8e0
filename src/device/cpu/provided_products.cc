#include "device/cpu/provided_products.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/random.h"
#include "quant/table.h"

namespace llorch {
namespace {

constexpr std::int64_t kRows = ProductProvider::kRows, kOutputs = ProductProvider::kOutputs,
                       kColumns = ProductProvider::kColumns;

std::int64_t blocks_of(std::int64_t columns) { return (columns + kColumns - 1) / kColumns; }

/// Rows first..last-1 of a weight as floats, (blocks, kOutputs, kColumns); what is missing is zeros. The weight is read
/// from its beginning to its end.
void expand(const ProvidedProducts::Call& c, std::int64_t first, std::int64_t last, float* out) {
  const quant::RowOps& ops = quant::row_ops(c.type);
  const auto bytes_of = [&](std::int64_t columns) {
    return static_cast<std::int64_t>(row_bytes(c.type, static_cast<std::uint64_t>(columns)));
  };
  const std::int64_t row_size = bytes_of(c.columns), block_size = bytes_of(kColumns), blocks = blocks_of(c.columns);
  for (std::int64_t n = 0; n < kOutputs; ++n)
    for (std::int64_t b = 0; b < blocks; ++b) {
      float* to = out + (b * kOutputs + n) * kColumns;
      const std::int64_t filled = first + n < last ? std::min(kColumns, c.columns - b * kColumns) : 0;
      if (filled > 0)
        ops.dequantize(reinterpret_cast<const std::byte*>(c.weight + (first + n) * row_size + b * block_size),
                       static_cast<std::uint64_t>(filled), to);
      std::fill(to + filled, to + kColumns, 0.0f);
    }
}

}  // namespace

void ProvidedProducts::resize(std::int64_t rows, std::int64_t columns) {
  columns_ = columns, blocks_ = blocks_of(columns);
  rows_.grow((rows + kRows - 1) / kRows * kRows * blocks_ * kColumns);
}

std::int64_t ProvidedProducts::place(std::int64_t row, std::int64_t block) const {
  return ((row / kRows * blocks_ + block) * kRows + row % kRows) * kColumns;
}

void ProvidedProducts::convert_row(std::int64_t row, const float* x) {
  for (std::int64_t b = 0; b < blocks_; ++b) {
    float* to = rows_.data() + place(row, b);
    const std::int64_t count = std::min(kColumns, columns_ - b * kColumns);
    std::copy_n(x + b * kColumns, count, to);
    std::fill(to + count, to + kColumns, 0.0f);
  }
}

void ProvidedProducts::clear_row(std::int64_t row) {
  for (std::int64_t b = 0; b < blocks_; ++b) std::fill_n(rows_.data() + place(row, b), kColumns, 0.0f);
}

void ProvidedProducts::compute(const Call& c) const {
  thread_local FloatLines expanded;
  expanded.grow(kOutputs * blocks_ * kColumns);
  for (std::int64_t first = c.first_output; first < c.last_output; first += kOutputs) {
    const std::int64_t count = std::min(kOutputs, c.last_output - first);
    expand(c, first, first + count, expanded.data());
    for (std::int64_t row = 0; row < c.rows; row += kRows) {
      alignas(64) float sums[kRows * kOutputs] = {};
      for (std::int64_t b = 0; b < blocks_; ++b)
        provider_.add_product(rows_.data() + place(c.first_row + row, b), expanded.data() + b * kOutputs * kColumns,
                              sums);
      for (std::int64_t r = 0; r < std::min(kRows, c.rows - row); ++r) {
        float* out = c.out + (row + r) * c.out_stride + first;
        const float* mine = sums + r * kOutputs;
        for (std::int64_t n = 0; n < count; ++n) out[n] = c.bias ? mine[n] + c.bias[first + n] : mine[n];
      }
    }
  }
}

namespace {

/// One product of random rows and weights.
struct Probe {
  FloatLines x, weight, out;

  explicit Probe(std::uint64_t seed) {
    x.grow(kRows * kColumns), weight.grow(kOutputs * kColumns), out.grow(kRows * kOutputs);
    const auto value = [&](std::uint64_t which, std::int64_t i) {
      return static_cast<float>(2 * uniform(seed, which, static_cast<std::uint64_t>(i)) - 1);
    };
    for (std::int64_t i = 0; i < kRows * kColumns; ++i) x.data()[i] = value(0, i);
    for (std::int64_t i = 0; i < kOutputs * kColumns; ++i) weight.data()[i] = value(1, i);
  }
  void compute(const ProductProvider& products) {
    std::fill_n(out.data(), kRows * kOutputs, 0.0f);
    products.add_product(x.data(), weight.data(), out.data());
  }
};

/// The largest distance from sums in double, relative to the sum of magnitudes.
double worst_error(const Probe& p) {
  double worst = 0;
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t n = 0; n < kOutputs; ++n) {
      double sum = 0, size = 0;
      for (std::int64_t k = 0; k < kColumns; ++k) {
        const double product = double{p.x.data()[r * kColumns + k]} * double{p.weight.data()[n * kColumns + k]};
        sum += product, size += std::fabs(product);
      }
      const double error = std::fabs(double{p.out.data()[r * kOutputs + n]} - sum) / size;
      if (!(error <= worst)) worst = error;
    }
  return worst;
}

}  // namespace

Status check_products(const ProductProvider& products) {
  const auto wrong = [&](std::string_view what) {
    return fail(ErrorCode::kDeviceNotFound, "the products of {} {}: it cannot be used", products.name(), what);
  };
  Probe strangers(1), mine(2);
  strangers.compute(products);
  // A sum of K terms in any order errs by at most K 2^-24 of the sum of magnitudes.
  if (!(worst_error(strangers) <= static_cast<double>(kColumns) * 0x1p-24)) return wrong("are wrong");
  mine.compute(products);
  const float want = mine.out.data()[0];
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t n = 0; n < kOutputs; ++n) {
      Probe other = strangers;
      std::copy_n(mine.x.data(), kColumns, other.x.data() + r * kColumns);
      std::copy_n(mine.weight.data(), kColumns, other.weight.data() + n * kColumns);
      other.compute(products);
      if (std::memcmp(&other.out.data()[r * kOutputs + n], &want, sizeof want) != 0)
        return wrong("depend on the place of a row or an output, or on its neighbours");
    }
  std::fill_n(mine.x.data() + kColumns, kColumns, std::numeric_limits<float>::quiet_NaN());
  mine.compute(products);
  if (std::memcmp(mine.out.data(), &want, sizeof want) != 0) return wrong("let a row's NaN into another row");
  return {};
}

}  // namespace llorch
