// What every keeper command needs: where the queen is, waking her, calls, and following a job to its end.
//
// Blocking; one thread. Errors carry the code that the daemon gave; kIo when nobody answers.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <functional>
#include <string>

#include "base/result.h"
#include "command_line.h"
#include "net/http_client.h"

namespace llorch::keeper {

struct Common {
  std::string queen = "http://127.0.0.1:8500", direct, token_file, ca_file, correlation_id, queen_program, data_dir;
  std::vector<std::string> queen_flags;  // for a queen that is started here
  bool json = false, quiet = false, no_autostart = false;
  bool insecure_http = false;  // keys go over plain HTTP to other machines, too
  std::string narration = "human";
  int timeout_s = 30;  // without one byte

  void add(CLI::App& app);
  /// A request to whoever is asked, by whose certificate it may be known. Errors: kInvalidRequest for addresses and
  /// roots that are none, and for plain HTTP to another machine.
  [[nodiscard]] Result<net::ClientRequest> request(std::string_view path) const;
  /// Who is asked: the queen, or with --direct a hive.
  [[nodiscard]] const std::string& address() const { return direct.empty() ? queen : direct; }
};

/// How a job ended.
struct Outcome {
  boost::json::value result;
  boost::json::object end;
  std::string text;  // of token events
  bool interrupted = false;
};

using OnEvent = std::function<void(std::string_view type, const boost::json::object& data)>;

class Session {
 public:
  explicit Session(const Common& common);
  /// Puts a queen that this session has started to sleep again.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// The queen answers, or is started and answers. `stay`: she outlives this session.
  [[nodiscard]] Status wake(bool stay = false);
  /// Errors: kHostNotAllowed of a queen who does not know herself by this name; those of Common::request.
  [[nodiscard]] Result<bool> awake();
  /// Between two tries: nothing tells us when the other side is ready.
  static void pause(std::chrono::milliseconds time);
  /// Errors: of the answer; retries what may be retried (K-06).
  [[nodiscard]] Result<boost::json::value> call(const std::string& method, const std::string& path,
                                                const boost::json::value& body = nullptr);
  /// Makes a job and follows it by the address that it was given. Ctrl-C cancels it.
  [[nodiscard]] Result<Outcome> run(const boost::json::object& order, const OnEvent& on_event);
  /// To the person, on stderr, unless quiet.
  void say(const std::string& line) const;
  [[nodiscard]] bool started_queen() const { return queen_pid_ > 0; }
  void retire_queen();

 private:
  struct Answer {
    int status = 0;
    std::string body, retry_after;
  };
  [[nodiscard]] Result<Answer> once(const std::string& method, const std::string& path, const std::string& body,
                                    int idle_s, std::chrono::seconds total = {});
  /// Errors: kVersionMismatch.
  [[nodiscard]] Status check_version();
  [[nodiscard]] Result<bool> answers();
  Common common_;  // its queen is the one that was found
  std::string token_;
  int queen_pid_ = 0;
};

/// Prints an error with its code and one suggestion, as K-05 asks. Returns the exit code.
[[nodiscard]] int complain(const Common& common, const Error& error);
/// Narration to stderr and tokens to stdout; with --json every event as a line on stdout.
[[nodiscard]] OnEvent printer(const Common& common, std::string* text = nullptr);
/// Runs an operation that gives a result, and prints it with `print` (or as JSON).
[[nodiscard]] int operate(const Common& common, const boost::json::object& order,
                          const std::function<void(const boost::json::value&)>& print);

}  // namespace llorch::keeper
