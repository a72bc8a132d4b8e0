// Messages that a person types, with line editing and a history on a terminal, else plain lines of stdin.
//
// On a terminal Enter ends a message and Alt-Enter begins another line of it; what is pasted is one message, with its
// line breaks, where the terminal says what is pasted (bracketed paste); Ctrl-C empties the line. Everywhere a line
// that begins with """ begins a message of several lines, which """ at the end of a line ends. Threads: one.
#pragma once

#include <histedit.h>

#include <optional>
#include <string>

namespace llorch::keeper {

class LineEditor {
 public:
  enum class Prompt { kMessage, kMore, kResult };
  /// `file`: of the history, which the destructor writes.
  explicit LineEditor(std::string file);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// Without its last line feed. Nothing at the end of the input.
  [[nodiscard]] std::optional<std::string> line(Prompt prompt);
  /// A message, of several lines where it begins with three quotation marks. Nothing at the end of the input.
  [[nodiscard]] std::optional<std::string> message();
  /// The rest of a message of several lines, of which `begun` has been typed.
  [[nodiscard]] std::optional<std::string> rest_of_message(std::string begun);
  /// For the history.
  void keep(const std::string& text);
  /// Whether a person types here.
  [[nodiscard]] bool on_terminal() const { return line_ != nullptr; }
  /// Whether the last line was ended by Ctrl-C.
  [[nodiscard]] bool interrupted() const { return interrupted_; }
  /// Whether the last message of several lines was ended by Ctrl-D: it is dropped.
  [[nodiscard]] bool unended() const { return unended_; }

 private:
  static unsigned char on_paste(EditLine* line, int key);
  static unsigned char on_new_line(EditLine* line, int key);
  static unsigned char on_interrupt(EditLine* line, int key);
  static char* prompt_text(EditLine* line);
  void bind_keys();

  std::string file_;
  EditLine* line_ = nullptr;  // none where stdin is no terminal, or there is no memory for it
  History* history_ = nullptr;
  HistEvent event_{};
  Prompt prompt_ = Prompt::kMessage;
  bool pastes_ = false;  // the terminal can say what is pasted
  bool interrupted_ = false, unended_ = false;
};

}  // namespace llorch::keeper
