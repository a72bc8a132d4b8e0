#include "cuda/host/block_runner.h"

#include <fmt/format.h>

#include <bit>
#include <cstdarg>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "cuda/host/block.h"
#include "cuda/host/poison.h"

namespace llorch::cuda::host {

constinit thread_local ThreadView* this_thread = nullptr;
constinit thread_local BlockView* this_block = nullptr;
constinit thread_local BlockRunner* BlockRunner::running_ = nullptr;

namespace {

bool same_line(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}
bool same_name(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }

std::string line_of(const std::source_location& where) {
  const std::string_view path = where.file_name();
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), where.line());
}
std::string text_of(const uint3& index) { return fmt::format("({},{},{})", index.x, index.y, index.z); }

}  // namespace

BlockRunner::BlockRunner() : threads_(kBlockThreadsMax), warps_(kBlockThreadsMax / 32) {}

void BlockRunner::prepare(const KernelCall& call, Order order) {
  call_ = &call;
  chooser_ = Chooser(order);
  view_ = {{}, call.block, call.grid};
  count_ = call.block.x * call.block.y * call.block.z;
  for (unsigned i = 0; i < count_; ++i) {
    const unsigned row = i / call.block.x;
    threads_[i].index = {i % call.block.x, row % call.block.y, row / call.block.y};
    threads_[i].lane = i % 32;
    threads_[i].warp = i / 32;
  }
  shared_.resize(call.shared_bytes);
}

void BlockRunner::reset_block(std::uint64_t block) {
  const std::uint64_t row = block / view_.blocks.x;
  view_.index = {static_cast<unsigned>(block % view_.blocks.x), static_cast<unsigned>(row % view_.blocks.y),
                 static_cast<unsigned>(row / view_.blocks.y)};
  const unsigned warps = (count_ + 31) / 32;
  for (unsigned i = 0; i < warps; ++i) {
    const unsigned lanes = std::min(32u, count_ - 32 * i);
    const unsigned present = lanes == 32 ? ~0u : (1u << lanes) - 1;
    warps_[i] = {present, present, 0, 0};
  }
  ready_warps_ = warps == 32 ? ~0u : (1u << warps) - 1;
  for (unsigned i = 0; i < count_; ++i) {
    threads_[i].fiber = nullptr;
    threads_[i].state = State::kRuns;
    threads_[i].copies.clear();
  }
  warp_ = chooser_.bit(ready_warps_);
  at_barrier_ = exited_ = barrier_sum_ = 0;
  problem_.reset();
  shared_.poison_all();
}

std::optional<std::string> BlockRunner::run(std::uint64_t block) {
  reset_block(block);
  running_ = this;
  this_block = &view_;
  Thread* first = next();
  first->fiber = &fibers_.take();
  this_thread = first;
  host_.switch_to(*first->fiber);
  this_thread = nullptr;
  this_block = nullptr;
  running_ = nullptr;
  if (problem_) fibers_.abandon_all();
  if (!problem_)
    if (auto overrun = shared_.overrun()) problem_ = fmt::format("block {}: {}", text_of(view_.index), *overrun);
  return std::move(problem_);
}

void BlockRunner::run_threads(Fiber& fiber) {
  for (;;) {
    running_->call_->thread();
    running_->exit_thread(fiber);
  }
}

BlockRunner::Thread* BlockRunner::next() {
  if (ready_warps_ == 0) return nullptr;
  // A warp that can run goes on; in random order another may cut in.
  if (!((ready_warps_ >> warp_) & 1) || (chooser_.random() && chooser_.draw() % 8 == 0))
    warp_ = chooser_.bit(ready_warps_);
  Warp& warp = warps_[warp_];
  const unsigned lane = chooser_.bit(warp.ready);
  warp.ready &= ~(1u << lane);
  if (warp.ready == 0) ready_warps_ &= ~(1u << warp_);
  return &threads_[32 * warp_ + lane];
}

void BlockRunner::pause() {
  Thread& mine = self();
  Thread* other = next();
  if (other == nullptr) report_deadlock();
  if (other == &mine) return;
  if (other->fiber == nullptr) other->fiber = &fibers_.take();
  this_thread = other;
  mine.fiber->switch_to(*other->fiber);
}

