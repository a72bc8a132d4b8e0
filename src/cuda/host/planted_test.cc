// Mistakes in kernels, planted one by one: the emulated device catches each, with its place. Where ASan watches memory
// itself, it ends the process: those tests expect that in its builds.
#include <gtest/gtest.h>

#include <cmath>

#include "cuda/host/device.h"
#include "cuda/host/guard.h"
#include "cuda/instructions.h"
#include "cuda/launch.h"
#include "cuda/test_device.h"

namespace llorch::cuda {
namespace {

using host::Order;
constexpr const char* kOrders[] = {"forward", "reverse", "random:1", "random:2", "random:3"};

class Planted : public testing::Test {
 protected:
  void SetUp() override { set_order("forward"); }
  void TearDown() override {
    host::Device::instance().reset();
    set_order("forward");
  }
  static void set_order(const char* order) { host::Device::instance().set_order(Order::parse(order)); }

  /// What the launch ends with; empty when all went well. The device works on afterwards.
  template<class... P>
  std::string outcome(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes,
                      const std::type_identity_t<P>&... arguments) {
    launch(kernel, grid, block, shared_bytes, stream_.handle(), arguments...);
    const Status status = stream_.synchronize();
    host::Device::instance().reset();
    return status ? "" : status.error().message;
  }
  /// The failure that must come, and all that it must name.
  static void expect_named(const std::string& message, std::initializer_list<const char*> parts) {
    for (const char* part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in '" << message << "'";
  }

  Stream stream_ = Stream::create().value();
};
using PlantedDeathTest = Planted;

constexpr unsigned kThreads = 64;
struct Tile {
  float values[kThreads];
};

// --- barriers

__global__ void neighbour(float* out, bool with_barrier) {
  auto& tile = *shared<Tile>();
  const unsigned i = threadIdx.x;
  tile.values[i] = static_cast<float>(i);
  if (with_barrier) __syncthreads();
  out[i] = tile.values[(i + 1) % kThreads];
}

TEST_F(Planted, missing_barrier) {
  int wrong = 0;
  for (const char* order : kOrders) {
    set_order(order);
    const DeviceMemory out = on_device<float>(kThreads);
    for (const bool with_barrier : {true, false}) {
      EXPECT_EQ(outcome(neighbour, 1, kThreads, sizeof(Tile), out.as<float>(), with_barrier), "");
      bool all_right = true;
      for (unsigned i = 0; i < kThreads; ++i)
        all_right = all_right && out.as<float>()[i] == static_cast<float>((i + 1) % kThreads);
      EXPECT_TRUE(all_right || !with_barrier) << order;
      wrong += !all_right;
    }
  }
  EXPECT_EQ(wrong, 5) << "each order shows it";
}

__global__ void two_rounds(float* out) {
  auto& tile = *shared<Tile>();
  const unsigned i = threadIdx.x;
  tile.values[i] = 1;
  __syncthreads();
  const float sum = tile.values[i] + tile.values[kThreads - 1 - i];
  tile.values[i] = sum;  // planted: others may still read what was there
  out[i] = sum;
}

TEST_F(Planted, missing_barrier_before_memory_is_written_again) {
  int wrong = 0;
  for (const char* order : kOrders) {
    set_order(order);
    const DeviceMemory out = on_device<float>(kThreads);
    EXPECT_EQ(outcome(two_rounds, 1, kThreads, sizeof(Tile), out.as<float>()), "");
    for (unsigned i = 0; i < kThreads; ++i) wrong += out.as<float>()[i] != 2.0f;
  }
  EXPECT_GT(wrong, 0);
}

__global__ void divergent_lines() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void divergent_exit() {
  if (threadIdx.x == 40) return;
  __syncthreads();
}
__global__ void first_exits() {
  if (threadIdx.x == 0) return;
  __syncthreads();
}
__global__ void last_exits() {
  if (threadIdx.x == kThreads - 1) return;
  __syncthreads();
}

TEST_F(Planted, divergent_barrier) {
  expect_named(outcome(first_exits, 1, kThreads, 0),
               {"first_exits", "divergent barrier", "1 threads of the block have exited"});
  expect_named(outcome(last_exits, 1, kThreads, 0),
               {"last_exits", "thread (63,0,0)", "divergent barrier", "63 threads wait here"});
  for (const char* order : kOrders) {
    set_order(order);
    expect_named(outcome(divergent_lines, 1, kThreads, 0),
                 {"divergent_lines", "divergent barrier", "block (0,0,0)", "planted_test.cc:"});
    expect_named(outcome(divergent_exit, dim3(2, 2), kThreads, 0), {"divergent_exit", "divergent barrier", "exited"});
  }
}

// --- warps

__global__ void caller_outside_mask() { __shfl_sync(0x0000ffffu, 1, 0); }
__global__ void source_outside_mask() {
  if (threadIdx.x < 16) __shfl_sync(0x0000ffffu, 1, 20);
}
__global__ void lane_never_comes() {
  if (threadIdx.x != 3) __shfl_xor_sync(0xffffffffu, 1, 1);
  __syncthreads();
}
__global__ void lane_has_exited() {
  if (threadIdx.x != 3) __syncwarp();
}
__global__ void two_masks() { __ballot_sync(threadIdx.x < 16 ? 0xffffffffu : 0xffff0000u, 1); }
__global__ void two_lines() {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    __syncwarp();
}

TEST_F(Planted, shuffle_outside_its_mask) {
  for (const char* order : kOrders) {
    set_order(order);
    expect_named(outcome(caller_outside_mask, 1, 32, 0),
                 {"caller_outside_mask", "__shfl_sync", "leaves it out", "0000ffff"});
    expect_named(outcome(source_outside_mask, 1, 32, 0), {"source_outside_mask", "lane 20"});
    expect_named(outcome(lane_never_comes, 1, 32, 0),
                 {"lane_never_comes", "deadlock", "__shfl_xor_sync", "thread (3,0,0) waits in __syncthreads"});
    expect_named(outcome(lane_has_exited, 1, 32, 0), {"lane_has_exited", "exited", "__syncwarp"});
    expect_named(outcome(two_masks, 1, 32, 0), {"two_masks", "__ballot_sync"});
    expect_named(outcome(two_lines, 1, 32, 0), {"two_lines", "other lanes of the mask"});
    expect_named(outcome(two_lines, 1, 24, 0), {"the block does not have"});
  }
}

// --- asynchronous copies

__global__ void copies(const float* in, float* out, bool with_wait, bool with_matrix) {
  auto& tile = *shared<Tile>();
  copy_async<16>(&tile.values[threadIdx.x * 4], in + threadIdx.x * 4);
  copy_commit();
  if (with_wait) copy_wait<0>();
  __syncthreads();
  std::uint32_t rows[2] = {};
  if (with_matrix) ldmatrix(rows, &tile.values[threadIdx.x % 16 * 4]);
  for (unsigned i = 0; i < kThreads / 32; ++i)
    out[threadIdx.x + 32 * i] = tile.values[(threadIdx.x + 32 * i) % kThreads];
  __syncthreads();
  copy_wait<0>();
}
__global__ void copies_not_waited_for(const float* in) {
  copy_async<4>(shared<float>(threadIdx.x * 4), in + threadIdx.x);
  copy_commit();
}

TEST_F(Planted, missing_wait_after_an_asynchronous_copy) {
  const DeviceMemory in = to_device(stream_, std::vector<float>(128, 5.0f)), out = on_device<float>(kThreads);
  const std::size_t shared_bytes = 128 * sizeof(float);
  for (const char* order : kOrders) {
    set_order(order);
    EXPECT_EQ(outcome(copies, 1, 32, shared_bytes, in.as<float>(), out.as<float>(), true, true), "");
    for (unsigned i = 0; i < kThreads; ++i) EXPECT_EQ(out.as<float>()[i], 5.0f);
    EXPECT_EQ(outcome(copies, 1, 32, shared_bytes, in.as<float>(), out.as<float>(), false, false), "");
    for (unsigned i = 0; i < kThreads; ++i) EXPECT_TRUE(std::isnan(out.as<float>()[i]));
    expect_named(outcome(copies, 1, 32, shared_bytes, in.as<float>(), out.as<float>(), false, true),
                 {"copies", "not waited for"});
    expect_named(outcome(copies_not_waited_for, 1, 32, shared_bytes, in.as<float>()), {"has not waited for"});
  }
}

// --- memory

__global__ void shared_beyond(int at) { shared<float>()[at] = 1.0f; }
__global__ void shared_accessor_beyond() { *shared<float>(kThreads * sizeof(float)) = 1.0f; }
__global__ void shared_misaligned() { *shared<float>(2) = 1.0f; }

TEST_F(PlantedDeathTest, shared_memory_out_of_bounds) {
  const auto run = [&](int at) { return outcome(shared_beyond, 1, 1, sizeof(Tile), at); };
#ifdef LLORCH_ASAN
  EXPECT_DEATH((void)run(kThreads), "use-after-poison");
  EXPECT_DEATH((void)run(-1), "use-after-poison");
#else
  expect_named(run(kThreads), {"shared_beyond", "byte 256 of 256"});
  expect_named(run(-1), {"shared_beyond", "4 bytes before its shared memory"});
#endif
  EXPECT_EQ(run(kThreads - 1), "");
  expect_named(outcome(shared_accessor_beyond, 1, 1, sizeof(Tile)), {"shared_accessor_beyond", "from byte 256 on"});
  expect_named(outcome(shared_misaligned, 1, 1, sizeof(Tile)), {"shared_misaligned", "no multiple of 4"});
}

__global__ void load(const unsigned char* in, uint4* out) { out[threadIdx.x] = load16(in + 16 * threadIdx.x); }
__global__ void copy_words(const int* in, int* out) { out[threadIdx.x] = in[threadIdx.x]; }

TEST_F(Planted, a_read_of_memory_that_nothing_wrote) {
  const DeviceMemory in = on_device<int>(32), out = on_device<uint4>(8);
  expect_named(outcome(load, 1, 8, 0, in.as<unsigned char>(), out.as<uint4>()), {"load", "that nothing wrote"});
  // A plain read cannot be checked: what comes of it can.
  EXPECT_EQ(outcome(copy_words, 1, 32, 0, in.as<int>(), out.as<int>()), "");
  const auto words = from_device<int>(stream_, out);
  ASSERT_FALSE(words);
  EXPECT_NE(words.error().message.find("that nothing wrote"), std::string::npos);
  host::Device::instance().reset();
  ASSERT_TRUE(stream_.fill(in.data(), 0, in.bytes()));
  EXPECT_EQ(outcome(load, 1, 8, 0, in.as<unsigned char>(), out.as<uint4>()), "");
}

TEST_F(Planted, loads_outside_device_memory_and_between_its_words) {
  const DeviceMemory in = to_device(stream_, std::vector<int>(8, 1)), out = on_device<uint4>(8);
  EXPECT_EQ(outcome(load, 1, 2, 0, in.as<unsigned char>(), out.as<uint4>()), "");
  expect_named(outcome(load, 1, 3, 0, in.as<unsigned char>(), out.as<uint4>()),
               {"thread (2,0,0)", "not inside device memory"});
  expect_named(outcome(load, 1, 1, 0, in.as<unsigned char>() + 4, out.as<uint4>()), {"no multiple of 16"});
  alignas(16) const unsigned char host_memory[16] = {};
  expect_named(outcome(load, 1, 1, 0, host_memory, out.as<uint4>()), {"not inside device memory"});
}

TEST_F(PlantedDeathTest, memory_that_was_freed) {
  void* freed = nullptr;
  {
    const DeviceMemory memory = to_device(stream_, std::vector<int>(32, 1));
    freed = memory.data();
  }
  const DeviceMemory out = on_device<uint4>(32);
  expect_named(outcome(load, 1, 1, 0, static_cast<unsigned char*>(freed), out.as<uint4>()),
               {"not inside device memory"});
#ifdef LLORCH_ASAN
  EXPECT_DEATH((void)outcome(copy_words, 1, 32, 0, static_cast<int*>(freed), out.as<int>()), "use-after-free");
#endif
}

__global__ void write_beyond(int* out, unsigned at) { out[at] = 1; }

TEST_F(PlantedDeathTest, device_memory_out_of_bounds) {
  const DeviceMemory out = on_device<int>(31);
#ifdef LLORCH_ASAN
  EXPECT_DEATH((void)outcome(write_beyond, 1, 1, 0, out.as<int>(), 31u), "use-after-poison");
#else
  expect_named(outcome(write_beyond, 1, 1, 0, out.as<int>(), 31u),
               {"byte 124 of an allocation of 124 bytes was written"});
  const int word = static_cast<int>(host::kPoison);
  out.as<int>()[31] = word;  // as it was
#endif
  EXPECT_EQ(outcome(write_beyond, 1, 1, 0, out.as<int>(), 30u), "");
}

// --- launches, streams

__global__ void nothing() {}

TEST_F(Planted, launches_that_a_gpu_refuses) {
  expect_named(outcome(nothing, 1, 2048, 0), {"nothing", "refused", "2048 x 1 x 1"});
  expect_named(outcome(nothing, 1, 0, 0), {"refused"});
  expect_named(outcome(nothing, dim3(1, 70000), 1, 0), {"refused", "70000"});
  expect_named(outcome(nothing, 1, 1, 256 * 1024), {"refused", "shared memory"});
  EXPECT_EQ(outcome(nothing, 3, 1024, 227 * 1024), "");
}

TEST_F(Planted, a_failure_stays) {
  launch(divergent_exit, 1, kThreads, 0, stream_.handle());
  EXPECT_TRUE(first_failure()) << "nothing has run";
  const Status failed = stream_.synchronize();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kCudaError);
  const DeviceMemory memory = on_device<int>(1);
  EXPECT_EQ(stream_.fill(memory.data(), 0, 4).error().message, failed.error().message);
  EXPECT_EQ(first_failure().error().message, failed.error().message);
  EXPECT_EQ(Event::create().value().done().error().message, failed.error().message);
}

__global__ void produce(int* out) { out[threadIdx.x] = static_cast<int>(threadIdx.x); }

TEST_F(Planted, the_host_reads_before_it_synchronises) {
  for (const char* order : kOrders) {
    set_order(order);
    const DeviceMemory memory = on_device<int>(32);
    std::vector<int> out(32, 0);
    launch(produce, 1, 32, 0, stream_.handle(), memory.as<int>());
    check(stream_.copy_to_host(out.data(), memory.data(), memory.bytes()));
    EXPECT_EQ(out[5], static_cast<int>(host::kPoison)) << "what was there is gone, and what comes is not there";
    check(stream_.synchronize());
    EXPECT_EQ(out[5], 5);
  }
}

TEST_F(Planted, the_host_overwrites_what_is_still_to_be_copied) {
  const DeviceMemory memory = on_device<int>(4);
  std::vector<int> in(4, 1);
  check(stream_.copy_to_device(memory.data(), in.data(), memory.bytes()));
  in.assign(4, 2);
  EXPECT_EQ(from_device<int>(stream_, memory).value(), std::vector<int>(4, 2)) << "copies run late";
}

TEST_F(Planted, streams_that_no_event_orders) {
  int wrong = 0;
  for (const char* order : kOrders) {
    set_order(order);
    Stream other = Stream::create().value();
    const Event event = Event::create().value();
    for (const bool ordered : {true, false}) {
      const DeviceMemory memory = on_device<int>(32), copy = on_device<int>(32);
      launch(produce, 1, 32, 0, stream_.handle(), memory.as<int>());
      check(stream_.record(event));
      if (ordered) check(other.wait(event));
      launch(copy_words, 1, 32, 0, other.handle(), memory.as<int>(), copy.as<int>());
      const auto words = from_device<int>(other, copy);
      if (ordered) {
        ASSERT_TRUE(words) << words.error().message;
        EXPECT_EQ(words.value()[31], 31);
      }
      wrong += !words;
      host::Device::instance().reset();
    }
  }
  EXPECT_GE(wrong, 1) << "forward runs only what is waited for";
}

TEST_F(Planted, memory_that_is_taken_while_a_stream_captures) {
  check(stream_.begin_capture());
  EXPECT_FALSE(DeviceMemory::allocate(16));
  const Status failed = first_failure();
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message.find("captures"), std::string::npos) << failed.error().message;
}

}  // namespace
}  // namespace llorch::cuda
