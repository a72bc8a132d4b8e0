#include "service/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/descriptor.h"
#include "base/terminal.h"
#include "base/thread_role.h"
#include "service/log.h"

namespace llorch::service {

/// What exec needs, made before: between vfork and exec nothing may allocate.
struct PreparedExec {
  explicit PreparedExec(const ProcessOptions& o) : arguments(o.arguments) {
    for (char** e = environ; *e; ++e) {
      const std::string_view entry(*e);
      const std::string_view key = entry.substr(0, entry.find('='));
      if (std::ranges::none_of(o.environment, [&](const auto& add) { return add.first == key; }))
        environment.emplace_back(entry);
    }
    for (const auto& [key, value] : o.environment)
      if (!value.empty()) environment.push_back(key + "=" + value);
    for (std::string& a : arguments) argv.push_back(a.data());
    for (std::string& e : environment) envp.push_back(e.data());
    argv.push_back(nullptr), envp.push_back(nullptr);
  }
  std::vector<std::string> arguments, environment;
  std::vector<char*> argv, envp;
};

namespace {

constexpr std::size_t kLineBytesMax = 65'536;

/// What a process is started as. Negative descriptors: ours.
struct Start {
  char* const* argv;
  char* const* environment = environ;
  struct {
    int in, out, err;
  } streams;
  int death_signal = SIGKILL;  // what it gets when we die; 0: nothing
  enum class Group { kOurs, kOwn, kOwnSession } group = Group::kOurs;
  bool is_fresh = false;  // no signal is ignored or blocked, and it has no other descriptor, whatever we have
};

/// Between vfork and exec. It has our memory until then: nothing may allocate. `problem`: what has failed.
[[noreturn]] void become(const Start& s, pid_t parent, const sigset_t& mask, volatile int& problem) {
  const auto fails = [&problem] {
    problem = errno;
    _exit(127);
  };
  if (s.group == Start::Group::kOwn) setpgid(0, 0);
  if (s.group == Start::Group::kOwnSession) setsid();
  if (s.death_signal != 0 && prctl(PR_SET_PDEATHSIG, s.death_signal) != 0) fails();
  if (s.death_signal != 0 && getppid() != parent) _exit(127);  // it died before we could ask
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction now {};
    if (sigaction(number, nullptr, &now) != 0 || (now.sa_handler == SIG_IGN && !s.is_fresh)) continue;
    now = {};
    now.sa_handler = SIG_DFL;
    sigaction(number, &now, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, s.is_fresh ? &none : &mask, nullptr);
  const int from[] = {s.streams.in, s.streams.out, s.streams.err};
  for (int to = STDIN_FILENO; to <= STDERR_FILENO; ++to)  // else it would write where it should not
    if (from[to] >= 0 && (from[to] == to ? fcntl(to, F_SETFD, 0) : dup2(from[to], to)) < 0) fails();
  if (s.is_fresh) syscall(SYS_close_range, 3u, ~0u, 0u);
  execvpe(s.argv[0], s.argv, s.environment);
  fails();
  __builtin_unreachable();
}

/// The process's id, or -1 with errno. It gets no signal until it has let go of our handlers: one that ran there would
/// write into the pipe that it shares with our event loop, and we would take its signal for ours. By vfork(), which
/// copies no page tables (that takes 40 ms for each GiB, and every thread that needs a page, or memory of glibc, waits
/// meanwhile): this thread alone waits, until the program runs.
pid_t spawn(const Start& s) {
  assert_may_block();
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile int problem = 0;
  const pid_t parent = getpid(), pid = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork): see above
  if (pid == 0) become(s, parent, before, problem);
  if (pid < 0) problem = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid > 0 && problem != 0) (void)waitpid(pid, nullptr, 0);
  errno = problem;
  return problem == 0 ? pid : -1;
}

/// The same of one that is supervised, or lives on without us: what it says goes to `output`.
pid_t spawn(const PreparedExec& p, int output, const ProcessOptions& o, Start::Group group) {
  const Descriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return -1;
  return spawn({.argv = p.argv.data(),
                .environment = p.envp.data(),
                .streams = {null.number(), output, o.with_stderr ? output : null.number()},
                .death_signal = o.death_signal,
                .group = group,
                .is_fresh = true});
}

