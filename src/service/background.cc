#include "service/background.h"

#include <algorithm>
#include <cstdlib>
#include <list>
#include <mutex>
#include <new>
#include <utility>

#include "base/semaphore.h"
#include "base/thread_role.h"
#include "base/thread_slice.h"
#include "service/log.h"

namespace llorch::service {
namespace {

bool is_cancelled(const Cancellation& c) { return c && c->load(std::memory_order_relaxed); }

void log_quietly(const char* what) noexcept {
  try {
    log(Level::kError, "background_failed", what);
  } catch (...) {  // of memory: the others still have their outcomes
  }
}

Status run_guarded(const std::function<void()>& work) noexcept {
  try {
    work();
    return {};
  } catch (const std::bad_alloc&) {
    try {
      return fail(ErrorCode::kInsufficientMemory, "there is not enough memory for this");
    } catch (...) {
      return std::unexpected(Error{ErrorCode::kInsufficientMemory, {}});
    }
  } catch (const std::exception& e) {
    log_quietly(e.what());
    try {
      return fail(ErrorCode::kInternal, "an unexpected fault; the log has the details");
    } catch (...) {
      return std::unexpected(Error{ErrorCode::kInternal, {}});
    }
  } catch (...) {
    return std::unexpected(Error{ErrorCode::kInternal, {}});
  }
}

/// glibc gives a thread its arena with its first allocation. One that comes when memory is short finds none, and then
/// every small block is a mapping of its own, a thousand times slower.
void take_arena() {
  void* volatile first = std::malloc(64);
  std::free(first);
}

BackgroundOptions at_least_threads(BackgroundOptions o) {
  o.begun_max = std::max(o.begun_max, o.threads);
  return o;
}

}  // namespace

struct Background::State : std::enable_shared_from_this<Background::State> {
  struct Item {
    explicit Item(BackgroundTask t) : task(std::move(t)) {}
    BackgroundTask task;
    Status outcome;
    Semaphore turn;           // of work that waits in pause()
    Item* resumed = nullptr;  // that has its turn, too
  };
  using Items = std::list<Item>;  // moved between lists by splicing: that takes no memory
  struct Line {
    std::string owner;
    Items items, paused;  // those that have not begun, and those that wait in pause(); never both empty
  };
  using Lines = std::list<Line>;
  struct Current {
    State* state = nullptr;
    Items::iterator item;
    std::chrono::steady_clock::time_point until;  // end of its slice
  };
  static thread_local Current current;  // what runs on this thread

  State(net::EventLoop& l, BackgroundOptions o) : loop(l), options(o), delivery(l, [this] { deliver(); }) {}

  net::EventLoop& loop;
  const BackgroundOptions options;
  mutable std::mutex mutex;
  Semaphore wake;  // as often as something is ready, or is over
  Lines lines;     // the first line is next
  Items ready;     // given to a thread that has not taken it yet
  Items running, done;
  std::size_t queued = 0;
  int active = 0;           // tasks that hold one of options.threads places: ready, or running and not paused
  int begun = 0;            // active, or paused
  int to_wake = 0;          // threads that have something to do
  Item* resumed = nullptr;  // work that has its turn again, and is to be told so
  bool closed = false;
  net::EventLoop::ReservedPost delivery;  // an outcome arrives though there is no memory left

