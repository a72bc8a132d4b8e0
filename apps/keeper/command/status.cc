// status, top: queen, hives, devices, workers, queue. doctor: every part, checked.
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <sstream>

#include "base/status_line.h"
#include "format/json.h"
#include "gpu/diagnosis.h"
#include "keeper/asking.h"
#include "keeper/gpu_trial.h"
#include "keeper/hints.h"
#include "keeper/parts.h"
#include "keeper/status_view.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

/// Each line in place of the one that was there before.
void show_screen(const std::string& text) {
  constexpr const char *kRestOfLine = "\033[K", *kRestOfScreen = "\033[J";
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    show_text(stdout, line);
    std::fprintf(stdout, "%s\n", kRestOfLine);
  }
  std::fputs(kRestOfScreen, stdout);
}

/// Keys as they are typed, without echo, for as long as the one object of this lives. Ctrl-C ends the program with 130
/// at any time, also while nobody waits for a key; by that and every other key of the terminal it is as it was before.
class TypedKeys {
 public:
  TypedKeys() {
    typed_ = changed_ = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &before_) == 0;
    typing_ = before_;
    typing_.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    for (const int number : kSignals) {
      struct sigaction now {};
      if (sigaction(number, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) obey(number);
    }
    if (changed_) (void)tcsetattr(STDIN_FILENO, TCSANOW, &typing_);
  }
  ~TypedKeys() {
    give_back();
    for (const int number : kSignals) {
      struct sigaction now {};
      if (sigaction(number, nullptr, &now) == 0 && now.sa_handler == on_signal) (void)std::signal(number, SIG_DFL);
    }
  }
  TypedKeys(const TypedKeys&) = delete;
  TypedKeys& operator=(const TypedKeys&) = delete;

  /// The key that is typed within this time; nothing: none.
  [[nodiscard]] std::optional<char> wait(std::chrono::milliseconds time) {
    if (!typed_) return Session::pause(time), std::nullopt;
    pollfd input{STDIN_FILENO, POLLIN, 0};
    char key = 0;
    if (poll(&input, 1, static_cast<int>(time.count())) <= 0) return std::nullopt;
    if (read(STDIN_FILENO, &key, 1) == 1) return key;
    typed_ = false;  // nobody types any more
    return std::nullopt;
  }

