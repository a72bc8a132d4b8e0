// What every keeper command needs: where the queen is, waking her, calls, and following a job to its end.
//
// Blocking; one thread. Errors carry the code that the daemon gave; kIo when nobody answers.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <functional>
#include <string>

#include "base/result.h"
#include "base/use_lock.h"
#include "command_line.h"
#include "net/http_client.h"
#include "service/process.h"

namespace llorch::keeper {

/// The queen of this machine, where nothing says at which port she listens.
inline constexpr std::string_view kOwnQueen = "http://127.0.0.1:8500";

/// What --direct asks without an address, where this machine's hive has left none in its data directory.
inline constexpr std::string_view kOwnHive = "http://127.0.0.1:8600";

struct Common {
  std::string queen{kOwnQueen}, direct, token_file, ca_file, correlation_id, queen_program, data_dir;
  std::vector<std::string> queen_flags;  // for a queen that is started here
  bool json = false, quiet = false, no_autostart = false;
  bool insecure_http = false;  // keys go over plain HTTP to other machines, too
  std::string narration = "human";
  int timeout_s = 30;  // without one byte
  const CLI::Option* queen_option = nullptr;
  bool own_queen_only = false;  // a command about this machine's own queen

  void add(CLI::App& app);
  /// --queen, LLORCH_QUEEN_URL or the configuration says which queen.
  [[nodiscard]] bool queen_given() const { return queen_option && queen_option->count() > 0; }
  /// The queen of this machine, at the port that the configuration gives her, else wherever her data directory says
  /// that she listens.
  [[nodiscard]] std::string own_queen() const;
  /// The queen of the colony that this machine has joined, where commands are for her; empty: they are not.
  [[nodiscard]] std::string colony() const;
  /// Whoever is asked runs on this machine, so that its files are hers.
  [[nodiscard]] bool of_this_machine() const;
  /// A request to whoever is asked, by whose certificate it may be known. Errors: kInvalidRequest for addresses and
  /// roots that are none, and for plain HTTP to another machine.
  [[nodiscard]] Result<net::ClientRequest> request(std::string_view path) const;
  /// Who is asked: the queen, or with --direct a hive.
  [[nodiscard]] const std::string& address() const { return direct.empty() ? queen : direct; }
  /// What this machine knows of the colony that it has joined: where nothing else was given, it is asked there.
  void adopt_membership();
  /// The root that https is checked by; empty: those of the system. Errors: kInvalidRequest naming the file.
  [[nodiscard]] Result<std::string> root_certificate() const;

 private:
  bool direct_is_own_ = false;  // --direct without an address
  std::string direct_name_;     // the certificate's name of this machine's hive, where that one is asked itself
  net::TlsPair direct_own_;
};

/// Of the section [queen] of the configuration: her port and her data directory are those of a queen that a command
/// looks for or starts. Throws CLI::ValidationError for a port that is none. See cli::ConfigTarget.
void take_queen_settings(CLI::App& command, const std::string& section, const std::string& key,
                         const std::string& value);

/// Whether somebody answers at http://... who was asked by https://..., or the other way round. No key is shown.
[[nodiscard]] bool speaks_other_scheme(const std::string& address);

/// How a job ended.
struct Outcome {
  boost::json::value result;
  boost::json::object end;
  std::string text;  // of the answer, without thoughts
  bool interrupted = false;
};

using OnEvent = std::function<void(std::string_view type, const boost::json::object& data)>;

class Session {
 public:
  explicit Session(const Common& common);
  /// Waits for the end of a queen that ends with her last user, where this session was that.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// The queen answers, or is started and answers: as she was started last, where she served other machines then.
  /// One that is started here ends with the last command that uses her, however that ends, until keep_queen().
  [[nodiscard]] Status wake();
  /// The same, without a word where she answers.
  [[nodiscard]] Status wake_if_asleep();
  /// She stays, whoever has started her. Errors: of the answer.
  [[nodiscard]] Status keep_queen();
  /// Looks for the queen: by --queen; for this machine's own, also at the address in her data directory, and over TLS.
  /// Errors: kHostNotAllowed of a queen who does not know herself by this name; kInvalidRequest for a token, root or
  /// address that cannot be used, and for a certificate that is not believed; kIo where another server answers.
  [[nodiscard]] Result<bool> awake();
  /// Where she was found, or is to be started.
  [[nodiscard]] const std::string& queen() const { return common_.queen; }
  /// Between two tries: nothing tells us when the other side is ready.
  static void pause(std::chrono::milliseconds time);
  /// Looks for her first. Errors: of the answer; kIo where nobody answers. Retries what may be retried (K-06).
  [[nodiscard]] Result<boost::json::value> call(const std::string& method, const std::string& path,
                                                const boost::json::value& body = nullptr);
  /// Makes a job and follows it by the address that it was given. Ctrl-C cancels it.
  [[nodiscard]] Result<Outcome> run(const boost::json::object& order, const OnEvent& on_event);
  /// A chat completion of the queen's, as events of a job: `token`, `call` {id, name, arguments}, `end`. Ctrl-C leaves
  /// it, which cancels it. Errors: of the answer; kIo where it breaks off.
  [[nodiscard]] Result<Outcome> chat(const boost::json::object& body, const OnEvent& on_event);
  /// To the person, on stderr, unless quiet.
  void say(const std::string& line) const;
  /// The same of what is going on: on a terminal, whatever comes next replaces it.
  void step(const std::string& line) const;
  [[nodiscard]] bool started_queen() const { return queen_pid_ > 0; }

