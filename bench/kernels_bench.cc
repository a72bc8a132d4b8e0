// Kernels per ISA, one thread, medians of five. Matrix products per format: one row (decode) against the read bandwidth
// of the same run, 16 and 512 rows (prefill) on data that stays in the cache. Then what is no product.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
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

/// Gop/s (ops = 2 n k) of a small matrix, whose panels stay in the cache.
double rate(const Kernels& k, DType type, const Weights& w, std::int64_t n, std::int64_t columns, std::int64_t rows) {
  return 2e-9 * static_cast<double>(n * columns * rows) / product_seconds(k, type, w, n, columns, rows);
}

void products(const Kernels& k, const DTypeInfo& type, std::int64_t large_bytes, double bandwidth) {
  constexpr std::int64_t kColumns = 2048, kSmall = 512;
  const std::int64_t panel = panel_bytes(k, type.type, kColumns);
  const std::int64_t large_n = large_bytes / panel * k.panel;
  const Weights large = make_weights(k, type.type, large_n, kColumns),
                small = make_weights(k, type.type, kSmall, kColumns);
  const double decode = static_cast<double>(large.panel_size * large.panels_count) /
                        product_seconds(k, type.type, large, large_n, kColumns, 1);
  std::printf("%-8s %-7s  %10.1f (%5.1f %%)  %12.1f  %12.1f\n", k.name, std::string(type.name).c_str(), decode / 1e9,
              100 * decode / bandwidth, rate(k, type.type, small, kSmall, kColumns, 16),
              rate(k, type.type, small, kSmall, kColumns, 512));
}

/// Microseconds of one call.
double call_us(const std::function<void()>& call) {
  constexpr int kCalls = 200;
  return 1e6 / kCalls * median_seconds([&] {
           for (int i = 0; i < kCalls; ++i) call();
         });
}

void operators(const Kernels& k) {
  constexpr std::int64_t kN = 4096;
  std::vector<float> x(kN), out(kN);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(uniform(3, 4, i) - 0.5);
  const auto print = [&](const char* what, const std::function<void()>& call) {
    std::printf("%-8s %-16s %10.2f us\n", k.name, what, call_us(call));
  };
  print("rms_norm", [&] { k.rms_norm(x.data(), x.data(), kN, 1e-5f, out.data()); });
  print("layer_norm", [&] { k.layer_norm(x.data(), x.data(), x.data(), kN, 1e-5f, out.data()); });
  print("silu_mul", [&] { k.silu_mul(x.data(), x.data(), kN, out.data()); });
  for (const DType type : {DType::kQ8_0, DType::kQ4_K}) {
    Activations activations;
    activations.resize(k, type, 1, kN);
    print(type == DType::kQ8_0 ? "quantize 32" : "quantize K", [&] { activations.convert_row(0, x.data()); });
  }
  for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
    const KvLayout layout = kv_layout(type, 128);
    constexpr int kPages = 16;
    std::vector<std::uint8_t> pages(static_cast<std::size_t>(layout.page_bytes * kPages));
    const std::uint8_t* table[kPages];
    for (int p = 0; p < kPages; ++p) {
      table[p] = pages.data() + p * layout.page_bytes;
      for (int i = 0; i < 64; ++i) k.kv_write(layout, pages.data() + p * layout.page_bytes, i, &x[128], &x[256]);
    }
    AttendQuery queries[4];
    for (int q = 0; q < 4; ++q)
      queries[q] = {&x[static_cast<std::size_t>(q) * 128], &out[static_cast<std::size_t>(q) * 128], kPages * 64 - 1, 0};
    print(type == KvType::kF16 ? "attend F16" : "attend Q8_0", [&] {
      k.attend({queries, 4, table, layout, 0, 0.1f, 0, false});
    });
  }
}

}  // namespace

/// Arguments: ISA, format ("operators": what is no product), MiB of weights for one row; each may be left out or "all".
int main(int argc, char** argv) {
  const std::string isa = argc > 1 ? argv[1] : "all", format = argc > 2 ? argv[2] : "all";
  const std::int64_t mib = argc > 3 ? std::atoll(argv[3]) : 1024;  // no cache holds 1 GiB; some servers share 480 MiB
  const Roofline roofline = measure_roofline("", 1).value();
  std::printf("read bandwidth, one thread: %.1f GB/s\n", roofline.read_gb_s);
  std::printf("%-8s %-7s  %22s  %12s  %12s\n", "ISA", "format", "1 row: GB/s (of read)", "16 rows", "512: Gop/s");
  int count = 0;
  const Kernels* const* all = all_kernels(count);
  for (int i = 0; i < count; ++i) {
    if (isa == "all" ? std::string(all[i]->name) == "scalar" : isa != all[i]->name) continue;
    for (const DTypeInfo& type : kDTypes)
      if (is_weight_type(type.type) && (format == "all" || format == type.name))
        products(*all[i], type, mib << 20, roofline.read_gb_s * 1e9);
    if (format == "all" || format == "operators") operators(*all[i]);
  }
}