void BlockRunner::exit_thread(Fiber& fiber) {
  Thread& mine = self();
  check_exit(mine);
  mine.state = State::kExited;
  mine.fiber = nullptr;
  warps_[mine.warp].exited |= 1u << mine.lane;
  ++exited_;
  Thread* other = next();
  if (other == nullptr) {
    if (exited_ != count_) report_deadlock();
    leave_block(fiber);
    return;
  }
  this_thread = other;
  if (other->fiber == nullptr) {
    other->fiber = &fiber;
    return;
  }
  fibers_.give_back(fiber);
  fiber.switch_to(*other->fiber);
}

void BlockRunner::leave_block(Fiber& fiber) {
  fibers_.give_back(fiber);
  fiber.switch_to(host_);
}

void BlockRunner::check_exit(const Thread& thread) {
  if (at_barrier_ > 0)
    fail(barrier_where_,
         fmt::format("divergent barrier: this thread has exited, and {} threads wait here", at_barrier_));
  if (!thread.copies.empty()) fail({}, "the thread exits, and has not waited for its asynchronous copies");
  for (unsigned left = warps_[thread.warp].in_call; left != 0; left &= left - 1) {
    const Thread& other = threads_[32 * thread.warp + static_cast<unsigned>(std::countr_zero(left))];
    if (!((other.call.mask >> thread.lane) & 1)) continue;
    std::string text = "this thread has exited, and " + describe(other);
    fail(other.call.where, std::move(text));
  }
}

unsigned BlockRunner::barrier(unsigned value, std::source_location where) {
  if (at_barrier_ == 0) barrier_where_ = where;
  if (!same_line(barrier_where_, where)) {
    std::string text = fmt::format("divergent barrier: {} threads wait at {}", at_barrier_, line_of(barrier_where_));
    fail(where, std::move(text));
  }
  if (exited_ > 0) fail(where, fmt::format("divergent barrier: {} threads of the block have exited", exited_));
  self().state = State::kAtBarrier;
  barrier_sum_ += value;
  if (++at_barrier_ == count_) {
    barrier_result_ = barrier_sum_;
    barrier_sum_ = at_barrier_ = 0;
    for (unsigned i = 0; i < (count_ + 31) / 32; ++i) release_warp(i, warps_[i].present);
    warp_ = chooser_.bit(ready_warps_);
  }
  pause();
  return barrier_result_;
}

void BlockRunner::release_warp(unsigned warp, unsigned mask) {
  warps_[warp].ready |= mask;
  warps_[warp].in_call &= ~mask;
  ready_warps_ |= 1u << warp;
  for (unsigned left = mask; left != 0; left &= left - 1)
    threads_[32 * warp + static_cast<unsigned>(std::countr_zero(left))].state = State::kRuns;
}

void BlockRunner::check_call(const WarpCall& call, const Warp& warp) {
  const unsigned lane = self().lane;
  if (!((call.mask >> lane) & 1))
    fail(call.where,
         fmt::format("{}: lane {} calls it with a mask that leaves it out ({:08x})", call.name, lane, call.mask));
  if (call.mask & ~warp.present)
    fail(call.where, fmt::format("{}: the mask {:08x} names lanes that the block does not have", call.name, call.mask));
  if (call.mask & warp.exited)
    fail(call.where, fmt::format("{}: the mask {:08x} names lanes that have exited ({:08x})", call.name, call.mask,
                                 call.mask & warp.exited));
  const unsigned waiting = warp.in_call & call.mask;
  if (waiting == 0) return;
  const WarpCall& other = threads_[32 * self().warp + static_cast<unsigned>(std::countr_zero(waiting))].call;
  if (other.mask != call.mask || (same_line(other.where, call.where) && same_name(other.name, call.name))) return;
  std::string text = fmt::format("{}: other lanes of the mask {:08x} wait in {} at {}", call.name, call.mask,
                                 other.name, line_of(other.where));
  fail(call.where, std::move(text));
}

