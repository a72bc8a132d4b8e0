// The base: every piece of work runs once, arithmetic does not wrap, files are mapped whole, errors keep their words.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <latch>
#include <numeric>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/file_bytes.h"
#include "base/integer.h"
#include "base/large_block.h"
#include "base/mapped_file.h"
#include "base/random.h"
#include "base/state_lock.h"
#include "base/thread_pool.h"
#include "base/thread_role.h"
#include "base/thread_slice.h"
#include "base/use_lock.h"
#include "base/work_limit.h"
#include "test_data.h"

namespace llorch {
namespace {

TEST(ThreadPool, every_piece_runs_exactly_once_for_any_number_of_threads) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int round = 0; round < 300; ++round) {
      const auto pieces = static_cast<std::size_t>(round % 37);
      std::vector<std::atomic<int>> runs(pieces);
      pool.run(static_cast<std::int64_t>(pieces), [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
      for (const auto& r : runs) ASSERT_EQ(r.load(), 1) << threads << " threads, round " << round;
    }
  }
}

TEST(ThreadPool, work_of_one_round_is_visible_after_it) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(1000);
  for (std::int64_t round = 1; round < 200; ++round) {
    pool.run(1000, [&](std::int64_t i) { values[static_cast<std::size_t>(i)] += i; });
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), std::int64_t{0}), round * 499'500);
  }
}

TEST(ThreadPool, an_idle_pool_and_an_unused_one_end) {
  ThreadPool unused(8);
  ThreadPool used(2);
  used.run(2, [](std::int64_t) {});
  EXPECT_GE(ThreadPool::default_threads(), 1);
}

#if LLORCH_ASSERTIONS
TEST(ThreadRole, what_a_role_forbids_ends_the_process_in_words) {
  assert_may_compute(), assert_may_block(), assert_may_serve();  // nobody has said what this thread is for
  const auto as = [](ThreadRole role, void (*what)()) {
    const InRole in(role);
    what();
  };
  EXPECT_DEATH(as(ThreadRole::kLoop, assert_may_compute), "must not compute");
  EXPECT_DEATH(as(ThreadRole::kHelper, assert_may_compute), "must not compute");
  EXPECT_DEATH(as(ThreadRole::kLoop, assert_may_block), "must not block");
  for (const ThreadRole role : {ThreadRole::kEngine, ThreadRole::kCompute, ThreadRole::kHelper}) {
    EXPECT_DEATH(as(role, assert_may_serve), "belong to the event loop");
    as(role, assert_may_block);
  }
  EXPECT_EQ(thread_role(), ThreadRole::kAny);
}
#else
TEST(Assert, is_compiled_out) {  // S-56: nothing that outsiders supply may need one
  bool asked = false;
  LLORCH_ASSERT(asked = true, "not even its condition is computed");
  LLORCH_ASSERT(asked, "and it does not end the process");
  EXPECT_FALSE(asked);
}
#endif

TEST(ThreadRole, a_pools_threads_compute) {
  ThreadPool pool(3);
  std::atomic<int> strangers = 0;
  const std::thread::id here = std::this_thread::get_id();
  pool.run(1000, [&](std::int64_t) {
    if (thread_role() != (std::this_thread::get_id() == here ? ThreadRole::kAny : ThreadRole::kCompute)) ++strangers;
  });
  EXPECT_EQ(strangers, 0);
}

TEST(Checked, wraps_become_nothing) {
  constexpr std::uint64_t kMax = ~std::uint64_t{0};
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  EXPECT_FALSE(checked_add(kMax, 1));
  EXPECT_EQ(checked_mul(1ull << 32, (1ull << 32) - 1), kMax - ((1ull << 32) - 1));
  EXPECT_FALSE(checked_mul(1ull << 32, 1ull << 32));
  EXPECT_EQ(checked_align(33, 32), 64u);
  EXPECT_EQ(checked_align(64, 32), 64u);
  EXPECT_FALSE(checked_align(kMax - 3, 32));
}

