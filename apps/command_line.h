// What the command-line programs share: exit codes, error output, a progress bar for people.
//
// Exit codes: 0 ok, 1 error, 2 usage, 130 interrupted (K-05). With --json, errors are one JSON object on stderr.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>

#include "base/result.h"
#include "base/terminal.h"

namespace llorch::cli {

inline int report(const Error& error, bool as_json = false) {
  if (as_json) {
    const boost::json::object body{{"error", {{"code", name(error.code)}, {"message", error.message}}}};
    show_json(stderr, boost::json::serialize(body));
  } else {
    show(stderr, "error: %s: %s\n", std::string(name(error.code)).c_str(), error.message.c_str());
  }
  return error.code == ErrorCode::kInvalidRequest ? 2 : 1;
}

inline void print(const boost::json::value& value) { show_json(stdout, boost::json::serialize(value)); }

/// A bar on stderr when a person watches, nothing otherwise.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label) : label_(std::move(label)), shown_(isatty(STDERR_FILENO) == 1) {}
  ~ProgressBar() {
    if (shown_ && drawn_) std::fputs("\r\033[K", stderr);
  }
  void update(std::size_t done, std::size_t total) {
    const int percent = total ? static_cast<int>(100 * done / total) : 100;
    if (!shown_ || percent == percent_) return;
    percent_ = percent;
    drawn_ = true;
    std::fprintf(stderr, "\r%s [%-25.*s] %3d%%", label_.c_str(), percent / 4, "#########################", percent);
    std::fflush(stderr);
  }

 private:
  std::string label_;
  bool shown_, drawn_ = false;
  int percent_ = -1;
};

/// What is wrong with the arguments, where CLI11's own words do not say it to a person.
inline std::string parse_problem(const CLI::App& app, const CLI::ParseError& e) {
  const std::string what = e.what();
  if (const std::size_t at = what.find(": 1 required ");
      dynamic_cast<const CLI::ArgumentMismatch*>(&e) && at != what.npos)
    return what.substr(0, at) + " needs a value";
  const CLI::Option* config = app.get_config_ptr();
  if (!dynamic_cast<const CLI::FileError*>(&e) || !config) return what;
  const std::string path = config->as<std::string>();
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return "the configuration file " + path + ": " + std::strerror(errno);
  if (S_ISDIR(info.st_mode)) return "the configuration file " + path + " is a folder";
  return what;
}

/// What CLI11 says of help, versions and errors, which repeat arguments and files, through show().
inline int show_exit(const CLI::App& app, const CLI::ParseError& e) {
  std::ostringstream out, err;
  const int code = app.exit(e, out, err);
  show(stdout, "%s", out.str().c_str());
  if (code == 0) return 0;
  const int usage = report({ErrorCode::kInvalidRequest, parse_problem(app, e)});
  show(stderr, "  %s\n", dynamic_cast<const CLI::ConfigError*>(&e) ? "change that line of the file" : "see --help");
  return usage;
}

/// The exit code, of a command that has printed all it had to: what a full disk has not kept is no success.
inline int all_written(int exit_code) {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code;
  const std::string why = errno != 0 ? std::strerror(errno) : "a write failed";
  const int failed = report({ErrorCode::kIo, "what this command printed was not written whole: " + why});
  return exit_code != 0 ? exit_code : failed;
}

/// Standard streams that whoever started us has closed: else the next file that is opened would get what is printed.
/// Nothing can be written to these.
inline void hold_standard_streams() {
  int fd = open("/dev/null", O_RDONLY);
  while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDONLY);
  if (fd > STDERR_FILENO) close(fd);
}

/// Parses, runs the chosen command, returns the exit code. CLI11's own errors are usage errors.
inline int run(CLI::App& app, int argc, char** argv, int& exit_code) {
  hold_standard_streams();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return all_written(show_exit(app, e));
  } catch (const std::exception& e) {
    return report({ErrorCode::kInternal, e.what()});
  }
  return all_written(exit_code);
}

}  // namespace llorch::cli
