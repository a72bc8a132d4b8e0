// An answer as `run` and `chat` show it while it comes.
//
// What the model thinks is not mixed with what it says. On a terminal a line counts the tokens of a thought, and a line
// in its place says afterwards how long it took; with `show_thoughts` the text itself stands there, dim. Without a
// terminal stdout has the answer alone, and thoughts go to stderr where they are wanted. A call of a tool is a card on
// a terminal, else a line of JSON.
//
// Narration never stands within a line of the answer: steps that come meanwhile are shown after it. An answer ends with
// exactly one line feed, however many it was given. Threads: one.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/terminal.h"
#include "keeper/session.h"

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
  /// A step that the person is told of: now, or after the answer's last line.
  void tell(std::string_view type, const boost::json::object& data, const OnEvent& print);
  /// After the last event: the answer's last line ends, and what was told meanwhile follows. No text, no line.
  void end(const OnEvent& print);

 private:
  using Clock = std::chrono::steady_clock;
  void think(const std::string& text);
  void end_thought();
  void say(std::string text);
  void clear_count();
  void end_line();
  void call(const boost::json::object& data);

  ViewOptions options_;
  bool terminal_, counts_, dim_;  // stdout is one; its last line can be replaced; thoughts that are shown are dim
  std::optional<Clock::time_point> thinking_since_;
  int thought_tokens_ = 0;
  bool counting_ = false;   // the last line of the terminal counts
  std::string kept_;        // for the end
  std::string line_feeds_;  // the answer's last ones: they count once something follows
  std::vector<std::pair<std::string, boost::json::object>> steps_;  // for after the answer's last line
  ShownStream answer_{stdout};
  std::optional<ShownStream> thoughts_;                 // while they are shown
  bool thought_line_open_ = false, line_open_ = false;  // the last line has text
};

}  // namespace llorch::keeper
