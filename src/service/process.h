// A child process under supervision: its output line by line, its end at once, and no way to outlive us (H-32 to H-34).
//
// A thread of its own starts the child, reads what it writes and reaps it: the signal that a child gets when its parent
// dies is bound to the thread that started it. To start one may take long (the program's file is read, and the kernel
// may hold up whoever makes processes), so it blocks, and is no work for the event loop. Callbacks come on the loop's
// thread, none after the Process is destroyed. Its destructor kills and does not wait. What a child of the child writes
// after the child's end is not seen.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/descriptor.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "service/timeout.h"

namespace llorch::service {

struct ProcessOptions {
  std::vector<std::string> arguments;                            // the first is the program's path
  std::vector<std::pair<std::string, std::string>> environment;  // besides ours; empty: taken away
  std::string log_file;                                          // gets its output; empty: none
  int death_signal = 9;                                          // what it gets when we die; 0: nothing
  bool with_stderr = true;                                       // else its stderr is thrown away
};

class Process {
 public:
  using OnLine = std::function<void(const std::string& line)>;
  using OnExit = std::function<void(int exit_code)>;  // 128 + signal when killed by one
  /// Blocks until the program runs: not on the event loop (see in_background). Errors: kIo, kInsufficientMemory.
  [[nodiscard]] static Result<std::unique_ptr<Process>> start(ProcessOptions options);
  /// Once, on the loop's thread: from now on its output is read and its end noticed, those since its start included.
  /// What is never listened to is stopped by a full pipe.
  void listen(net::EventLoop& loop, OnLine on_line, OnExit on_exit);
  /// On the loop's thread, where it is listened to.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] bool running() const { return !shared_->ended; }
  void signal(int number) const;

 private:
  /// Of the loop's side and of the thread that starts, reads and reaps, which lives as long as the child.
  struct Shared : std::enable_shared_from_this<Shared> {
    void post(std::function<void(const Shared&)> task);
    void post_exit(int code) noexcept;
    std::atomic<int> begun = 0;     // 1: it was started, or could not be; no lock: see net::EventLoop::Poster
    std::atomic<int> followed = 0;  // 1: it is listened to, or the Process is gone
    std::atomic<bool> ended = false, gone = false;  // gone: the Process
    int pid = -1, descriptor = -1, problem = 0;     // once it has begun
    std::optional<net::EventLoop::Poster> poster;   // of who listens
    OnLine on_line;                                 // the loop's
    OnExit on_exit;
  };
  struct Plan;  // what a process is made of
  Process(int pid, int descriptor, std::shared_ptr<Shared> shared)
      : pid_(pid), descriptor_(descriptor), shared_(std::move(shared)) {}
  static void run(Plan& plan, const std::shared_ptr<Shared>& shared);
  static void follow(const Plan& plan, const std::shared_ptr<Shared>& shared);

  int pid_, descriptor_;
  std::shared_ptr<Shared> shared_;
};

/// Starts a program that lives on without us, in a session of its own. Returns its pid. Blocks, as Process::start().
[[nodiscard]] Result<int> start_detached(const ProcessOptions& options);
struct Ran {
  int exit_code = 0;   // 128 + signal when killed by one
  std::string output;  // what it wrote to stdout, at most 1 MiB
};
enum class Stderr { kOurs, kNone, kJoined };  // kJoined: in the output
/// Runs a program to its end. `input`: a descriptor that becomes its stdin; -1: nothing. Its stderr is ours (where that
/// is a terminal, what it writes is cleaned on its way), thrown away, or joined to its output. The program is looked up
/// in PATH, and killed when this process ends, however that comes. Blocks.
/// Errors: kIo when it cannot be run; kOperationTimeout when it took too long: it has been ended then (SIGTERM, a
/// second later SIGKILL), with what a shell of ours (`group`) has started; kCancelled, the same, when it was called
/// off.
[[nodiscard]] Result<Ran> run_program(std::vector<std::string> arguments, int input = -1, Stderr err = Stderr::kOurs,
                                      const Timeout& timeout = {}, bool group = false);
/// The path of a program in PATH; empty when it is not there.
[[nodiscard]] std::string find_program(const std::string& name);
/// This machine's name, of A-Z a-z 0-9 _ - only: what its hive is called.
[[nodiscard]] std::string host_name();
/// The folder of the program that runs now.
[[nodiscard]] std::string own_folder();

}  // namespace llorch::service