 private:
  /// This session uses her no more: where nobody does, waits for her end, and with it that of all she has started.
  void leave_queen();
  /// This session is one of her users; a queen that is about to end is waited for. Nothing where this machine has no
  /// folder of a queen's. Errors: kOperationTimeout; kIo of its lock.
  [[nodiscard]] Status use_queen();
  /// She answers: is she of a version that can be used, and how does she end? Errors: kVersionMismatch.
  [[nodiscard]] Status meet_queen();
  /// By this session, unless another command does: then she is waited for.
  [[nodiscard]] Status start_queen();
  [[nodiscard]] Status start_queen_alone();

  struct Answer {
    int status = 0;
    std::string body, retry_after;
  };
  [[nodiscard]] Result<Answer> once(const std::string& method, const std::string& path, const std::string& body,
                                    int idle_s, std::chrono::seconds total = {});
  /// Before another try, where the answer asks for one (K-06); false: this was the last.
  [[nodiscard]] bool wait_to_retry(int status, const std::string& retry_after, const Error& error, int attempt) const;
  /// How the reading of a stream ended.
  struct Followed {
    int status = 0;  // 0: nobody answered
    std::string retry_after;
    bool interrupted = false;
    Status whole;
  };
  using OnInterrupt = std::function<net::Call(net::EventLoop&)>;
  /// Reads a stream to its end. `on_interrupt`: what the first Ctrl-C starts instead of ending it. It is
  /// given up after so much silence as --timeout says, but `silence_min` at least.
  [[nodiscard]] Followed follow(net::ClientRequest request, const OnEvent& on_event, const OnInterrupt& on_interrupt,
                                std::chrono::seconds silence_min);
  /// Errors: kVersionMismatch.
  [[nodiscard]] Status check_version();
  [[nodiscard]] Result<bool> answers();
  /// How a queen is started here. Errors: kInvalidRequest where she served other machines and it is not known how.
  [[nodiscard]] Result<service::ProcessOptions> queen_invocation();
  /// Waits until she answers; `log_start`: where her part of the log begins. Errors: kIo when she has ended;
  /// kOperationTimeout.
  [[nodiscard]] Status wait_for_queen(int pid, const std::string& log_file, std::uintmax_t log_start);
  /// Where she may be, the likeliest first.
  [[nodiscard]] std::vector<std::string> places() const;
  /// awake(), once. Errors: kIo where nobody answers.
  [[nodiscard]] Status find();
  Common common_;      // its queen is the one that was found
  std::string asked_;  // --queen
  std::string token_;
  Status token_read_;
  bool found_ = false, foreign_ = false;  // foreign_: another server was met
  int queen_pid_ = 0;                     // of a queen that is our child
  std::optional<UseLock> uses_;           // of this machine's queen
  bool ends_when_unused_ = false;         // the queen that was found
};

/// Prints an error with its code and one suggestion, as K-05 asks; `hint`: in place of the one for the code. Returns
/// the exit code.
[[nodiscard]] int complain(const Common& common, const Error& error, std::string_view hint = {});
/// A line of narration: on a terminal it is the status line, unless every step is wanted.
void show_step(const Common& common, const std::string& line);
/// Narration to stderr; with --json every event as a line on stdout.
[[nodiscard]] OnEvent printer(const Common& common);
/// Runs an operation that gives a result, and prints it with `print` (or as JSON).
[[nodiscard]] int operate(const Common& common, const boost::json::object& order,
                          const std::function<void(const boost::json::value&)>& print);

}  // namespace llorch::keeper
