#include "keeper/line_editor.h"

#include <langinfo.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cwchar>
#include <iostream>

#include "base/status_line.h"

namespace llorch::keeper {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";
constexpr const char *kPasteOn = "\033[?2004h", *kPasteOff = "\033[?2004l";  // xterm's bracketed paste
constexpr std::wstring_view kPasteEnd = L"\033[201~";
constexpr std::size_t kPasteMax = 4u << 20;  // characters; as long as a prompt may be

/// Where prompts go: stdout may be a file.
std::FILE* screen() { return isatty(STDOUT_FILENO) == 1 ? stdout : stderr; }

/// What is typed is UTF-8: the line editor goes by the locale, and drops what is outside its characters.
EditLine* open_editor() {
  if (isatty(STDIN_FILENO) != 1) return nullptr;
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
  return el_init("llorch", stdin, screen(), stderr);
}

/// Ctrl-C is a key for as long as this lives, and no signal.
class InterruptAsKey {
 public:
  InterruptAsKey() : changed_(tcgetattr(STDIN_FILENO, &before_) == 0) {
    termios now = before_;
    now.c_cc[VINTR] = _POSIX_VDISABLE;
    if (changed_) (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
  }
  ~InterruptAsKey() {
    if (changed_) (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  InterruptAsKey(const InterruptAsKey&) = delete;
  InterruptAsKey& operator=(const InterruptAsKey&) = delete;

 private:
  termios before_{};
  bool changed_;
};

}  // namespace

LineEditor::LineEditor(std::string file) : file_(std::move(file)), line_(open_editor()) {
  if (!line_) return;
  history_ = history_init();
  if (history_) {
    ::history(history_, &event_, H_SETSIZE, 1000);
    ::history(history_, &event_, H_SETUNIQUE, 1);
    ::history(history_, &event_, H_LOAD, file_.c_str());
  }
  el_set(line_, EL_CLIENTDATA, this);
  el_set(line_, EL_EDITOR, "emacs");
  if (history_) el_set(line_, EL_HIST, &::history, history_);
  el_set(line_, EL_SIGNAL, 1);
  el_set(line_, EL_PROMPT, &LineEditor::prompt_text);
  bind_keys();
}

LineEditor::~LineEditor() {
  if (history_) {
    ::history(history_, &event_, H_SAVE, file_.c_str());
    history_end(history_);
  }
  if (line_) el_end(line_);
}

void LineEditor::bind_keys() {
  pastes_ = can_move_cursor(screen());
  el_set(line_, EL_ADDFN, "llorch-paste", "Insert what is pasted", &LineEditor::on_paste);
  el_set(line_, EL_ADDFN, "llorch-new-line", "Begin another line of the message", &LineEditor::on_new_line);
  el_set(line_, EL_ADDFN, "llorch-interrupt", "Empty the line", &LineEditor::on_interrupt);
  el_set(line_, EL_BIND, "\\e[200~", "llorch-paste", nullptr);
  for (const char* alt_enter : {"\\e^M", "\\e^J"}) el_set(line_, EL_BIND, alt_enter, "llorch-new-line", nullptr);
  el_set(line_, EL_BIND, "^C", "llorch-interrupt", nullptr);
}

unsigned char LineEditor::on_paste(EditLine* line, int) {
  std::wstring text;
  wchar_t c = 0;
  bool whole = false;
  while (!whole && text.size() < kPasteMax && el_wgetc(line, &c) > 0) {
    text += c;
    whole = text.ends_with(kPasteEnd);
  }
  if (whole) text.resize(text.size() - kPasteEnd.size());
  std::ranges::replace(text, L'\r', L'\n');
  if (text.empty()) return CC_REFRESH;
  return el_winsertstr(line, text.c_str()) == 0 ? CC_REFRESH : CC_REFRESH_BEEP;
}

unsigned char LineEditor::on_new_line(EditLine* line, int) {
  return el_insertstr(line, "\n") == 0 ? CC_REFRESH : CC_REFRESH_BEEP;
}

unsigned char LineEditor::on_interrupt(EditLine* line, int) {
  const LineInfoW* typed = el_wline(line);
  const auto size = static_cast<int>(typed->lastchar - typed->buffer);
  el_cursor(line, static_cast<int>(typed->lastchar - typed->cursor));
  if (size > 0) el_deletestr(line, size);
  LineEditor* self = nullptr;
  el_get(line, EL_CLIENTDATA, &self);
  self->interrupted_ = true;
  (void)el_insertstr(line, "\n");  // a line of no characters would be the end of the input
  return CC_NEWLINE;
}

char* LineEditor::prompt_text(EditLine* line) {
  LineEditor* self = nullptr;
  el_get(line, EL_CLIENTDATA, &self);
  switch (self->prompt_) {
    case Prompt::kMessage: return const_cast<char*>("> ");
    case Prompt::kMore: return const_cast<char*>(". ");
    case Prompt::kResult: break;
  }
  return const_cast<char*>("= ");
}

std::optional<std::string> LineEditor::line(Prompt prompt) {
  prompt_ = prompt, interrupted_ = unended_ = false;
  std::string text;
  if (!line_) {
    if (!std::getline(std::cin, text)) return std::nullopt;
    return text;
  }
  clear_status();
  if (pastes_) std::fputs(kPasteOn, screen()), std::fflush(screen());
  int count = 0;
  const char* got = [&] {
    const InterruptAsKey as_key;
    return el_gets(line_, &count);
  }();
  if (pastes_) std::fputs(kPasteOff, screen()), std::fflush(screen());
  // What ended the input without Enter stands on its line, and what follows begins another.
  if (interrupted_ || !got) std::fputs(interrupted_ ? "^C\n" : "\n", screen()), std::fflush(screen());
  if (!got) return std::nullopt;
  text.assign(got, static_cast<std::size_t>(std::max(0, count)));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::optional<std::string> LineEditor::message() {
  auto first = line(Prompt::kMessage);
  if (!first || !first->starts_with(kQuotes)) return first;
  return rest_of_message(first->substr(kQuotes.size()));
}

std::optional<std::string> LineEditor::rest_of_message(std::string begun) {
  for (std::string text = std::move(begun);;) {
    if (text.ends_with(kQuotes)) {
      text.resize(text.size() - kQuotes.size());
      if (text.ends_with('\n')) text.pop_back();
      return text.starts_with('\n') ? text.substr(1) : text;
    }
    const auto more = line(Prompt::kMore);
    if (interrupted_) return "";
    if (!more && on_terminal()) return unended_ = true, "";
    if (!more) return text.empty() ? std::nullopt : std::optional(text);  // the end of a file ends it, too
    text += '\n' + *more;
  }
}

void LineEditor::keep(const std::string& text) {
  if (history_) ::history(history_, &event_, H_ENTER, text.c_str());
}

}  // namespace llorch::keeper