int open_log(const std::string& path) {
  return path.empty() ? -1 : open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

Status executable(const std::string& path) {
  if (access(path.c_str(), X_OK) == 0) return {};
  return fail(ErrorCode::kIo, "the program {} is not there", std::filesystem::path(path).filename().string());
}

}  // namespace

struct Process::Plan {
  explicit Plan(ProcessOptions o) : options(std::move(o)), prepared(options) {}
  ProcessOptions options;
  PreparedExec prepared;
  Descriptor output, written;  // the pipe that it writes to
  Descriptor exit;             // its pidfd, or none
  int pid = -1;
};

Result<std::unique_ptr<Process>> Process::start(ProcessOptions options) {
  assert_may_block();
  LLORCH_OK(executable(options.arguments.at(0)));
  auto plan = std::make_unique<Plan>(std::move(options));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "no pipe: {}", std::strerror(errno));
  plan->output = Descriptor(ends[0]), plan->written = Descriptor(ends[1]);
  const auto shared = std::make_shared<Shared>();
  std::unique_ptr<Process> process(new Process(-1, -1, shared));
  try {
    std::thread([p = std::move(plan), shared] { run(*p, shared); }).detach();
  } catch (const std::exception& e) {  // no thread, or no memory for one
    return fail(ErrorCode::kInsufficientMemory, "no thread to watch a process: {}", e.what());
  }
  shared->begun.wait(0);
  if (shared->pid < 0) return fail(ErrorCode::kIo, "no process: {}", std::strerror(shared->problem));
  process->pid_ = shared->pid, process->descriptor_ = shared->descriptor;
  return process;
}

/// Takes no memory before the process has begun: where there is none it is followed all the same.
void Process::run(Plan& plan, const std::shared_ptr<Shared>& shared) {
  const InRole role(ThreadRole::kHelper);
  plan.pid = spawn(plan.prepared, plan.written.number(), plan.options, Start::Group::kOurs);
  shared->pid = plan.pid, shared->problem = errno;
  plan.written = Descriptor();
  if (plan.pid >= 0) {
    shared->descriptor = static_cast<int>(syscall(SYS_pidfd_open, plan.pid, 0u));
    if (shared->descriptor >= 0) plan.exit = Descriptor(fcntl(shared->descriptor, F_DUPFD_CLOEXEC, 0));
  }
  shared->begun = 1;
  shared->begun.notify_all();
  if (plan.pid < 0) return;
  shared->followed.wait(0);
  follow(plan, shared);
}

void Process::listen(net::EventLoop& loop, OnLine on_line, OnExit on_exit) {
  shared_->on_line = std::move(on_line), shared_->on_exit = std::move(on_exit);
  shared_->poster.emplace(loop);
  shared_->followed = 1;
  shared_->followed.notify_all();
}

