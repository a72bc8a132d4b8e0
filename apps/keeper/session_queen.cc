// The queen of this machine, as far as a session starts and ends her.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <memory>
#include <sstream>

#include "address_file.h"
#include "base/open_file.h"
#include "base/state_lock.h"
#include "daemon_flags.h"
#include "keeper/session.h"
#include "queen_start.h"
#include "security/auth.h"
#include "service/last_words.h"
#include "service/process.h"

namespace llorch::keeper {

using std::chrono::milliseconds;

namespace {

/// The user's configuration file, made once with every default, commented out (K-07).
void make_config(const std::string& queen_program) {
  const std::string folder = cli::config_directory(), file = folder + "/config.toml";
  if (access(file.c_str(), F_OK) == 0 || !cli::make_private_directory(folder)) return;
  std::string text =
      "# Configuration of llama-orch. A flag comes before an environment variable, that before this file.\n"
      "# A line without its # counts; [queen.queue] capacity = 5 is the same as [queen] queue-capacity = 5.\n";
  const std::string folder_of_programs = queen_program.substr(0, queen_program.rfind('/') + 1);
  for (const std::vector<std::string>& command : {std::vector<std::string>{queen_program, "--print-config"},
                                                  {folder_of_programs + "llorch-hive", "--print-config"},
                                                  {folder_of_programs + "llorch-worker-cpu", "serve", "--print-config"},
                                                  {folder_of_programs + "llorch", "status", "--print-config"}}) {
    const auto ran = service::run_program(command, -1, service::Stderr::kNone);
    if (ran && ran->exit_code == 0) text += "\n" + ran->output;
  }
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return;
  (void)!write(fd, text.data(), text.size());
  close(fd);
}

}  // namespace

/// Why a daemon that has ended did so, by what its log has from `begin` on.
static std::string last_words(const std::string& log_file, std::uintmax_t begin) {
  constexpr std::size_t kLogBytesMax = 64u << 20;
  const auto text = read_text_file(log_file, kLogBytesMax);
  std::istringstream lines(text && text->size() > begin ? text->substr(begin) : "");
  service::LastWords words;
  for (std::string line; std::getline(lines, line);) words.take(line);
  return words.text();
}

static std::uintmax_t size_of(const std::string& file) {
  std::error_code problem;
  const auto size = std::filesystem::file_size(file, problem);
  return problem ? 0 : size;
}

Status Session::use_queen() {
  if (!common_.of_this_machine()) return {};
  if (!uses_) {
    auto lock = UseLock::open(queen_uses_file(common_.data_dir));
    if (!lock) return {};
    uses_.emplace(*std::move(lock));
  }
  const service::Timeout end{"the end of a queen that is not used any more", service::timeouts::kStop};
  for (const auto until = net::Clock::now() + end.time;; pause(milliseconds(20))) {
    LLORCH_TRY(const bool used, uses_->use());
    if (used) return {};
    if (net::Clock::now() >= until) return std::unexpected(end.error().in(common_.data_dir));
  }
}

Status Session::wake() {
  if (!common_.direct.empty()) {
    LLORCH_TRY(const bool answering, awake());
    if (!answering) return fail(ErrorCode::kIo, "the hive at {} does not answer", common_.direct);
    return check_version();
  }
  LLORCH_OK(use_queen());
  LLORCH_TRY(const bool there, awake());
  if (there) return meet_queen();
  LLORCH_TRY(const net::Url url, net::parse_url(common_.queen));
  if (common_.no_autostart || !security::is_loopback(url.host)) return find();
  step(fmt::format("the queen at {} is asleep", common_.queen));
  LLORCH_OK(cli::make_private_directory(common_.data_dir));
  make_config(common_.queen_program);
  LLORCH_OK(use_queen());  // there is a folder now
  if (!uses_) return fail(ErrorCode::kIo, "cannot write {}", queen_uses_file(common_.data_dir));
  return start_queen();
}

Status Session::wake_if_asleep() {
  LLORCH_TRY(const bool there, awake());
  return there ? Status() : wake();
}

Status Session::meet_queen() {
  LLORCH_OK(check_version());
  step(fmt::format("the queen at {} is awake", common_.queen));
  return {};
}

Status Session::start_queen() {
  const service::Timeout start{"the queen's start by another command", service::timeouts::kStart};
  for (const auto until = net::Clock::now() + start.time;; pause(milliseconds(50))) {
    LLORCH_TRY(const bool begun, uses_->begin_start());
    if (begun) break;
    LLORCH_TRY(const bool there, awake());
    if (there) return meet_queen();
    if (net::Clock::now() >= until) return std::unexpected(start.error());
  }
  const std::unique_ptr<UseLock, decltype([](UseLock* lock) { lock->end_start(); })> ends(&*uses_);
  LLORCH_TRY(const bool there, awake());  // another command has just done it
  return there ? meet_queen() : start_queen_alone();
}

Status Session::start_queen_alone() {
  if (queen_pid_ > 0) (void)waitpid(queen_pid_, nullptr, WNOHANG);  // one that has ended meanwhile
  LLORCH_TRY(service::ProcessOptions o, queen_invocation());
  o.arguments.emplace_back(kWhileUsed);
  o.death_signal = 0;
  const auto log_start = size_of(o.log_file);
  LLORCH_TRY(const int pid, service::start_detached(o));
  queen_pid_ = pid, ends_when_unused_ = true;
  step("starting the queen");
  return wait_for_queen(pid, o.log_file, log_start);
}

Status Session::keep_queen() {
  if (!ends_when_unused_) return {};
  LLORCH_OK(call("POST", "/v1/stay"));
  ends_when_unused_ = false;
  return {};
}

/// Whether flags for the queen say where she listens.
static bool says_where(const std::vector<std::string>& flags) {
  return std::ranges::any_of(flags, [](const std::string& flag) {
    return flag.starts_with("--listen") || flag.starts_with("--bind") || flag.starts_with("--local-mode") ||
           flag.starts_with("--mode");
  });
}

Result<service::ProcessOptions> Session::queen_invocation() {
  service::ProcessOptions o;
  o.log_file = common_.data_dir + "/queen.log";
  LLORCH_TRY(const net::Url url, net::parse_url(common_.queen));
  const auto last = read_queen_start(common_.data_dir);
  constexpr std::string_view kOnlyHere =
      "for a queen of this machine alone, `llorch queen start --queen-flag=--listen=127.0.0.1`";
  if (!says_where(common_.queen_flags)) {
    if (!last && access((common_.data_dir + "/ca/issuer.pem").c_str(), F_OK) == 0)
      return fail(ErrorCode::kInvalidRequest,
                  "the queen of {} has served other machines, and how she was started is not known: start her as then "
                  "(llorch-queen --listen ...); {}",
                  common_.data_dir, kOnlyHere);
    if (last && last->for_network) {
      if (asked_ != common_.own_queen() && url.port != last->port)
        return fail(ErrorCode::kInvalidRequest,
                    "the queen of {} serves other machines, on port {}, and does not run: `llorch queen start` starts "
                    "her as she was; {}",
                    common_.data_dir, last->port, kOnlyHere);
      say(fmt::format("she served other machines: she starts as she was started last ({})",
                      queen_start_file(common_.data_dir)));
      o.arguments = {"/bin/sh", "-c", R"(cd "$0" && exec "$@")", last->directory, common_.queen_program};
      o.arguments.insert(o.arguments.end(), last->arguments.begin(), last->arguments.end());
      o.arguments.insert(o.arguments.end(), common_.queen_flags.begin(), common_.queen_flags.end());
      for (const auto& [name, value] : last->environment)
        if (cli::variable(name.c_str()).empty()) o.environment.emplace_back(name, value);
      return o;
    }
  }
  o.arguments = {common_.queen_program, "--port", std::to_string(url.port), "--data-dir", common_.data_dir,
                 "--log-format",        "json"};
  if (url.tls) o.arguments.emplace_back("--tls");
  if (token_.empty()) o.arguments.emplace_back("--local-mode");
  if (!token_.empty() && !common_.token_file.empty())
    o.arguments.insert(o.arguments.end(), {"--token-file", common_.token_file});
  if (!token_.empty()) o.arguments.insert(o.arguments.end(), {"--keys-file", cli::default_keys_file()});
  o.arguments.insert(o.arguments.end(), common_.queen_flags.begin(), common_.queen_flags.end());
  return o;
}

Status Session::wait_for_queen(int pid, const std::string& log_file, std::uintmax_t log_start) {
  auto wait = milliseconds(20);
  const service::Timeout start{"the queen's start", service::timeouts::kStart};
  for (const auto end = net::Clock::now() + start.time; net::Clock::now() < end;) {
    LLORCH_TRY(const bool answering, awake());
    if (answering) {
      step(common_.queen == asked_ ? "the queen is awake" : fmt::format("the queen is awake, at {}", common_.queen));
      return {};
    }
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == pid) {
      queen_pid_ = 0, ends_when_unused_ = false;
      return fail(ErrorCode::kIo, "the queen ended with {} while starting: {} (her log: {})",
                  WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), last_words(log_file, log_start),
                  log_file);
    }
    pause(wait);
    wait = std::min(wait * 3 / 2, milliseconds(5000));
  }
  return std::unexpected(start.error().in(log_file));
}

