// What the emulated device promises beside catching mistakes: orders, events, graphs, memory, host threads, speed.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <set>

#include "cuda/host/device.h"
#include "cuda/instructions.h"
#include "cuda/launch.h"
#include "cuda/test_device.h"

namespace llorch::cuda {
namespace {

using host::Order;

class Emulator : public testing::Test {
 protected:
  void TearDown() override {
    host::Device::instance().reset();
    set_order("forward");
    unsetenv("LLORCH_CUDA_THREADS");
  }
  static void set_order(const char* order) { host::Device::instance().set_order(Order::parse(order)); }
  Stream stream_ = Stream::create().value();
};

TEST(OrderTest, texts_and_choices) {
  EXPECT_EQ(Order::parse("").kind, Order::Kind::kForward);
  EXPECT_EQ(Order::parse("reverse").kind, Order::Kind::kReverse);
  EXPECT_EQ(Order::parse("random:77").seed, 77u);
  for (const char* text : {"forward", "reverse", "random:1", "random:2"}) {
    host::Chooser chooser(Order::parse(text));
    unsigned left = 0xf0f00001u;
    for (int i = 0; i < 9; ++i) {
      const unsigned bit = chooser.bit(left);
      EXPECT_TRUE((left >> bit) & 1) << text;
      left &= ~(1u << bit);
    }
    EXPECT_EQ(left, 0u);
    for (const std::uint64_t count : {1, 2, 6, 7, 100}) {
      std::set<std::uint64_t> blocks;
      for (std::uint64_t step = 0; step < count; ++step) blocks.insert(host::block_at(Order::parse(text), step, count));
      EXPECT_EQ(blocks.size(), count) << text;
      EXPECT_EQ(*blocks.rbegin(), count - 1) << text;
    }
  }
}

__global__ void who_comes(unsigned* counter, unsigned* order) {
  order[atomicAdd(counter, 1u)] = blockIdx.x * blockDim.x + threadIdx.x;
}

TEST_F(Emulator, orders_of_threads_and_blocks) {
  std::vector<unsigned> forward(200);
  std::iota(forward.begin(), forward.end(), 0u);
  std::set<std::vector<unsigned>> seen;
  for (const char* text : {"forward", "reverse", "random:1", "random:2", "random:1"}) {
    set_order(text);
    const DeviceMemory counter = to_device(stream_, std::vector<unsigned>{0}), order = on_device<unsigned>(200);
    launch(who_comes, 4, 50, 0, stream_.handle(), counter.as<unsigned>(), order.as<unsigned>());
    auto came = from_device<unsigned>(stream_, order).value();
    seen.insert(came);
    const std::string_view order_name = text;
    EXPECT_EQ(came == forward, order_name == "forward");
    EXPECT_EQ(came == std::vector<unsigned>(forward.rbegin(), forward.rend()), order_name == "reverse");
    std::sort(came.begin(), came.end());
    EXPECT_EQ(came, forward) << text;
  }
  EXPECT_GE(seen.size(), 4u);
}

TEST(Settings, nonsense_is_an_error_that_names_the_variable) {
  const std::pair<const char*, std::vector<const char*>> wrong[] = {
      {"LLORCH_CUDA_ORDER", {"sideways", "random:", "random:x", "random:1x", "Reverse"}},
      {"LLORCH_CUDA_MEMORY_BYTES", {"4GB", "0", "-1", "99999999999999999999", " 1"}},
      {"LLORCH_CUDA_THREADS", {"two", "0", "65", "3.5"}},
      {"LLORCH_CUDA_SHARED_BYTES", {"99K", "1", "49151", "232449"}},
      {"LLORCH_CUDA_FAULT", {"lost", "lost:", "lost:0", "hang:x", "gone:1"}}};
  EXPECT_TRUE(device_count());
  for (const auto& [variable, texts] : wrong)
    for (const char* text : texts) {
      setenv(variable, text, 1);
      const auto count = device_count();
      const auto properties = device_properties(0);
      for (const Status& refused : {count ? Status() : Status(std::unexpected(count.error())), select_device(0),
                                    properties ? Status() : Status(std::unexpected(properties.error()))}) {
        ASSERT_FALSE(refused) << variable << ' ' << text;
        EXPECT_EQ(refused.error().code, ErrorCode::kInvalidRequest);
        EXPECT_NE(refused.error().message.find(fmt::format("{} is '{}'", variable, text)), std::string::npos)
            << refused.error().message;
      }
      unsetenv(variable);
    }
  const std::pair<const char*, const char*> right[] = {{"LLORCH_CUDA_ORDER", "random:18446744073709551615"},
                                                       {"LLORCH_CUDA_ORDER", ""},
                                                       {"LLORCH_CUDA_MEMORY_BYTES", "1"},
                                                       {"LLORCH_CUDA_THREADS", "64"},
                                                       {"LLORCH_CUDA_SHARED_BYTES", "101376"},
                                                       {"LLORCH_CUDA_FAULT", "hang:12"}};
  for (const auto& [variable, text] : right) {
    setenv(variable, text, 1);
    EXPECT_TRUE(device_count()) << variable << ' ' << text;
    unsetenv(variable);
  }
}

__global__ void indices(uint3* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x,
                 threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * threads + thread] = {thread, block, threads};
}

TEST_F(Emulator, indices_of_three_dimensions) {
  for (const char* threads : {"1", "3"}) {
    setenv("LLORCH_CUDA_THREADS", threads, 1);
    const DeviceMemory out = on_device<uint3>(24 * 30);
    launch(indices, dim3(4, 3, 2), dim3(5, 3, 2), 0, stream_.handle(), out.as<uint3>());
    const auto all = from_device<uint3>(stream_, out).value();
    for (unsigned i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i].x, i % 30);
      EXPECT_EQ(all[i].y, i / 30);
    }
  }
}

