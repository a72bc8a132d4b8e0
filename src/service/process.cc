#include "service/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/thread_role.h"

namespace llorch::service {
namespace {

/// What exec needs, made before the fork: between fork and exec nothing may allocate.
struct Prepared {
  explicit Prepared(const ProcessOptions& o) : arguments(o.arguments) {
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

/// A fork whose child gets no signal until it has let go of our handlers: one that ran there would write into the pipe
/// that the child shares with our event loop, and we would take the child's signal for ours.
pid_t fork_blocked(sigset_t& before) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid != 0) pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return pid;
}

[[noreturn]] void become(const Prepared& p, int output, int death_signal, pid_t parent) {
  if (death_signal) prctl(PR_SET_PDEATHSIG, death_signal);
  if (death_signal && getppid() != parent) _exit(127);  // it died before we could ask
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) sigaction(number, &plain, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = open("/dev/null", O_RDWR);
  dup2(null, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  syscall(SYS_close_range, 3u, ~0u, 0u);
  execve(p.argv[0], p.argv.data(), p.envp.data());
  _exit(127);
}

int open_log(const std::string& path) {
  return path.empty() ? -1 : open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

Status executable(const std::string& path) {
  if (access(path.c_str(), X_OK) == 0) return {};
  return fail(ErrorCode::kIo, "the program {} is not there", std::filesystem::path(path).filename().string());
}

}  // namespace

Result<std::unique_ptr<Process>> Process::start(net::EventLoop& loop, ProcessOptions options, OnLine on_line,
                                                OnExit on_exit) {
  LLORCH_OK(executable(options.arguments.at(0)));
  const Prepared prepared(options);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "no pipe: {}", std::strerror(errno));
  sigset_t before;
  const pid_t parent = getpid(), pid = fork_blocked(before);
  if (pid == 0) become(prepared, ends[1], options.death_signal, parent);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return fail(ErrorCode::kIo, "no process: {}", std::strerror(errno));
  }
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid, 0u));
  auto shared = std::make_shared<Shared>();
  shared->on_line = std::move(on_line), shared->on_exit = std::move(on_exit);
  std::unique_ptr<Process> process(new Process(pid, descriptor, std::move(shared)));
  process->watch(loop, ends[0], open_log(options.log_file));
  return process;
}

void Process::watch(net::EventLoop& loop, int output, int log) {
  watcher_ = std::thread([&loop, output, log, pid = pid_, weak = std::weak_ptr(shared_), shared = shared_] {
    const InRole role(ThreadRole::kHelper);
    std::string line;
    char part[4096];
    for (ssize_t n; (n = read(output, part, sizeof part)) != 0;) {
      if (n < 0) {
        if (errno == EINTR) continue;
        break;
      }
      if (log >= 0) (void)!write(log, part, static_cast<std::size_t>(n));
      for (const char c : std::string_view(part, static_cast<std::size_t>(n))) {
        if (c != '\n') {
          if (line.size() < 65'536) line += c;
          continue;
        }
        loop.post([weak, text = std::exchange(line, {})] {
          if (const auto alive = weak.lock(); alive && alive->on_line) alive->on_line(text);
        });
      }
    }
    close(output);
    if (log >= 0) close(log);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    shared->ended = true;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    loop.post([weak, code] {
      if (const auto alive = weak.lock(); alive && alive->on_exit) alive->on_exit(code);
    });
  });
}

Process::~Process() {
  shared_->on_line = nullptr, shared_->on_exit = nullptr;
  if (running()) signal(SIGKILL);
  watcher_.join();
  if (descriptor_ >= 0) close(descriptor_);
}

void Process::signal(int number) const {
  if (descriptor_ >= 0)
    syscall(SYS_pidfd_send_signal, descriptor_, number, nullptr, 0u);
  else if (running())
    kill(pid_, number);
}

Result<int> start_detached(const ProcessOptions& options) {
  LLORCH_OK(executable(options.arguments.at(0)));
  const Prepared prepared(options);
  const int log = options.log_file.empty() ? open("/dev/null", O_WRONLY | O_CLOEXEC) : open_log(options.log_file);
  if (log < 0) return fail(ErrorCode::kIo, "cannot write {}", options.log_file);
  sigset_t before;
  const pid_t parent = getpid(), pid = fork_blocked(before);
  if (pid == 0) {
    setsid();
    become(prepared, log, options.death_signal, parent);
  }
  close(log);
  if (pid < 0) return fail(ErrorCode::kIo, "no process: {}", std::strerror(errno));
  return pid;
}

namespace {

/// Until the pipe is closed at its other end. False: the time is over.
bool read_all(int fd, const Timeout& timeout, std::string& output) {
  const auto start = std::chrono::steady_clock::now();
  const bool counts = timeout.time.count() > 0 && !timeout.silent && isatty(STDERR_FILENO) == 1;
  bool told = false, in_time = true;
  char part[4096];
  while (true) {
    const auto gone = std::chrono::steady_clock::now() - start;
    const auto left = std::chrono::ceil<std::chrono::seconds>(timeout.time - gone).count();
    if (timeout.time.count() > 0 && gone >= timeout.time && !(in_time = false)) break;
    if (counts && gone >= std::chrono::seconds(1)) {
      std::fprintf(stderr, "\r\033[K%s: %ld s left", timeout.label.c_str(), static_cast<long>(left));
      told = true;
    }
    pollfd p{fd, POLLIN, 0};
    const int ready = poll(&p, 1, timeout.time.count() > 0 ? 1000 : -1);
    if (ready < 0 && errno != EINTR) break;
    if (ready <= 0) continue;
    const ssize_t n = read(fd, part, sizeof part);
    if (n == 0 || (n < 0 && errno != EINTR)) break;
    if (n > 0 && output.size() < (1u << 20)) output.append(part, static_cast<std::size_t>(n));
  }
  if (told) std::fprintf(stderr, "\r\033[K");
  return in_time;
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
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "no pipe: {}", std::strerror(errno));
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, input < 0 ? null : input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
  if (err == Stderr::kNone) posix_spawn_file_actions_adddup2(&files, null, STDERR_FILENO);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  if (group) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // its own
  pid_t pid = 0;
  const int problem = posix_spawnp(&pid, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  close(null);
  Ran ran;
  const bool in_time = problem != 0 || read_all(ends[0], timeout, ran.output);
  close(ends[0]);
  if (problem != 0) return fail(ErrorCode::kIo, "cannot run {}: {}", arguments[0], std::strerror(problem));
  if (!in_time) end_program(pid, group);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) return std::unexpected(timeout.error());
  ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
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
