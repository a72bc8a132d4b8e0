// A child process under supervision: its output line by line, its end at once, and no way to outlive us (H-32 to H-34).
//
// Callbacks come on the event loop's thread, none after the Process is destroyed. Its destructor kills and does not
// wait: a thread of its own reaps the child. What a child of the child writes after the child's end is not seen.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
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
  [[nodiscard]] static Result<std::unique_ptr<Process>> start(net::EventLoop& loop, ProcessOptions options,
                                                              OnLine on_line, OnExit on_exit);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] bool running() const { return !shared_->ended; }
  void signal(int number) const;

 private:
  /// Of the loop's side and of the thread that reads and reaps, which lives as long as the child.
  struct Shared : std::enable_shared_from_this<Shared> {
    void post(std::function<void(const Shared&)> task);
    void post_exit(int code) noexcept;
    std::mutex mutex;
    net::EventLoop* loop = nullptr;  // null once the Process is gone; under the mutex
    std::atomic<bool> ended = false;
    OnLine on_line;  // the loop's
    OnExit on_exit;
  };
  Process(int pid, int descriptor, std::shared_ptr<Shared> shared)
      : pid_(pid), descriptor_(descriptor), shared_(std::move(shared)) {}
  /// What the reading thread has of its process.
  struct Watched {
    Descriptor output, exit;  // exit: its pidfd, or none
    std::string log_file;
    int pid;
  };
  static void follow(const Watched& watched, const std::shared_ptr<Shared>& shared);
  [[nodiscard]] Status watch(Descriptor output, const std::string& log_file);

  int pid_, descriptor_;
  std::shared_ptr<Shared> shared_;
};

/// Starts a program that lives on without us, in a session of its own. Returns its pid.
[[nodiscard]] Result<int> start_detached(const ProcessOptions& options);
struct Ran {
  int exit_code = 0;   // 128 + signal when killed by one
  std::string output;  // what it wrote to stdout, at most 1 MiB
};
enum class Stderr { kOurs, kNone };
/// Runs a program to its end. `input`: a descriptor that becomes its stdin; -1: nothing. Its stderr is ours (where that
/// is a terminal, what it writes is cleaned on its way), or thrown away. The program is looked up in PATH. Blocks.
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