  bool add(Items& one);
  void drop(const std::function<bool(const Item&)>& which, const Error& why);
  void work();
  void run_ready(std::unique_lock<std::mutex>& lock);
  void pause(Items::iterator item);
  Lines::iterator line_of(const std::string& owner);
  [[nodiscard]] bool can_go(const Line& line) const {
    if (options.threads_per_owner > 0 && active_of(line.owner) >= options.threads_per_owner) return false;
    return !line.paused.empty() || (!line.items.empty() && begun < options.begun_max);
  }
  [[nodiscard]] std::ptrdiff_t active_of(const std::string& owner) const {
    const auto is_theirs = [&](const Item& item) { return item.task.owner == owner; };
    return std::ranges::count_if(ready, is_theirs) + std::ranges::count_if(running, is_theirs);
  }
  void dispatch();
  void deliver();
  /// Wakes who has something to do, and lets go of the lock before: who is woken preempts this thread, which would hold
  /// the lock for as long as it then waits for a processor. The loop needs it to fetch outcomes.
  void unlock_and_wake(std::unique_lock<std::mutex>& lock) noexcept {
    const int threads = std::exchange(to_wake, 0);
    Item* item = std::exchange(resumed, nullptr);
    const bool news = !done.empty(), over = closed && queued == 0;
    lock.unlock();
    wake.release(threads + (over ? options.begun_max : 0));  // over: nothing is left for the threads that wait
    while (item) {
      Item* const next = std::exchange(item->resumed, nullptr);
      item->turn.release();  // it may be gone now
      item = next;
    }
    if (news) delivery.post();
  }
};

thread_local Background::State::Current Background::State::current;

/// False: there is no room, and `one` stays with its caller.
bool Background::State::add(Items& one) {
  if (queued >= options.queue_max) return false;
  const auto line = line_of(one.front().task.owner);
  if (line->items.size() >= options.queue_per_owner_max) return false;
  line->items.splice(line->items.end(), one);
  ++queued;
  dispatch();
  return true;
}

/// The owner's line, at the end where it is new.
auto Background::State::line_of(const std::string& owner) -> Lines::iterator {
  const auto line = std::ranges::find(lines, owner, &Line::owner);
  return line != lines.end() ? line : lines.insert(lines.end(), Line{owner, {}, {}});
}

/// Gives free places to the owners in turn. What an owner has begun goes on before it begins something else.
void Background::State::dispatch() {
  while (active < options.threads) {
    const auto line = std::ranges::find_if(lines, [this](const Line& l) { return can_go(l); });
    if (line == lines.end()) return;
    ++active;
    if (!line->paused.empty()) {
      Item& item = line->paused.front();
      running.splice(running.end(), line->paused, line->paused.begin());
      item.resumed = std::exchange(resumed, &item);
    } else {
      ready.splice(ready.end(), line->items, line->items.begin());
      --queued, ++begun;
      ++to_wake;
    }
    if (line->items.empty() && line->paused.empty())
      lines.erase(line);
    else
      lines.splice(lines.end(), lines, line);
  }
}

void Background::State::drop(const std::function<bool(const Item&)>& which, const Error& why) {
  for (Line& line : lines)
    for (auto it = line.items.begin(); it != line.items.end();) {
      const auto item = it++;
      if (!which(*item)) continue;
      item->task.work = nullptr;
      item->outcome = std::unexpected(why);
      done.splice(done.end(), line.items, item);
      --queued;
    }
  std::erase_if(lines, [](const Line& line) { return line.items.empty() && line.paused.empty(); });
}

void Background::State::deliver() {
  const auto self = shared_from_this();  // a receiver may destroy its Background
  Items delivered;
  {
    const std::lock_guard lock(mutex);
    delivered.splice(delivered.end(), done);
  }
  for (Item& item : delivered) {
    loop.doing(item.task.where);
    try {
      if (item.task.then) item.task.then(item.outcome);
    } catch (const std::exception& e) {
      log_quietly(e.what());
    }
  }
}

void Background::State::work() {
  const InRole role(ThreadRole::kHelper);
  options.nice > 0 ? become_long_worker(options.nice) : ask_for_slice(kComputeSlice);
  take_arena();
  std::unique_lock lock(mutex);
  while (true) {
    lock.unlock();
    wake.acquire();
    lock.lock();
    if (!ready.empty())
      run_ready(lock);
    else if (closed && queued == 0)
      return;
  }
}

void Background::State::run_ready(std::unique_lock<std::mutex>& lock) {
  const auto item = ready.begin();
  running.splice(running.end(), ready, item);
  lock.unlock();
  current = {this, item, std::chrono::steady_clock::now() + options.slice};
  if (is_cancelled(item->task.cancellation))
    item->outcome = std::unexpected(Error{ErrorCode::kCancelled, {}});
  else
    item->outcome = run_guarded(item->task.work);
  item->task.work = nullptr;
  current = {};
  lock.lock();
  done.splice(done.end(), running, item);
  --active, --begun;
  dispatch();
  unlock_and_wake(lock);
  lock.lock();
}

/// `item` runs on this thread, and its slice is over.
void Background::State::pause(Items::iterator item) {
  std::unique_lock lock(mutex);
  const auto another = [&](const Line& l) { return l.owner != item->task.owner && can_go(l); };
  if (std::ranges::any_of(lines, another)) {
    const auto line = line_of(item->task.owner);
    lines.splice(lines.end(), lines, line);
    line->paused.splice(line->paused.end(), running, item);
    --active;
    dispatch();
    unlock_and_wake(lock);
    item->turn.acquire();
  }
  current.until = std::chrono::steady_clock::now() + options.slice;
}

Background::Background(net::EventLoop& loop, BackgroundOptions options)
    : state_(std::make_shared<State>(loop, at_least_threads(options))) {
  try {
    for (int i = 0; i < state_->options.begun_max; ++i) threads_.emplace_back([state = state_] { state->work(); });
  } catch (...) {  // no thread, or no memory for one: those that are there must not be left running
    end_threads();
    throw;
  }
}

void Background::end_threads() {
  close();
  for (std::thread& t : threads_) t.join();
}

Background::~Background() {
  end_threads();
  const std::lock_guard lock(state_->mutex);
  state_->done.clear();
}

void Background::run(BackgroundTask task) {
  State::Items one;
  one.emplace_back(std::move(task));
  std::unique_lock lock(state_->mutex);
  State::Item& item = one.front();
  const bool closed = state_->closed;
  if (closed || !state_->add(one)) {
    item.outcome = closed ? fail(ErrorCode::kShuttingDown, "this is shutting down")
                          : fail(ErrorCode::kQueueFull, "the queue is full");
    item.task.work = nullptr;
    state_->done.splice(state_->done.end(), one);
  }
  state_->unlock_and_wake(lock);
}

void Background::run(std::function<void()> work) {
  run(std::move(work), [](const Status& s) {
    if (!s) log(Level::kError, "background_failed", s.error().message, {{"code", name(s.error().code)}});
  });
}

void Background::pause() {
  const State::Current& now = State::current;
  if (now.state == state_.get() && std::chrono::steady_clock::now() >= now.until) state_->pause(now.item);
}

void Background::cancel(const Cancellation& cancellation) {
  if (!cancellation) return;
  cancellation->store(true);
  std::unique_lock lock(state_->mutex);
  state_->drop([&](const State::Item& item) { return item.task.cancellation == cancellation; },
               {ErrorCode::kCancelled, "nobody waits for this any more"});
  state_->unlock_and_wake(lock);
}

void Background::close() {
  std::unique_lock lock(state_->mutex);
  state_->closed = true;
  const auto cancel_all = [](const State::Items& items) {
    for (const auto& item : items)
      if (item.task.cancellation) item.task.cancellation->store(true);
  };
  cancel_all(state_->ready), cancel_all(state_->running);
  for (const auto& line : state_->lines) cancel_all(line.items), cancel_all(line.paused);
  state_->drop([](const State::Item& item) { return is_cancelled(item.task.cancellation); },
               {ErrorCode::kShuttingDown, "this is shutting down"});
  state_->unlock_and_wake(lock);
}

std::size_t Background::load() const {
  const std::lock_guard lock(state_->mutex);
  return state_->queued + static_cast<std::size_t>(state_->begun);
}

}  // namespace llorch::service