__global__ void votes(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const unsigned half = i % 32 < 16 ? 0xffffu : 0xffff0000u;
  int* mine = out + i * 8;
  mine[0] = __syncthreads_count(i % 3 == 0);
  mine[1] = __syncthreads_or(i == 40) * 2 + __syncthreads_and(i < 64);
  mine[2] = static_cast<int>(__ballot_sync(half, i % 2));
  mine[3] = __any_sync(half, i % 32 == 17) * 2 + __all_sync(half, i % 32 < 16);
  mine[4] = __reduce_add_sync(half, i);
  mine[5] = __reduce_max_sync(half, -i);
  mine[6] = __shfl_down_sync(0xffffffffu, i, 3, 8);
  mine[7] = __shfl_sync(0xffffffffu, i, 9, 8);
}

TEST_F(Emulator, votes_and_reductions_of_half_warps) {
  for (const char* text : {"forward", "reverse", "random:5"}) {
    set_order(text);
    const DeviceMemory memory = on_device<int>(64 * 8);
    launch(votes, 1, 64, 0, stream_.handle(), memory.as<int>());
    const auto out = from_device<int>(stream_, memory);
    ASSERT_TRUE(out) << out.error().message;
    for (int i = 0; i < 64; ++i) {
      const int* mine = out->data() + i * 8;
      const bool low = i % 32 < 16;
      const int first = i / 16 * 16;
      EXPECT_EQ(mine[0], 22);
      EXPECT_EQ(mine[1], 3);
      EXPECT_EQ(static_cast<unsigned>(mine[2]), low ? 0xaaaau : 0xaaaa0000u);
      EXPECT_EQ(mine[3], low ? 1 : 2);
      EXPECT_EQ(mine[4], first * 16 + 120);
      EXPECT_EQ(mine[5], -first);
      EXPECT_EQ(mine[6], i % 8 + 3 < 8 ? i + 3 : i);
      EXPECT_EQ(mine[7], i / 8 * 8 + 1);
    }
  }
}

TEST_F(Emulator, memory_is_counted_and_runs_out) {
  const auto before = device_properties(0).value();
  EXPECT_TRUE(before.emulated);
  const DeviceMemory memory = DeviceMemory::allocate(1 << 20).value();
  EXPECT_EQ(device_properties(0).value().memory_free_bytes, before.memory_free_bytes - (1 << 20));
  host::Device::instance().set_memory_bytes(3 << 20);
  const auto refused = DeviceMemory::allocate(5 << 20);
  host::Device::instance().set_memory_bytes(before.memory_bytes);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kVramOom);
  EXPECT_TRUE(stream_.synchronize()) << "and nothing else fails";
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 256, 0u);
  EXPECT_EQ(select_device(1).error().code, ErrorCode::kDeviceNotFound);
}

