#include "coord/sqlite_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "base/semaphore.h"
#include "base/thread_role.h"
#include "coord/sqlite_engine.h"

namespace llorch::coord {
namespace {

template<class T, class Work>
Outcome<T> guarded(Work& work) {
  try {
    return work();
  } catch (const std::exception& e) {
    return std::unexpected(Failure{Problem::kUnavailable, fmt::format("the store has failed: {}", e.what()), 0, true});
  }
}

}  // namespace

struct SqliteFile::State {
  /// A watch as its loop knows it; the file's thread holds it weakly.
  struct WatchState {
    WatchState(WatchCallbacks c, std::weak_ptr<int> s) : callbacks(std::move(c)), store(std::move(s)) {}
    /// Nothing comes from then on, also where a callback that runs has ended it.
    [[nodiscard]] bool silent() const { return ended || store.expired(); }
    WatchCallbacks callbacks;
    std::weak_ptr<int> store;
    bool ended = false;
  };
  struct Watcher {
    [[nodiscard]] bool concerns(const Event& event) const {
      if (event.entry.modified < query.from) return false;
      return query.exact ? event.entry.key == query.key : event.entry.key.starts_with(query.key);
    }
    WatchQuery query;
    std::weak_ptr<WatchState> state;
    net::EventLoop::Poster poster;
  };
  explicit State(std::string p) : path(std::move(p)) {}
  using Task = std::function<void()>;

  void post(Task task);
  void run();
  void turn();
  void end_leases();
  void publish(const std::vector<Event>& events);
  void watch(Watcher watcher);

  const std::string path;
  std::unique_ptr<SqliteEngine> engine;  // the thread's
  std::vector<Watcher> watchers;         // the thread's
  std::mutex mutex;
  std::deque<Task> tasks;
  bool closing = false;
  Semaphore woken;
  std::thread thread;
};

void SqliteFile::State::post(Task task) {
  {
    const std::lock_guard lock(mutex);
    tasks.push_back(std::move(task));
  }
  woken.release();
}

void SqliteFile::State::run() {
  const InRole role(ThreadRole::kHelper);
  bool more = true;
  while (more) {
    try {
      turn();
      const std::lock_guard lock(mutex);
      more = !closing || !tasks.empty();
    } catch (const std::exception&) {  // memory: whoever asked hears nothing of a task that cannot even be begun
    }
  }
}

/// One task, or what is due.
void SqliteFile::State::turn() {
  constexpr std::chrono::hours kLong{1};
  const auto wait = std::min<BootClock::duration>(engine->next_overdue() - BootClock::now(), kLong);
  (void)woken.acquire_until(std::chrono::steady_clock::now() + std::max(wait, BootClock::duration::zero()));
  end_leases();
  Task task;
  {
    const std::lock_guard lock(mutex);
    if (tasks.empty()) return;
    task = std::move(tasks.front());
    tasks.pop_front();
  }
  task();
}

void SqliteFile::State::end_leases() {
  while (const LeaseId lease = engine->overdue()) {
    const auto change = engine->revoke(lease);
    if (!change) return;  // of the disk: at the next turn
    publish(change->events);
  }
}

void SqliteFile::State::publish(const std::vector<Event>& events) {
  std::erase_if(watchers, [](const Watcher& w) { return w.state.expired(); });
  for (const Watcher& w : watchers) {
    std::vector<Event> wanted;
    std::ranges::copy_if(events, std::back_inserter(wanted), [&](const Event& e) { return w.concerns(e); });
    if (wanted.empty()) continue;
    w.poster.post([weak = w.state, wanted = std::move(wanted)] {
      const auto state = weak.lock();
      if (state && !state->silent() && state->callbacks.on_events) state->callbacks.on_events(wanted);
    });
  }
}

void SqliteFile::State::watch(Watcher watcher) {
  auto past = engine->history(watcher.query);
  watcher.poster.post([weak = watcher.state, past] {
    const auto state = weak.lock();
    if (!state || state->silent()) return;
    if (past) {
      if (state->callbacks.on_contact) state->callbacks.on_contact(true, "");
      if (!state->silent() && !past->empty() && state->callbacks.on_events) state->callbacks.on_events(*past);
    } else if (state->callbacks.on_end) {
      state->callbacks.on_end(past.error());
    }
  });
  if (past) watchers.push_back(std::move(watcher));
}

Result<std::shared_ptr<SqliteFile>> SqliteFile::open(const std::string& path) {
  auto state = std::make_shared<State>(path);
  LLORCH_TRY(state->engine, SqliteEngine::open(path));
  state->thread = std::thread([s = state.get()] { s->run(); });
  return std::shared_ptr<SqliteFile>(new SqliteFile(std::move(state)));
}

SqliteFile::SqliteFile(std::shared_ptr<State> state) : state_(std::move(state)) {}
SqliteFile::~SqliteFile() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closing = true;
  }
  state_->woken.release();
  state_->thread.join();
}

