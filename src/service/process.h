// A child process under supervision: its output line by line, its end at once, and no way to outlive us (H-32 to H-34).
//
// Callbacks come on the event loop's thread, none after the Process is destroyed. Its destructor kills and reaps.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"
#include "service/timeout.h"

namespace llorch::service {

struct ProcessOptions {
  std::vector<std::string> arguments;                            // the first is the program's path
  std::vector<std::pair<std::string, std::string>> environment;  // besides ours; empty: taken away
  std::string log_file;                                          // gets its output; empty: none
  int death_signal = 9;                                          // what it gets when we die; 0: nothing
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
  struct Shared {
    std::atomic<bool> ended = false;
    OnLine on_line;
    OnExit on_exit;
  };
  Process(int pid, int descriptor, std::shared_ptr<Shared> shared)
      : pid_(pid), descriptor_(descriptor), shared_(std::move(shared)) {}
  void watch(net::EventLoop& loop, int output, int log);

  int pid_, descriptor_;
  std::shared_ptr<Shared> shared_;
  std::thread watcher_;
};

/// Starts a program that lives on without us, in a session of its own. Returns its pid.
[[nodiscard]] Result<int> start_detached(const ProcessOptions& options);
struct Ran {
  int exit_code = 0;   // 128 + signal when killed by one
  std::string output;  // what it wrote to stdout, at most 1 MiB
};
enum class Stderr { kOurs, kNone };
/// Runs a program to its end. `input`: a descriptor that becomes its stdin; -1: nothing. Its stderr is ours, or thrown
/// away. The program is looked up in PATH. Blocks. Errors: kIo when it cannot be run; kOperationTimeout when it took too
/// long: it has been ended then (SIGTERM, a second later SIGKILL), with what a shell of ours (`group`) has started.
[[nodiscard]] Result<Ran> run_program(std::vector<std::string> arguments, int input = -1, Stderr err = Stderr::kOurs,
                                      const Timeout& timeout = {}, bool group = false);
/// This machine's name, of A-Z a-z 0-9 _ - only: what its hive is called.
[[nodiscard]] std::string host_name();
/// The folder of the program that runs now.
[[nodiscard]] std::string own_folder();

}  // namespace llorch::service