void BlockRunner::collective(const WarpCall& call, void (*combine)(Payloads)) {
  Thread& mine = self();
  const unsigned number = mine.warp;
  Warp& warp = warps_[number];
  check_call(call, warp);
  mine.call = call;
  mine.state = State::kInWarpCall;
  warp.in_call |= 1u << mine.lane;
  if ((warp.in_call & call.mask) == call.mask) {
    void* payloads[32] = {};
    bool complete = true;
    for (unsigned left = call.mask; left != 0; left &= left - 1) {
      const Thread& lane = threads_[32 * number + static_cast<unsigned>(std::countr_zero(left))];
      payloads[lane.lane] = lane.call.payload;
      complete = complete && lane.call.mask == call.mask;
    }
    if (complete) {
      combine(payloads);
      release_warp(number, call.mask);
    }
  }
  pause();
}

std::string BlockRunner::describe(const Thread& thread) const {
  if (thread.state == State::kAtBarrier)
    return fmt::format("thread {} waits in __syncthreads at {}", text_of(thread.index), line_of(barrier_where_));
  return fmt::format("thread {} waits in {} at {} for the lanes {:08x}", text_of(thread.index), thread.call.name,
                     line_of(thread.call.where), thread.call.mask);
}

std::string BlockRunner::describe_waiting() const {
  std::string text, last;
  int named = 0;
  for (unsigned i = 0; i < count_ && named < 4; ++i) {
    const Thread& thread = threads_[i];
    if (thread.state != State::kAtBarrier && thread.state != State::kInWarpCall) continue;
    const std::string line = line_of(thread.state == State::kAtBarrier ? barrier_where_ : thread.call.where);
    if (line == last) continue;  // the first of each group
    last = line;
    text += "; " + describe(thread);
    ++named;
  }
  return text;
}

void BlockRunner::report_deadlock() {
  std::string text = "deadlock: no thread can go on" + describe_waiting();
  fail(self().state == State::kInWarpCall ? self().call.where : barrier_where_, std::move(text));
}

void BlockRunner::fail(std::source_location where, std::string text) {
  {
    const std::string line = where.line() == 0 ? "" : fmt::format(" at {}", line_of(where));
    problem_ = fmt::format("block {} thread {}{}: {}", text_of(view_.index), text_of(self().index), line, text);
    std::string().swap(text);  // nothing on this stack is destroyed
  }
  Fiber here;  // never come back to
  here.switch_to(host_);
  LLORCH_ASSERT(false, "an abandoned fiber goes on");
  __builtin_unreachable();
}

// --- thread.h

void kernel_error(std::source_location where, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  BlockRunner::running().fail(where, text);
}

void* shared_at(std::size_t offset, std::size_t bytes, std::size_t alignment, std::source_location where) {
  std::byte* at = BlockRunner::running().shared().data() + offset;
  check_shared(at, bytes, alignment, where);
  return at;
}

void check_shared(const void* at, std::size_t bytes, std::size_t alignment, std::source_location where) {
  const SharedMemory& shared = BlockRunner::running().shared();
  const auto offset = static_cast<const std::byte*>(at) - shared.data();
  if (!shared.contains(at, bytes))
    kernel_error(where, "shared memory from byte %td on, %zu bytes, where the block has %zu", offset, bytes,
                 shared.bytes());
  if (static_cast<std::size_t>(offset) % alignment != 0)
    kernel_error(where, "shared memory at byte %td, which is no multiple of %zu", offset, alignment);
}

unsigned block_barrier(unsigned value, std::source_location where) {
  return BlockRunner::running().barrier(value, where);
}

void warp_collective(unsigned mask, const char* name, std::source_location where, void* payload,
                     void (*combine)(Payloads)) {
  BlockRunner::running().collective({mask, name, where, payload}, combine);
}

void copy_begin(void* target, const void* source, unsigned bytes, unsigned source_bytes, std::source_location where) {
  if (source_bytes > bytes) kernel_error(where, "an asynchronous copy of %u bytes from %u", bytes, source_bytes);
  check_shared(target, bytes, bytes, where);
  if (source_bytes > 0) check_global(source, source_bytes, bytes, where);
  poison(target, bytes);
  BlockRunner::running().copies().begin({target, source, bytes, source_bytes});
}
void copy_commit() { BlockRunner::running().copies().commit(); }
void copy_wait(unsigned groups) { BlockRunner::running().copies().wait(groups); }

}  // namespace llorch::cuda::host
