// Matrix products per format and ISA, as fractions of what this machine does in the same run: one row (decode) against
// read bandwidth, 512 rows (prefill) against the rate of the int8 dot kernel on data that stays in the cache. One
// thread. Medians of five.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/random.h"
#include "kernel/activations.h"
#include "kernel/kernels.h"
#include "kernel/pack.h"
#include "device/roofline.h"
#include "quant/table.h"

namespace {

using namespace llorch;
using namespace llorch::kernel;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median_seconds(const std::function<void()>& work) {
  work();
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) times.push_back(seconds_of(work));
  std::ranges::sort(times);
  return times[2];
}

struct Weights {
  AlignedBuffer panels;
  std::int64_t panel_size = 0, panels_count = 0;
};

Weights make_weights(const Kernels& k, DType type, std::int64_t n, std::int64_t columns) {
  Weights w;
  w.panel_size = panel_bytes(k, type, columns);
  w.panels_count = n / k.panel;
  w.panels = AlignedBuffer::make(static_cast<std::size_t>(w.panel_size * w.panels_count)).value();
  std::vector<float> row(static_cast<std::size_t>(columns));
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(uniform(1, 2, i) - 0.5);
  const std::uint64_t stride = row_bytes(type, static_cast<std::uint64_t>(columns));
  std::vector<std::byte> raw(stride * static_cast<std::uint64_t>(k.panel));
  for (int r = 0; r < k.panel; ++r)
    quant::row_ops(type).quantize(row.data(), row.size(), raw.data() + static_cast<std::uint64_t>(r) * stride);
  auto* out = reinterpret_cast<std::uint8_t*>(w.panels.data());
  pack_panel(k, type, columns, raw.data(), k.panel, out);
  for (std::int64_t p = 1; p < w.panels_count; ++p)
    std::memcpy(out + p * w.panel_size, out, static_cast<std::size_t>(w.panel_size));
  return w;
}

double product_seconds(const Kernels& k, DType type, const Weights& w, std::int64_t n, std::int64_t columns,
                       std::int64_t rows) {
  const std::vector<float> x(static_cast<std::size_t>(rows * columns), 0.5f);
  std::vector<float> out(static_cast<std::size_t>(rows * n));
  Activations activations;
  activations.resize(k, type, rows, columns);
  for (std::int64_t r = 0; r < rows; ++r) activations.convert_row(r, x.data() + r * columns);
  LinearArgs a{};
  activations.fill(a, x.data(), 0, rows);
  a.panels = reinterpret_cast<const std::uint8_t*>(w.panels.data()), a.panel_bytes = w.panel_size;
  a.last_panel = w.panels_count, a.n = n, a.out = out.data(), a.out_stride = n;
  return median_seconds([&] { k.linear[static_cast<int>(type)](a); });
}

}  // namespace

int main() {
  const Roofline roofline = measure_roofline("", 1).value();
  const double bandwidth = roofline.read_gb_s * 1e9;
  std::printf("read bandwidth, one thread: %.1f GB/s\n", roofline.read_gb_s);
  std::printf("%-8s %-7s  %22s  %28s\n", "ISA", "format", "1 row: GB/s (of read)", "512 rows: Gop/s (ops = 2 n k)");
  int count = 0;
  const Kernels* const* all = all_kernels(count);
  for (int i = 0; i < count; ++i) {
    if (std::string(all[i]->name) == "scalar") continue;
    for (const DTypeInfo& type : kDTypes) {
      if (!is_weight_type(type.type)) continue;
      constexpr std::int64_t kColumns = 2048, kSmall = 512, kRows = 512;
      // No cache holds 1 GiB; some servers share 480 MiB.
      const std::int64_t panel = panel_bytes(*all[i], type.type, kColumns);
      const std::int64_t large_n = (std::int64_t{1} << 30) / panel * all[i]->panel;
      const Weights large = make_weights(*all[i], type.type, large_n, kColumns),
                    small = make_weights(*all[i], type.type, kSmall, kColumns);
      const double decode = static_cast<double>(large.panel_size * large.panels_count) /
                            product_seconds(*all[i], type.type, large, large_n, kColumns, 1);
      const double prefill =
          2.0 * kSmall * kColumns * kRows / product_seconds(*all[i], type.type, small, kSmall, kColumns, kRows);
      std::printf("%-8s %-7s  %10.1f (%5.1f %%)     %16.1f\n", all[i]->name, std::string(type.name).c_str(),
                  decode / 1e9, 100 * decode / bandwidth, prefill / 1e9);
    }
  }
}
