#include "device/cuda/cuda_roofline.h"

#include <algorithm>

#include "cuda/kernel/roofline.h"
#include "cuda/runtime.h"
#include "device/cuda/cuda_device.h"

namespace llorch {
namespace {

constexpr int kTries = 5, kBlocksEach = 8;  // blocks of a multiprocessor
constexpr double kMillisecondsMin = 5;      // of a measurement
constexpr unsigned kRoundsMax = 1 << 16;
constexpr std::size_t kBytesMax = std::size_t{1} << 30, kBytesEmulated = 1 << 18;

class Measurement {
 public:
  static Result<Measurement> make() {
    Measurement m;
    LLORCH_TRY(m.stream_, cuda::Stream::create());
    LLORCH_TRY(m.begin_, cuda::Event::create());
    LLORCH_TRY(m.end_, cuda::Event::create());
    return m;
  }
  [[nodiscard]] cuda::Stream& stream() { return stream_; }

  /// In 1e9 units per second: `work(rounds)` launches, and does `units` in each round.
  template<class Work>
  Result<double> rate(double units, const Work& work) {
    unsigned rounds = 1;
    LLORCH_TRY(double best, milliseconds(rounds, work));
    while (best < kMillisecondsMin && rounds < kRoundsMax) {
      rounds *= 4;
      LLORCH_TRY(best, milliseconds(rounds, work));
    }
    for (int i = 1; i < kTries; ++i) {
      LLORCH_TRY(const double again, milliseconds(rounds, work));
      best = std::min(best, again);
    }
    return units * rounds / (best * 1e6);
  }

 private:
  template<class Work>
  Result<double> milliseconds(unsigned rounds, const Work& work) {
    LLORCH_OK(stream_.record(begin_));
    work(rounds);
    LLORCH_OK(stream_.record(end_));
    LLORCH_OK(stream_.synchronize());
    return cuda::milliseconds_between(begin_, end_);
  }

  cuda::Stream stream_;
  cuda::Event begin_, end_;
};

}  // namespace

Result<Roofline> measure_cuda_roofline(int index) {
  LLORCH_TRY(const auto device, CudaDevice::make(index, 1));
  const cuda::DeviceProperties& p = device->properties();
  const auto blocks = static_cast<unsigned>(p.multiprocessors * kBlocksEach);
  const std::size_t bytes = (p.emulated ? kBytesEmulated : std::min(kBytesMax, p.memory_free_bytes / 4)) / 16 * 16;
  const auto words = static_cast<std::int64_t>(bytes / 16);
  Roofline r;
  r.isa = device->isa(), r.threads = p.multiprocessors;
  LLORCH_TRY(Measurement m, Measurement::make());
  const cuda::StreamHandle stream = m.stream().handle();
  LLORCH_TRY(const cuda::DeviceMemory in, cuda::DeviceMemory::allocate(bytes));
  LLORCH_TRY(const cuda::DeviceMemory out, cuda::DeviceMemory::allocate(bytes));
  LLORCH_TRY(const cuda::DeviceMemory sums, cuda::DeviceMemory::allocate(blocks * cuda::kRoundValues * sizeof(float)));
  LLORCH_OK(m.stream().fill(in.data(), 1, bytes));
  const auto moved = static_cast<double>(bytes);
  LLORCH_TRY(r.read_gb_s, m.rate(moved, [&](unsigned rounds) {
    for (unsigned i = 0; i < rounds; ++i) cuda::read_words(stream, in.data(), words, sums.data(), blocks);
  }));
  LLORCH_TRY(r.copy_gb_s, m.rate(2 * moved, [&](unsigned rounds) {
    for (unsigned i = 0; i < rounds; ++i) cuda::copy_words(stream, in.data(), words, out.data(), blocks);
  }));
  LLORCH_TRY(r.bf16_gflops, m.rate(cuda::kRoundOperationsBf16 * blocks, [&](unsigned rounds) {
    cuda::multiply_bf16(stream, blocks, rounds, sums.as<float>());
  }));
  LLORCH_TRY(r.int8_gops, m.rate(cuda::kRoundOperationsS8 * blocks,
                                 [&](unsigned rounds) { cuda::multiply_s8(stream, blocks, rounds, sums.as<int>()); }));
  LLORCH_TRY(r.fp32_gflops, m.rate(cuda::kRoundOperationsF32 * blocks, [&](unsigned rounds) {
    cuda::multiply_f32(stream, blocks, rounds, sums.as<float>());
  }));
  return r;
}

}  // namespace llorch