/// Whether who answers at `address` is the queen of this folder, and not one of another folder or user.
static bool is_queen_of(const std::string& data_dir, const std::string& address) {
  constexpr std::size_t kUrlBytesMax = 1u << 10;
  const auto kept = read_text_file(queen_address_file(data_dir), kUrlBytesMax);
  const auto own = net::parse_url(kept.value_or("")), asked = net::parse_url(address);
  return own && asked && own->port == asked->port && StateLock::is_held(data_dir);
}

void Session::leave_queen() {
  const int pid = std::exchange(queen_pid_, 0);
  if (ends_when_unused_) (void)check_version();  // another command may have made her stay
  const bool waits = std::exchange(ends_when_unused_, false) && uses_ &&
                     (pid > 0 || is_queen_of(common_.data_dir, common_.queen));  // asked before she may end
  if (uses_) uses_->leave();
  if (!waits) return;
  const auto used = [&] {
    if (!uses_->has_other_users()) return false;
    if (pid > 0) step("the queen stays awake for another command");
    return true;
  };
  if (used()) return;
  step("putting the queen to sleep, with all that she has started");
  const auto gone = [&](milliseconds time) {
    for (const auto until = net::Clock::now() + time; net::Clock::now() < until; pause(milliseconds(10)))
      if (pid > 0 ? waitpid(pid, nullptr, WNOHANG) != 0 : !StateLock::is_held(common_.data_dir)) return true;
    return false;
  };
  bool ended = false;
  for (const auto until = net::Clock::now() + service::timeouts::kShutdown; !ended && net::Clock::now() < until;) {
    if (used()) return;
    ended = gone(milliseconds(100));
  }
  for (const int number : {SIGTERM, SIGKILL})
    if (!ended && pid > 0) {
      kill(pid, number);
      ended = gone(milliseconds(5000));
      if (number == SIGKILL) return step("the queen had to be killed");
    }
  step(ended ? "everything that was started is gone" : "the queen does not end: `llorch queen stop`");
}

}  // namespace llorch::keeper