TEST(WorkLimit, ends_at_its_units_its_deadline_and_its_flag) {
  WorkLimit units(100);
  EXPECT_TRUE(units.charge(60));
  EXPECT_TRUE(units.charge(40));
  EXPECT_EQ(units.charge(1).error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(WorkLimit(100).charge(~std::uint64_t{0}).error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(units.charge(1).error().code, ErrorCode::kInvalidRequest) << "and stays at its end";
  WorkLimit late(1'000'000, WorkLimit::Clock::now() - std::chrono::seconds(1));
  EXPECT_EQ(late.charge(1).error().code, ErrorCode::kOperationTimeout);
  const auto flag = std::make_shared<std::atomic<bool>>(false);
  WorkLimit cancelled(1'000'000, WorkLimit::Clock::time_point::max(), flag);
  EXPECT_TRUE(cancelled.charge(1));
  *flag = true;
  EXPECT_EQ(cancelled.charge(10'000).error().code, ErrorCode::kCancelled);
}

TEST(StateLock, a_second_holder_is_refused_and_told_who_the_first_is) {
  const std::string folder = testing::TempDir() + "/llorch-state-lock-" + std::to_string(::getpid());
  std::filesystem::create_directory(folder);
  {
    const auto first = StateLock::take(folder, "llorch-queen on port 8500");
    ASSERT_TRUE(first) << first.error().message;
    const auto second = StateLock::take(folder, "another");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kResourceInUse);
    EXPECT_NE(second.error().message.find("llorch-queen on port 8500"), std::string::npos) << second.error().message;
    EXPECT_NE(second.error().message.find(folder), std::string::npos);
    EXPECT_TRUE(StateLock::is_held(folder));
  }
  EXPECT_FALSE(StateLock::is_held(folder));
  EXPECT_FALSE(StateLock::is_held(folder + "/none"));
  EXPECT_TRUE(StateLock::take(folder, "later"));
  std::filesystem::remove(folder + "/lock");
  std::filesystem::create_symlink("/etc/hostname", folder + "/lock");
  EXPECT_EQ(StateLock::take(folder, "through a link").error().code, ErrorCode::kIo);
  std::filesystem::remove_all(folder);
}

TEST(UseLock, whoever_ends_it_waits_for_every_user_and_then_nobody_becomes_one) {
  const std::string file = testing::TempDir() + "/llorch-use-lock-" + std::to_string(::getpid());
  {
    auto first = UseLock::open(file), second = UseLock::open(file), owner = UseLock::open(file);
    ASSERT_TRUE(first && second && owner) << first.error().message;
    EXPECT_TRUE(first->use().value());
    EXPECT_TRUE(first->use().value()) << "twice is once";
    EXPECT_FALSE(first->has_other_users());
    EXPECT_TRUE(second->use().value());
    EXPECT_TRUE(first->has_other_users());
    EXPECT_FALSE(owner->close_if_unused().value());
    first->leave();
    EXPECT_FALSE(owner->close_if_unused().value());
    second = UseLock::open(file);  // its process has ended
    EXPECT_TRUE(owner->close_if_unused().value());
    EXPECT_FALSE(second->use().value());
    EXPECT_FALSE(second->has_other_users());
    EXPECT_TRUE(first->begin_start().value()) << "another lock";
    EXPECT_FALSE(second->begin_start().value());
    first->end_start();
    EXPECT_TRUE(second->begin_start().value());
  }
  EXPECT_TRUE(UseLock::open(file)->use().value());
  std::filesystem::remove(file);
  EXPECT_EQ(UseLock::open(file + "/none").error().code, ErrorCode::kIo);
}

TEST(UseLock, what_the_kernel_cannot_tell_is_no_other_user) {
  const std::string file = testing::TempDir() + "/llorch-use-unknown-" + std::to_string(::getpid());
  auto lock = UseLock::open(file);
  ASSERT_TRUE(lock) << lock.error().message;
  std::error_code problem;
  std::vector<int> descriptors;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd"))
    if (std::filesystem::equivalent(each.path(), file, problem))
      descriptors.push_back(std::stoi(each.path().filename()));
  ASSERT_EQ(descriptors.size(), 1u);
  ASSERT_EQ(::close(descriptors[0]), 0);
  for (const auto& got : {lock->use(), lock->begin_start(), lock->close_if_unused()}) {
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().message, "cannot lock " + file + ": Bad file descriptor");
  }
  std::filesystem::remove(file);
}

TEST(Random, mix64_is_splitmix) {
  // The first outputs of SplitMix64 with seed 0, as published with the algorithm.
  EXPECT_EQ(mix64(0), 0xe220a8397b1dcdafull);
  EXPECT_EQ(mix64(0x9e3779b97f4a7c15ull), 0x6e789e6aa1b965f4ull);
  EXPECT_EQ(fnv1a64(""), 0xcbf29ce484222325ull);
  EXPECT_EQ(fnv1a64("a"), 0xaf63dc4c8601ec8cull);
}

TEST(Random, uniform_is_flat_and_independent_of_order) {
  std::vector<int> bins(16);
  for (std::uint64_t i = 0; i < 160'000; ++i) {
    const double u = uniform(3, 0, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++bins[static_cast<std::size_t>(u * 16)];
  }
  double chi = 0;
  for (const int b : bins) chi += (b - 10'000.0) * (b - 10'000.0) / 10'000.0;
  EXPECT_LT(chi, 37.7);  // 15 degrees of freedom, one in a thousand
  EXPECT_EQ(uniform(3, 0, 77), uniform(3, 0, 77));
  EXPECT_NE(uniform(3, 0, 77), uniform(3, 1, 77));
}

TEST(MappedFile, holds_the_whole_file) {
  ScratchDirectory d;
  std::string text(100'000, 'x');
  for (std::size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>('a' + i % 26);
  std::ofstream(d / "f") << text;
  auto file = MappedFile::open(d / "f");
  ASSERT_TRUE(file);
  ASSERT_EQ(file->bytes().size(), text.size());
  EXPECT_EQ(std::memcmp(file->bytes().data(), text.data(), text.size()), 0);
  EXPECT_TRUE(file->intact());
  std::ofstream(d / "empty");
  EXPECT_TRUE(MappedFile::open(d / "empty").value().bytes().empty());
}

TEST(MappedFile, that_is_cut_gives_zeros_and_a_mark_but_no_signal) {
  ScratchDirectory d;
  std::ofstream(d / "f") << std::string(1 << 20, 'x');
  std::ofstream(d / "other") << std::string(1 << 20, 'y');
  auto file = MappedFile::open(d / "f").value(), other = MappedFile::open(d / "other").value();
  std::filesystem::resize_file(d / "f", 100);
  std::thread reader([&] { EXPECT_EQ(file.bytes()[700'000], std::byte{0}); });  // any thread's fault is caught
  reader.join();
  EXPECT_EQ(file.bytes().back(), std::byte{0});
  ASSERT_FALSE(file.intact());
  EXPECT_EQ(file.intact().error().code, ErrorCode::kModelChanged);
  EXPECT_EQ(other.bytes().back(), std::byte{'y'});
  EXPECT_TRUE(other.intact());
  MappedFile moved = std::move(file);
  EXPECT_FALSE(moved.intact());
}

TEST(MappedFileDeathTest, faults_elsewhere_end_the_process_as_ever) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  ScratchDirectory d;
  std::ofstream(d / "f") << std::string(1 << 20, 'x');
  const auto guarded = MappedFile::open(d / "f").value();
  const RegularFile raw = open_regular_file(d / "f").value();
  const auto* bytes =
      static_cast<const volatile char*>(::mmap(nullptr, 1 << 20, PROT_READ, MAP_PRIVATE, raw.descriptor(), 0));
  EXPECT_DEATH(
      {
        std::filesystem::resize_file(d / "f", 0);
        (void)bytes[5000];
      },
      "");
}

TEST(FileBytes, copies_what_addresses_name_and_says_when_the_file_was_changed) {
  ScratchDirectory d;
  std::string text(100'000, 'x');
  for (std::size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>('a' + i % 26);
  std::ofstream(d / "f") << text;
  FileBytes files[] = {FileBytes::open(d / "f").value(), FileBytes::borrow(std::as_bytes(std::span(text)))};
  for (const FileBytes& file : files) {
    ASSERT_EQ(file.addresses().size(), text.size());
    std::string part(70'000, ' ');
    ASSERT_TRUE(
        read_part(files, file.addresses().subspan(12'345, part.size()), reinterpret_cast<std::byte*>(part.data())));
    EXPECT_EQ(part, text.substr(12'345, part.size()));
  }
  EXPECT_TRUE(parts_unchanged(files, {}));
  std::filesystem::resize_file(d / "f", 50'000);
  std::string part(10, ' ');
  const Status cut = files[0].read(files[0].addresses().subspan(60'000, 10), reinterpret_cast<std::byte*>(part.data()));
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, ErrorCode::kModelChanged);
  EXPECT_FALSE(parts_unchanged(files, {}));
  EXPECT_TRUE(parts_unchanged(files, files[1].addresses())) << "another file's bytes";
  std::ofstream(d / "empty");
  EXPECT_TRUE(FileBytes::open(d / "empty").value().addresses().empty());
}

/// How often the calling thread has yielded: the tests' own sched_yield() stands before the system's.
thread_local int yields = 0;
}  // namespace
}  // namespace llorch
extern "C" int sched_yield() noexcept {
  ++llorch::yields;
  return static_cast<int>(syscall(SYS_sched_yield));
}
namespace llorch {
namespace {

void give_way_for(std::chrono::milliseconds time) {
  for (const auto end = std::chrono::steady_clock::now() + time; std::chrono::steady_clock::now() < end;) give_way();
}

TEST(GiveWay, long_work_lets_others_go_first_often_and_nobody_else_does) {
  yields = 0;
  give_way_for(std::chrono::milliseconds(2));
  EXPECT_EQ(yields, 0);
  std::thread([] {
    become_long_worker(7);
    EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 7);
    give_way();
    EXPECT_EQ(yields, 1);
    give_way();
    EXPECT_EQ(yields, 1) << "not at each call";
    give_way_for(std::chrono::milliseconds(2));
    EXPECT_GE(yields, 2);
    EXPECT_LE(yields, 30);
    const int before = yields;
    std::vector<char> block(8 << 20);
    prepare_large_block(block.data(), block.size());
    WorkLimit limit(1 << 30);
    for (int i = 0; i < 1'000'000; ++i) ASSERT_TRUE(limit.charge(100));
    EXPECT_GT(yields, before) << "a long computation does so by its limit";
  }).join();
  EXPECT_NE(getpriority(PRIO_PROCESS, 0), 7) << "it was for that thread alone";
}

TEST(ThreadPool, who_waits_sleeps_and_does_not_yield) {
  ThreadPool pool(2);
  const auto caller = std::this_thread::get_id();
  const auto passes = [](std::chrono::milliseconds time, const std::function<bool()>& over) {
    for (const auto end = std::chrono::steady_clock::now() + time; std::chrono::steady_clock::now() < end;)
      if (over()) return true;
    return false;
  };
  int met = 0;
  std::atomic<int> of_crew = 0;
  for (int round = 0; round < 200 && met < 10; ++round) {
    yields = 0;
    std::atomic<int> here = 0;
    pool.run(2, [&](std::int64_t) {
      ++here;
      const bool both = passes(std::chrono::milliseconds(20), [&] { return here == 2; });
      if (std::this_thread::get_id() == caller) return;
      met += both ? 1 : 0;
      (void)passes(std::chrono::milliseconds(2), [] { return false; });  // longer than its caller spins
      of_crew += yields;
    });
    EXPECT_EQ(yields, 0);
  }
  EXPECT_EQ(met, 10) << "the caller never waited for the other";
  EXPECT_EQ(of_crew, 0);
}

/// A thread that its processor does not run: it stands in a signal handler until it is let go.
std::atomic<bool> stands, let_go;
void stand(int) {
  stands = true;
  while (!let_go) std::this_thread::yield();
}

TEST(ThreadPool, a_member_of_the_crew_that_gets_no_processor_holds_up_nobody) {
  ThreadPool pool(2);
  const pthread_t caller = pthread_self();
  std::atomic<pthread_t> member{};
  std::atomic<int> at{0};
  while (at < 2) {
    at = 0;
    pool.run(2, [&](std::int64_t) {  // a piece each, where the member has come in time
      if (pthread_self() != caller) member = pthread_self();
      ++at;
      for (int i = 0; i < 100'000 && at < 2; ++i) std::this_thread::yield();
    });
    if (member.load() == pthread_t{}) at = 0;
  }
  stands = let_go = false;
  struct sigaction action {
  }, before{};
  action.sa_handler = stand;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  ASSERT_EQ(pthread_kill(member, SIGUSR1), 0);
  while (!stands) std::this_thread::yield();
  std::promise<void> ended;
  std::thread rescue([&] {  // or a pool that waits for everybody would never end this test
    (void)ended.get_future().wait_for(std::chrono::seconds(5));
    let_go = true;
  });
  std::atomic<int> pieces = 0;
  for (int round = 0; round < 100; ++round) pool.run(8, [&](std::int64_t) { ++pieces; });
  const bool alone = !let_go;
  ended.set_value();
  rescue.join();
  EXPECT_TRUE(alone) << "the caller waited until the member was let go";
  EXPECT_EQ(pieces, 800);
  for (int round = 0; round < 100; ++round) pool.run(8, [&](std::int64_t) { ++pieces; });  // with the member again
  EXPECT_EQ(pieces, 1600);
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

TEST(ThreadPool, what_a_piece_throws_is_thrown_by_run_and_the_crew_works_on) {
  ThreadPool pool(3);
  const auto caller = std::this_thread::get_id();
  for (int round = 0; round < 20; ++round) {
    std::latch each_has_one(3);  // or the caller could do all pieces before the crew is awake
    EXPECT_THROW(pool.run(3,
                          [&](std::int64_t) {
                            each_has_one.arrive_and_wait();
                            if ((std::this_thread::get_id() == caller) == (round % 2 == 1)) throw std::bad_alloc();
                          }),
                 std::bad_alloc);
    std::atomic<int> done = 0;
    pool.run(100, [&](std::int64_t) { ++done; });
    EXPECT_EQ(done, 100);
  }
}

TEST(MappedFile, what_is_no_file_is_an_error) {
  EXPECT_NE(MappedFile::open("/nonexistent").error().message.find("/nonexistent"), std::string::npos);
  EXPECT_NE(MappedFile::open("/tmp").error().message.find("not a regular file"), std::string::npos);
}

TEST(AlignedBuffer, is_zeroed_and_says_how_much_it_could_not_get) {
  const auto buffer = AlignedBuffer::make(3'000'000);
  ASSERT_TRUE(buffer);
  for (std::size_t i = 0; i < buffer->size(); i += 997) ASSERT_EQ(buffer->data()[i], std::byte{0});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % 4096, 0u);
  const auto huge = AlignedBuffer::make(std::size_t{1} << 60);
  ASSERT_FALSE(huge);
  EXPECT_NE(huge.error().message.find(std::to_string(std::size_t{1} << 60)), std::string::npos);
}

TEST(Integer, is_all_of_a_text_and_fits) {
  EXPECT_EQ(parse_integer<int>("0"), 0);
  EXPECT_EQ(parse_integer<int>("-17"), -17);
  EXPECT_EQ(parse_integer<std::uint16_t>("65535"), 65535);
  EXPECT_EQ(parse_integer<std::int64_t>("9223372036854775807"), INT64_MAX);
  for (const char* none : {"", " 1", "1 ", "+1", "1.0", "0x1", "1e3", "--1", "one", "2147483648"})
    EXPECT_FALSE(parse_integer<int>(none)) << none;
  EXPECT_FALSE(parse_integer<std::uint16_t>("65536"));
  EXPECT_FALSE(parse_integer<unsigned>("-1"));
  EXPECT_EQ(parse_integer("8", 1, 8), 8);
  EXPECT_FALSE(parse_integer("9", 1, 8));
  EXPECT_FALSE(parse_integer("0", 1, 8));
}

TEST(Clock, one_goes_forward_and_the_other_is_the_system_s) {
  const auto start = std::chrono::steady_clock::now() - std::chrono::milliseconds(1500);
  EXPECT_GE(ms_since(start), 1500);
  EXPECT_GE(seconds_since(start), 1.5);
  EXPECT_NEAR(static_cast<double>(unix_seconds()), static_cast<double>(std::time(nullptr)), 2);
  EXPECT_NEAR(static_cast<double>(unix_ms()) / 1000, static_cast<double>(std::time(nullptr)), 2);
}

TEST(Error, keeps_code_and_gains_context) {
  Result<int> inner = fail(ErrorCode::kIo, "cannot read {}", "x");
  const Error e = std::move(inner).error().in("tokenizer");
  EXPECT_EQ(e.message, "tokenizer: cannot read x");
  EXPECT_EQ(name(e.code), "IO");
}

}  // namespace
}  // namespace llorch