namespace {

void write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(descriptor, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // a full disk takes no log; the process goes on
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

/// Until the pipe is closed at its other end or the process has ended and what it wrote has been read: a child of it
/// may keep the pipe open for ever. `exit_descriptor`: its pidfd, or -1.
template<class Take>
void read_until_exit(int pipe, int exit_descriptor, Take take) {
  char part[4096];
  while (true) {
    pollfd both[2] = {{pipe, POLLIN, 0}, {exit_descriptor, POLLIN, 0}};
    if (poll(both, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    if (both[0].revents == 0) return;  // it has ended, and nothing is left to read
    const ssize_t n = read(pipe, part, sizeof part);
    if (n == 0 || (n < 0 && errno != EINTR)) return;
    if (n > 0) take(std::string_view(part, static_cast<std::size_t>(n)));
  }
}

}  // namespace

/// Hands on what a process writes, then its end. What cannot be handed on for lack of memory is lost, not the process.
void Process::follow(const Plan& p, const std::shared_ptr<Shared>& shared) {
  const Descriptor log(open_log(p.options.log_file));
  std::string line;
  bool lost = false, told = false;  // lost: what has come of this line
  const auto add = [&](char c) {
    if (c != '\n') {
      if (!lost && line.size() < kLineBytesMax) line += c;
      return;
    }
    if (std::exchange(lost, false)) return;
    shared->post([text = std::exchange(line, {})](const Shared& s) {
      if (s.on_line) s.on_line(text);
    });
  };
  read_until_exit(p.output.number(), p.exit.number(), [&](std::string_view text) {
    if (log) write_all(log.number(), text);
    for (const char c : text) {
      try {
        add(c);
      } catch (const std::exception& e) {  // it is read on: a process whose pipe is full would wait for ever
        lost = c != '\n', line.clear();
        if (!std::exchange(told, true)) service::log(Level::kError, "output_lost", e.what());
      }
    }
  });
  int status = 0;
  while (waitpid(p.pid, &status, 0) < 0 && errno == EINTR) {
  }
  shared->ended = true;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  shared->post_exit(code);
}

void Process::Shared::post(std::function<void(const Shared&)> task) {
  if (gone || !poster) return;
  poster->post([weak = weak_from_this(), task = std::move(task)] {
    if (const auto alive = weak.lock()) task(*alive);
  });
}

/// Somebody waits for the end of a process: it is told when there is memory again.
void Process::Shared::post_exit(int code) noexcept {
  constexpr std::chrono::milliseconds kMemoryRetry{10};
  std::mutex mutex;
  std::condition_variable never;
  while (true) {
    try {
      return post([code](const Shared& s) {
        if (s.on_exit) s.on_exit(code);
      });
    } catch (const std::exception&) {
      std::unique_lock lock(mutex);
      never.wait_for(lock, kMemoryRetry);
    }
  }
}

// The thread that reaps is not waited for: a process may take long to die, and the event loop must go on.
Process::~Process() {
  shared_->gone = true;
  shared_->on_line = nullptr, shared_->on_exit = nullptr;
  if (pid_ < 0) return;  // it has not begun
  if (running()) signal(SIGKILL);
  if (descriptor_ >= 0) close(descriptor_);
  shared_->followed = 1;
  shared_->followed.notify_all();
}

void Process::signal(int number) const {
  if (descriptor_ >= 0)
    syscall(SYS_pidfd_send_signal, descriptor_, number, nullptr, 0u);
  else if (running())
    kill(pid_, number);
}

Result<int> start_detached(const ProcessOptions& options) {
  LLORCH_OK(executable(options.arguments.at(0)));
  const PreparedExec prepared(options);
  const int log = options.log_file.empty() ? open("/dev/null", O_WRONLY | O_CLOEXEC) : open_log(options.log_file);
  if (log < 0) return fail(ErrorCode::kIo, "cannot write {}", options.log_file);
  const pid_t pid = spawn(prepared, log, options, Start::Group::kOwnSession);
  const int problem = errno;
  close(log);
  if (pid < 0) return fail(ErrorCode::kIo, "no process: {}", std::strerror(problem));
  return pid;
}

namespace {

/// A child's stderr on its way to our terminal: cleaned, piece by piece as it comes. Without a terminal there is none,
/// and the child writes where we do.
class ShownErrors {
 public:
  explicit ShownErrors(bool wanted) : to_(stderr) {
    int ends[2];
    if (!wanted || isatty(STDERR_FILENO) != 1 || pipe2(ends, O_CLOEXEC) != 0) return;
    Descriptor from(ends[0]), child(ends[1]);
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return;  // take() must not wait
    from_ = std::move(from), child_ = std::move(child);
  }
  [[nodiscard]] const Descriptor& child_end() const { return child_; }
  void started() { child_ = Descriptor(); }
  /// Negative: nothing more comes.
  [[nodiscard]] int number() const { return from_.number(); }
  /// Shows what is there, without waiting.
  void take() {
    char part[4096];
    ssize_t n = 0;
    while (from_ && (n = read(from_.number(), part, sizeof part)) > 0)
      to_.add(std::string_view(part, static_cast<std::size_t>(n)));
    if (n == 0) from_ = Descriptor();
  }

 private:
  Descriptor from_, child_;
  ShownStream to_;
};

/// The seconds that a program still has, counted down on a terminal.
class Countdown {
 public:
  explicit Countdown(const Timeout& timeout)
      : timeout_(timeout), counts_(timeout.time.count() > 0 && !timeout.silent && isatty(STDERR_FILENO) == 1) {}
  ~Countdown() {
    if (told_) std::fprintf(stderr, "\r\033[K");
  }
  Countdown(const Countdown&) = delete;
  Countdown& operator=(const Countdown&) = delete;
  /// False: the time is over.
  [[nodiscard]] bool look() {
    if (timeout_.called_off && *timeout_.called_off) return false;
    if (timeout_.time.count() <= 0) return true;
    const auto gone = std::chrono::steady_clock::now() - start_;
    if (gone >= timeout_.time) return false;
    if (counts_ && gone >= std::chrono::seconds(1)) {
      const auto left = std::chrono::ceil<std::chrono::seconds>(timeout_.time - gone).count();
      std::fprintf(stderr, "\r\033[K%s: %ld s left", timeout_.label.c_str(), static_cast<long>(left));
      told_ = true;
    }
    return true;
  }
  [[nodiscard]] int poll_ms() const { return timeout_.called_off ? 100 : timeout_.time.count() > 0 ? 1000 : -1; }

 private:
  const Timeout& timeout_;
  const bool counts_;
  bool told_ = false;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Until `out` is closed at its other end, and `errors` too or the process has ended: what it has left behind may keep
/// that open for ever. False: the time is over.
bool read_all(Descriptor out, ShownErrors& errors, Descriptor exit, const Timeout& timeout, std::string& output) {
  Countdown countdown(timeout);
  char part[4096];
  while (out || (errors.number() >= 0 && exit)) {
    if (!countdown.look()) return false;
    pollfd all[] = {{out.number(), POLLIN, 0}, {errors.number(), POLLIN, 0}, {exit.number(), POLLIN, 0}};
    const int ready = poll(all, std::size(all), countdown.poll_ms());
    if (ready < 0 && errno != EINTR) break;
    if (ready <= 0) continue;
    if (all[1].revents) errors.take();
    if (all[2].revents) exit = Descriptor();
    if (!all[0].revents) continue;
    const ssize_t n = read(out.number(), part, sizeof part);
    if (n == 0 || (n < 0 && errno != EINTR)) out = Descriptor();
    if (n > 0 && output.size() < (1u << 20)) output.append(part, static_cast<std::size_t>(n));
  }
  return true;
}

void end_program(int pid, bool group) {
  const int whom = group ? -pid : pid, descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid, 0u));
  kill(whom, SIGTERM);
  pollfd p{descriptor, POLLIN, 0};
  (void)poll(&p, 1, 1000);
  kill(whom, SIGKILL);
  if (descriptor >= 0) close(descriptor);
}

}  // namespace

Result<Ran> run_program(std::vector<std::string> arguments, int input, Stderr err, const Timeout& timeout, bool group) {
  assert_may_block();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "no pipe: {}", std::strerror(errno));
  Descriptor out(ends[0]), written(ends[1]);
  const Descriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  ShownErrors errors(err == Stderr::kOurs);
  const int ours = errors.child_end() ? errors.child_end().number() : -1;
  if (!null) return fail(ErrorCode::kIo, "cannot open /dev/null: {}", std::strerror(errno));
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  const pid_t pid = spawn({.argv = argv.data(),
                           .streams = {input < 0 ? null.number() : input, written.number(),
                                       err == Stderr::kNone     ? null.number()
                                       : err == Stderr::kJoined ? written.number()
                                                                : ours},
                           .group = group ? Start::Group::kOwn : Start::Group::kOurs});
  if (pid < 0) return fail(ErrorCode::kIo, "cannot run {}: {}", arguments[0], std::strerror(errno));
  written = Descriptor();
  errors.started();
  Ran ran;
  Descriptor exit(static_cast<int>(syscall(SYS_pidfd_open, pid, 0u)));
  const bool in_time = read_all(std::move(out), errors, std::move(exit), timeout, ran.output);
  if (!in_time) end_program(pid, group);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  errors.take();
  if (!in_time) return std::unexpected(timeout.error());
  ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const std::string_view folder = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    std::string whole = fmt::format("{}/{}", folder, name);
    if (folder.starts_with('/') && access(whole.c_str(), X_OK) == 0) return whole;
  }
  return {};
}

std::string host_name() {
  char name[256] = "local";
  gethostname(name, sizeof name - 1);
  std::string id;
  for (const char c : std::string_view(name))
    id += std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ? c : '-';
  return id.substr(0, 64);
}

std::string own_folder() {
  std::error_code problem;
  return std::filesystem::read_symlink("/proc/self/exe", problem).parent_path().string();
}

}  // namespace llorch::service