class SqliteStore final : public CoordStore {
  using WatchState = SqliteFile::State::WatchState;
  using Watcher = SqliteFile::State::Watcher;
  class Handle final : public Watch {
   public:
    explicit Handle(std::shared_ptr<WatchState> state) : state_(std::move(state)) {}
    ~Handle() override { state_->ended = true; }

   private:
    std::shared_ptr<WatchState> state_;
  };

 public:
  SqliteStore(net::EventLoop& loop, std::shared_ptr<SqliteFile> file) : CoordStore(loop), file_(std::move(file)) {}

  void range(Query query, Done<Page> done) override {
    if (auto bad = check(query)) return refuse(*std::move(bad), std::move(done));
    ask<Page>([q = std::move(query)](SqliteFile::State& f) { return f.engine->range(q); }, std::move(done));
  }
  void commit(Transaction transaction, Done<Revision> done) override {
    if (auto bad = check(transaction)) return refuse(*std::move(bad), std::move(done));
    ask<Revision>([t = std::move(transaction)](SqliteFile::State& f) { return publish(f, f.engine->commit(t)); },
                  std::move(done));
  }
  std::unique_ptr<Watch> watch(WatchQuery query, WatchCallbacks callbacks) override {
    auto state = std::make_shared<WatchState>(std::move(callbacks), alive_);
    if (auto bad = check(query)) {
      loop().post([weak = std::weak_ptr(state), bad = *std::move(bad)] {
        if (const auto s = weak.lock(); s && !s->silent() && s->callbacks.on_end) s->callbacks.on_end(bad);
      });
    } else {
      SqliteFile::State* f = file_->state_.get();
      f->post([f, w = Watcher{std::move(query), state, net::EventLoop::Poster(loop())}] { f->watch(w); });
    }
    return std::make_unique<Handle>(std::move(state));
  }
  void grant(std::chrono::seconds ttl, Done<LeaseGrant> done) override {
    if (auto bad = check_ttl(ttl)) return refuse(*std::move(bad), std::move(done));
    ask<LeaseGrant>([ttl](SqliteFile::State& f) { return f.engine->grant(ttl); }, std::move(done));
  }
  void keep_alive(LeaseId lease, Done<std::chrono::seconds> done) override {
    ask<std::chrono::seconds>([lease](SqliteFile::State& f) { return f.engine->keep_alive(lease); }, std::move(done));
  }
  void revoke(LeaseId lease, Done<void> done) override {
    ask<void>(
        [lease](SqliteFile::State& f) -> Outcome<void> {
          LLORCH_OK(publish(f, f.engine->revoke(lease)));
          return {};
        },
        std::move(done));
  }
  void compact(Revision revision, Done<void> done) override {
    ask<void>([revision](SqliteFile::State& f) { return f.engine->compact(revision); }, std::move(done));
  }
  std::string description() const override { return "SQLite at " + file_->state_->path; }

 private:
  /// On the file's thread.
  static Outcome<Revision> publish(SqliteFile::State& f, const Outcome<SqliteEngine::Change>& change) {
    if (!change) return std::unexpected(change.error());
    f.publish(change->events);
    return change->revision;
  }

  /// What waits for an answer stays on the loop's thread; the other one has no more than its number.
  template<class T>
  std::weak_ptr<Done<T>> keep(Done<T> done) {
    auto held = std::make_shared<Done<T>>(std::move(done));
    waiting_.emplace(++last_, held);
    return held;
  }
  template<class T>
  auto answer(Done<T> done) {
    auto weak = keep(std::move(done));
    return [this, weak, number = last_](Outcome<T> outcome) {
      const auto held = weak.lock();
      if (!held) return;  // and the store may be gone
      waiting_.erase(number);
      (*held)(std::move(outcome));
    };
  }
  template<class T>
  void refuse(Failure why, Done<T> done) {
    loop().post([give = answer(std::move(done)), why = std::move(why)] { give(std::unexpected(why)); });
  }
  template<class T, class Work>
  void ask(Work work, Done<T> done) {
    SqliteFile::State* f = file_->state_.get();
    f->post([f, work = std::move(work), give = answer(std::move(done)), poster = net::EventLoop::Poster(loop())] {
      const auto bound = [&] { return work(*f); };
      poster.post([give, outcome = guarded<T>(bound)] { give(outcome); });
    });
  }

  std::shared_ptr<SqliteFile> file_;
  std::unordered_map<std::uint64_t, std::shared_ptr<void>> waiting_;
  std::uint64_t last_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // ends with it: its watches stay silent then
};

std::unique_ptr<CoordStore> make_sqlite_store(net::EventLoop& loop, std::shared_ptr<SqliteFile> file) {
  return std::make_unique<SqliteStore>(loop, std::move(file));
}

}  // namespace llorch::coord
