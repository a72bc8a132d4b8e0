#include "device/roofline.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "kernel/kernels.h"

namespace llorch {
namespace {

using Clock = std::chrono::steady_clock;

/// Operations per second of one loop on all threads: the best of five runs of some milliseconds.
double peak(ThreadPool& pool, double (*loop)(std::int64_t)) {
  if (!loop) return 0;
  constexpr std::int64_t kRounds = 1'000'000;
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    std::atomic<double> operations{0};
    const auto start = Clock::now();
    pool.run(pool.threads(), [&](std::int64_t) { operations.fetch_add(loop(kRounds)); });
    best = std::max(best, operations / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best / 1e9;
}

constexpr std::int64_t kReadBytes = std::int64_t{1} << 30;  // more than any cache holds

/// Bytes per second; every thread reads a part of its own.
double read_speed(ThreadPool& pool, const kernel::Kernels& k, const std::byte* data, int streams, bool ahead) {
  double best = 0;
  std::atomic<std::uint32_t> sink{0};
  const std::int64_t part = kReadBytes / pool.threads() / 4096 * 4096;
  for (int i = 0; i < 3; ++i) {
    const auto start = Clock::now();
    pool.run(pool.threads(), [&](std::int64_t t) {
      sink += k.read(reinterpret_cast<const std::uint8_t*>(data) + t * part, part, streams, ahead);
    });
    best = std::max(
        best, static_cast<double>(part * pool.threads()) / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best / 1e9;
}

}  // namespace

Result<Roofline> measure_roofline(std::string_view isa, int threads) {
  const std::string name(isa);
  const kernel::Kernels* k = isa.empty() ? &kernel::best_kernels() : kernel::find_kernels(name.c_str());
  if (!k) return fail(ErrorCode::kDeviceNotFound, "ISA '{}' has no roofline on this machine", name);
  Roofline r;
  r.isa = k->name, r.threads = threads;
  {
    ThreadPool pool(threads);
    r.int8_gops = peak(pool, k->peak_int8), r.fp32_gflops = peak(pool, k->peak_fp32);
    r.bf16_gflops = peak(pool, k->peak_bf16);
    r.int8_tile_gops = peak(pool, k->peak_int8_tile), r.bf16_tile_gflops = peak(pool, k->peak_bf16_tile);
  }
  for (const bool huge : {true, false}) {
    LLORCH_TRY(AlignedBuffer buffer, AlignedBuffer::make(static_cast<std::size_t>(kReadBytes)));
    if (!huge) ::madvise(buffer.data(), buffer.size(), MADV_NOHUGEPAGE);
    std::memset(buffer.data(), 1, buffer.size());
    for (int t = 1; t <= threads; t *= 2) {
      ThreadPool pool(t);
      for (const int streams : {1, 4})
        for (const bool ahead : {false, true}) {
          r.reads.push_back({huge, ahead, t, streams, read_speed(pool, *k, buffer.data(), streams, ahead)});
          r.read_gb_s = std::max(r.read_gb_s, r.reads.back().gb_s);
        }
    }
  }
  return r;
}

}  // namespace llorch
