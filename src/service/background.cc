#include "service/background.h"

#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <new>
#include <utility>

#include "base/thread_role.h"
#include "service/log.h"

namespace llorch::service {
namespace {

constexpr std::chrono::milliseconds kMemoryRetry{10};

bool is_cancelled(const Cancellation& c) { return c && c->load(std::memory_order_relaxed); }

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
    try {
      log(Level::kError, "background_failed", e.what());
      return fail(ErrorCode::kInternal, "an unexpected fault; the log has the details");
    } catch (...) {
      return std::unexpected(Error{ErrorCode::kInternal, {}});
    }
  } catch (...) {
    return std::unexpected(Error{ErrorCode::kInternal, {}});
  }
}

}  // namespace

struct Background::State : std::enable_shared_from_this<Background::State> {
  struct Item {
    BackgroundTask task;
    Status outcome;
  };
  using Items = std::list<Item>;  // moved between lists by splicing: that takes no memory
  struct Line {
    std::string owner;
    Items items;  // never empty
  };

  State(net::EventLoop& l, BackgroundOptions o) : loop(l), options(o) {}

  net::EventLoop& loop;
  const BackgroundOptions options;
  mutable std::mutex mutex;
  std::condition_variable wake;
  std::list<Line> lines;  // the first line is next
  Items running, done;
  std::size_t queued = 0;
  bool closed = false, delivery_posted = false;

  bool add(Items& one);
  void drop(const std::function<bool(const Item&)>& which, const Error& why);
  void work();
  void take(Items& one);
  void deliver();
  void post_delivery(std::unique_lock<std::mutex>& lock);
};

/// False: there is no room, and `one` stays with its caller.
bool Background::State::add(Items& one) {
  const std::string& owner = one.front().task.owner;
  if (queued >= options.queue_max) return false;
  auto line = std::ranges::find(lines, owner, &Line::owner);
  if (line != lines.end() && line->items.size() >= options.queue_per_owner_max) return false;
  if (line == lines.end()) line = lines.insert(lines.end(), Line{owner, {}});
  line->items.splice(line->items.end(), one);
  ++queued;
  return true;
}

/// The next owner's first task.
void Background::State::take(Items& one) {
  const auto line = lines.begin();
  one.splice(one.end(), line->items, line->items.begin());
  --queued;
  if (line->items.empty())
    lines.erase(line);
  else
    lines.splice(lines.end(), lines, line);
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
  std::erase_if(lines, [](const Line& line) { return line.items.empty(); });
}

/// Makes sure that deliver() will run on the loop. Without memory for the post it is tried again.
void Background::State::post_delivery(std::unique_lock<std::mutex>& lock) {
  while (!delivery_posted && !done.empty()) {
    try {
      loop.post([self = shared_from_this()] { self->deliver(); });
      delivery_posted = true;
    } catch (const std::bad_alloc&) {
      wake.wait_for(lock, kMemoryRetry);
    }
  }
}

void Background::State::deliver() {
  Items ready;
  {
    const std::lock_guard lock(mutex);
    delivery_posted = false;
    ready.splice(ready.end(), done);
  }
  for (Item& item : ready) {
    try {
      if (item.task.then) item.task.then(item.outcome);
    } catch (const std::exception& e) {
      log(Level::kError, "background_failed", e.what());
    }
  }
}

void Background::State::work() {
  const InRole role(ThreadRole::kHelper);
  if (options.nice != 0) setpriority(PRIO_PROCESS, 0, options.nice);  // Linux: of this thread alone
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [this] { return closed || queued > 0; });
    if (queued == 0) return;
    Items one;
    take(one);
    Item& item = one.front();
    running.splice(running.end(), one);
    const auto at = std::prev(running.end());
    lock.unlock();
    if (is_cancelled(item.task.cancellation))
      item.outcome = std::unexpected(Error{ErrorCode::kCancelled, {}});
    else
      item.outcome = run_guarded(item.task.work);
    item.task.work = nullptr;
    lock.lock();
    done.splice(done.end(), running, at);
    post_delivery(lock);
  }
}

Background::Background(net::EventLoop& loop, BackgroundOptions options)
    : state_(std::make_shared<State>(loop, options)) {
  for (int i = 0; i < options.threads; ++i) threads_.emplace_back([state = state_] { state->work(); });
}

Background::~Background() {
  close();
  for (std::thread& t : threads_) t.join();
  const std::lock_guard lock(state_->mutex);
  state_->done.clear();
}

void Background::run(BackgroundTask task) {
  State::Items one;
  one.push_back({std::move(task), {}});
  std::unique_lock lock(state_->mutex);
  State::Item& item = one.front();
  if (state_->closed)
    item.outcome = fail(ErrorCode::kShuttingDown, "this is shutting down");
  else if (state_->add(one))
    return lock.unlock(), state_->wake.notify_one();
  else
    item.outcome = fail(ErrorCode::kQueueFull, "the queue is full");
  item.task.work = nullptr;
  state_->done.splice(state_->done.end(), one);
  state_->post_delivery(lock);
}

void Background::run(std::function<void()> work) {
  run(std::move(work), [](const Status& s) {
    if (!s) log(Level::kError, "background_failed", s.error().message, {{"code", name(s.error().code)}});
  });
}

void Background::cancel(const Cancellation& cancellation) {
  if (!cancellation) return;
  cancellation->store(true);
  std::unique_lock lock(state_->mutex);
  state_->drop([&](const State::Item& item) { return item.task.cancellation == cancellation; },
               {ErrorCode::kCancelled, "nobody waits for this any more"});
  state_->post_delivery(lock);
}

void Background::close() {
  std::unique_lock lock(state_->mutex);
  state_->closed = true;
  for (const auto& item : state_->running)
    if (item.task.cancellation) item.task.cancellation->store(true);
  for (const auto& line : state_->lines)
    for (const auto& item : line.items)
      if (item.task.cancellation) item.task.cancellation->store(true);
  state_->drop([](const State::Item& item) { return is_cancelled(item.task.cancellation); },
               {ErrorCode::kShuttingDown, "this is shutting down"});
  state_->post_delivery(lock);
  lock.unlock();
  state_->wake.notify_all();
}

std::size_t Background::load() const {
  const std::lock_guard lock(state_->mutex);
  return state_->queued + state_->running.size();
}

}  // namespace llorch::service