 private:
  static constexpr std::array kSignals{SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

  static void obey(int number) {
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | SA_NODEFER;  // on_signal() raises it again
    (void)sigaction(number, &action, nullptr);
  }
  static void give_back() {
    if (changed_) (void)tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  /// Calls what a signal's handler may call, and nothing else.
  static void on_signal(int number) {
    const int kept = errno;
    give_back();
    if (number == SIGINT) _exit(130);
    (void)std::signal(number, SIG_DFL);
    (void)raise(number);
    obey(number);  // it was only stopped
    if (changed_) (void)tcsetattr(STDIN_FILENO, TCSANOW, &typing_);
    errno = kept;
  }

  static inline termios before_{}, typing_{};
  static inline bool changed_ = false;
  bool typed_ = false;
};

/// Until it is time for another look. True: a key says that this was the last one.
bool wait_for_look(TypedKeys& keys, std::chrono::seconds time) {
  for (const auto end = net::Clock::now() + time; net::Clock::now() < end;) {
    const auto key = keys.wait(std::chrono::duration_cast<std::chrono::milliseconds>(end - net::Clock::now()) +
                               std::chrono::milliseconds(1));
    if (key == 'q' || key == 'Q') return true;
  }
  return false;
}

/// Once, and where a terminal is wanted to stay current again and again.
int status(const Common& common, std::optional<int> interval_s) {
  Session session(common);
  std::optional<TypedKeys> keys;
  if (interval_s && !common.json) keys.emplace();
  for (bool first = true;; first = false) {
    const auto awake = session.awake();
    if (!awake) return complain(common, awake.error());
    if (!*awake) {
      if (common.json)
        cli::print({{"queen", "asleep"}, {"url", session.queen()}});
      else
        show(stdout, "queen at %s: %s\n", session.queen().c_str(), silent_word(session.queen()));
      return 0;
    }
    const auto v = session.call("GET", "/v1/status");
    if (!v) return complain(common, v.error());
    constexpr const char *kHome = "\033[H", *kClear = "\033[2J\033[H";
    if (interval_s && !common.json) std::fputs(first ? kClear : kHome, stdout);
    if (common.json)
      cli::print(*v);
    else if (interval_s)
      show_screen(status_text(*v, columns_of_terminal(stdout)) + "q leaves\n");
    else
      show_text(stdout, status_text(*v, columns_of_terminal(stdout)));
    std::fflush(stdout);
    if (!interval_s) return 0;
    const std::chrono::seconds interval(*interval_s);
    if (keys && wait_for_look(*keys, interval)) return 0;
    if (!keys) Session::pause(interval);
  }
}

int check_all(const Common& common, const gpu::MachineFacts& machine) {
  int bad = 0;
  boost::json::array checks;
  const auto told = [&](const std::string& what, bool ok, const std::string& detail) {
    bad += !ok;
    checks.push_back({{"check", what}, {"ok", ok}, {"detail", detail}});
    if (!common.json) show(stdout, "%s  %-34s %s\n", ok ? "ok " : "BAD", what.c_str(), detail.c_str());
    std::fflush(stdout);
  };
  for (const char* program : {"llorch-queen", "llorch-hive", "llorch-worker-cpu"}) {
    const std::string path = service::own_folder() + "/" + program;
    told(program, access(path.c_str(), X_OK) == 0, path);
  }
  for (const gpu::Finding& f : gpu::diagnose(machine)) told(f.what, f.good, f.detail);
  for (const gpu::Gpu& g : machine.reading.gpus) {
    if (machine.worker_flaw || !gpu::problem_of(g, machine.reading.driver, machine.reading.cuda_version).empty())
      continue;
    const auto tried = try_gpu(machine.worker, g.index);
    told(fmt::format("a token of cuda:{}", g.index), tried.has_value(), tried ? *tried : tried.error().message);
  }
  std::error_code problem;
  std::filesystem::create_directories(common.data_dir, problem);
  told("data directory", access(common.data_dir.c_str(), W_OK) == 0, common.data_dir);
  Common quiet = common;
  quiet.quiet = true, quiet.json = false;
  Session session(quiet);
  const Status woken = session.wake();
  told("queen", woken.has_value(),
       woken ? (session.started_queen() ? "started for this check" : "was awake") : woken.error().message);
  if (woken) {
    std::vector<std::string> actors;
    boost::json::object order{{"operation", "infer"},
                              {"model", "builtin:haiku"},
                              {"prompt", "Write a haiku about health"},
                              {"max_tokens", 40}};
    const auto outcome = session.run(order, [&](std::string_view type, const boost::json::object& data) {
      if (type != "narration") return;
      const std::string by = json::find_text(data, "emitted_by").value_or("");
      if (std::ranges::find(actors, by) == actors.end()) actors.push_back(by);
    });
    told("a model answers", outcome.has_value() && !outcome->text.empty(),
         outcome ? outcome->text.substr(0, outcome->text.find('\n')) + " ..."
                 : outcome.error().message + ": " + hint_for(common, outcome.error()));
    const auto has = [&](const char* who) { return std::ranges::find(actors, who) != actors.end(); };
    told("narration of queen and worker", has("queen") && has("worker"),
         fmt::format("{} daemons were heard", actors.size()));
    const auto v = session.call("GET", "/v1/status");
    told("devices", v && !list(*v, "hives").empty() && !list(list(*v, "hives")[0], "devices").empty(),
         v ? fmt::format("{} hives online", list(*v, "hives").size()) : v.error().message);
  }
  if (common.json) cli::print({{"ok", bad == 0}, {"checks", std::move(checks)}});
  return bad == 0 ? 0 : 1;
}

int doctor(const Common& common) {
  const gpu::MachineFacts machine = gpu::look(service::own_folder() + "/llorch-worker-cuda");
  const int code = check_all(common, machine);
  if (machine.silent) {  // a thread hangs in the driver's library, whose destructors may wait for it
    std::fflush(nullptr);
    std::_Exit(code);
  }
  return code;
}

}  // namespace

void add_command_status(CLI::App& app, int& exit_code) {
  const auto add = [&](const char* name, const char* help, const std::function<int(const Common&)>& work) {
    const auto common = std::make_shared<Common>();
    CLI::App* c = app.add_subcommand(name, help);
    common->add(*c);
    c->callback([common, work, &exit_code] { exit_code = work(*common); });
    return c;
  };
  add("status", "queen, hives, devices, workers and queue",
      [](const Common& common) { return status(common, std::nullopt); });
  const auto interval = std::make_shared<int>(2);
  const bool watched = can_move_cursor(stdout);
  add("top", "the same, kept current on a terminal until q",
      [interval, watched](const Common& common) {
        return status(common, watched || common.json ? std::optional(*interval) : std::nullopt);
      })
      ->add_option("--interval", *interval, "seconds between two looks")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  add("doctor", "check programs, GPUs, queen, hive, worker and narration", doctor);
}

}  // namespace llorch::keeper