TEST_F(Emulator, copies_must_be_inside_device_memory) {
  const DeviceMemory memory = DeviceMemory::allocate(16).value();
  const PinnedMemory pinned = PinnedMemory::allocate(64).value();
  EXPECT_FALSE(stream_.copy_to_device(memory.data(), pinned.data(), 17));
  EXPECT_TRUE(stream_.copy_to_device(memory.data(), pinned.data(), 16));
  EXPECT_FALSE(stream_.fill(memory.as<char>() + 1, 0, 16));
  std::fill_n(pinned.as<char>(), 64, 'x');
  EXPECT_EQ(from_device<char>(stream_, memory).value(), std::vector<char>(16, 'x'));
}

TEST_F(Emulator, events_are_polled_and_timed) {
  const Event begin = Event::create().value(), end = Event::create().value();
  const DeviceMemory memory = DeviceMemory::allocate(1 << 20).value();
  check(stream_.record(begin));
  check(stream_.fill(memory.data(), 1, memory.bytes()));
  check(stream_.record(end));
  EXPECT_FALSE(end.done().value()) << "each call does a little";
  int calls = 1;
  while (!end.done().value()) ++calls;
  EXPECT_LE(calls, 3);
  EXPECT_GT(milliseconds_between(begin, end).value(), 0.0);
}

TEST_F(Emulator, captures_that_are_wrong) {
  Stream other = Stream::create().value();
  const Event event = Event::create().value();
  const DeviceMemory memory = DeviceMemory::allocate(64).value();
  EXPECT_FALSE(stream_.end_capture()) << "none began";
  check(stream_.begin_capture());
  EXPECT_FALSE(stream_.begin_capture());
  EXPECT_FALSE(stream_.synchronize());
  check(stream_.record(event));
  check(other.wait(event));
  check(other.fill(memory.data(), 0, 64));
  EXPECT_FALSE(other.end_capture()) << "it began elsewhere";
  EXPECT_FALSE(stream_.end_capture()) << "the other stream was not waited for";
  EXPECT_TRUE(other.synchronize());
}

__global__ void barriers(int rounds) {
  for (int i = 0; i < rounds; ++i) __syncthreads();
}
__global__ void shuffles(int* out, int rounds) {
  int value = static_cast<int>(threadIdx.x);
  for (int i = 0; i < rounds; ++i) value = __shfl_xor_sync(0xffffffffu, value, 1);
  out[threadIdx.x] = value;
}
__global__ void products(float* out, int rounds) {
  float sums[4] = {};
  const std::uint32_t a[4] = {}, b[2] = {};
  for (int i = 0; i < rounds; ++i) mma_bf16(sums, a, b);
  out[threadIdx.x] = sums[0];
}
__global__ void simple(int* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

// A figure, for docs/performance.md; the bound only says that fibers are switched, not threads.
TEST_F(Emulator, what_a_barrier_costs) {
  const DeviceMemory out = on_device<int>(256 * 1000);
  const auto nanoseconds = [&](auto&& enqueue, double count) {
    double best = 1e18;
    for (int i = 0; i < 5; ++i) {
      const auto began = std::chrono::steady_clock::now();
      enqueue();
      EXPECT_TRUE(stream_.synchronize());
      best = std::min(best, std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - began).count());
    }
    return best / count;
  };
  for (const unsigned threads : {32u, 256u, 1024u}) {
    constexpr int kRounds = 300;
    const double barrier =
        nanoseconds([&] { launch(barriers, 1, threads, 0, stream_.handle(), kRounds); }, 1.0 * threads * kRounds);
    const double shuffle = nanoseconds(
        [&] { launch(shuffles, 1, threads, 0, stream_.handle(), out.as<int>(), kRounds); }, 1.0 * threads * kRounds);
    std::printf("%u threads: %.1f ns for a thread and barrier, %.1f ns for a lane and shuffle\n", threads, barrier,
                shuffle);
    EXPECT_LT(barrier, 2000);
  }
  constexpr int kProducts = 1000;
  const double product_ns =
      nanoseconds([&] { launch(products, 1, 32, 0, stream_.handle(), out.as<float>(), kProducts); }, kProducts);
  const double simple_ns =
      nanoseconds([&] { launch(simple, 1000, 256, 0, stream_.handle(), out.as<int>()); }, 256 * 1000.0);
  std::printf("%.0f ns for a warp's mma m16n8k16, %.1f ns for a thread without a barrier\n", product_ns, simple_ns);
}

}  // namespace
}  // namespace llorch::cuda
