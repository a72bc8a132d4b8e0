// An answer as `run` and `chat` show it while it comes.
//
// What the model thinks is not mixed with what it says. On a terminal a line counts the tokens of a thought, and a line
// in its place says afterwards how long it took; with `show_thoughts` the text itself stands there, dim. Without a
// terminal stdout has the answer alone, and thoughts go to stderr where they are wanted. A call of a tool is a card on
// a terminal, else a line of JSON. Threads: one.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/terminal.h"

namespace llorch::keeper {

/// What an event of a job adds to either. A worker whose model does not think says no more than `t`, which is content.
struct Piece {
  std::string thought, content;
};
[[nodiscard]] Piece piece_of(std::string_view type, const boost::json::object& data);

/// A call of a tool for a person: its name and id, and a line for each argument.
[[nodiscard]] std::string call_card(const boost::json::object& call);
/// The same for a program, as JSON: id, name, arguments.
[[nodiscard]] std::string call_line(const boost::json::object& call);

struct ViewOptions {
  bool show_thoughts = false;
  bool whole = false;  // the answer is shown at its end
};

class AnswerView {
 public:
  explicit AnswerView(const ViewOptions& options);
  /// Events `token`, `call` and `end`; others change nothing.
  void take(std::string_view type, const boost::json::object& data);
  /// Before something else is written: no line is left that is still counting.
  void make_room();
  /// After the last event: the answer's last line ends. One without text has no line.
  void end();

 private:
  using Clock = std::chrono::steady_clock;
  void think(const std::string& text);
  void end_thought();
  void say(const std::string& text);
  void call(const boost::json::object& data);

  ViewOptions options_;
  bool terminal_, dim_;  // stdout is one; thoughts that are shown stand on one
  std::optional<Clock::time_point> thinking_since_;
  int thought_tokens_ = 0;
  bool counting_ = false;  // the last line of the terminal counts
  std::string kept_;       // for the end
  ShownStream answer_{stdout};
  std::optional<ShownStream> thoughts_;                 // while they are shown
  bool thought_line_open_ = false, line_open_ = false;  // the text so far does not end with its line
};

}  // namespace llorch::keeper
