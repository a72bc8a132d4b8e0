#include "keeper/conversation.h"

#include <histedit.h>
#include <langinfo.h>

#include <clocale>
#include <iostream>
#include <optional>

#include "daemon_flags.h"
#include "format/json.h"

namespace llorch::keeper {
namespace {

/// What is typed is UTF-8: the line editor goes by the locale, and drops what is outside its characters.
EditLine* line_editor() {
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
  return el_init("llorch", stdin, stdout, stderr);
}

/// Lines that a person edits, with what was said before; plain lines where the terminal, or memory, has no more.
class Lines {
 public:
  explicit Lines(std::string file) : file_(std::move(file)), line_(line_editor()), history_(history_init()) {
    if (history_) {
      ::history(history_, &event_, H_SETSIZE, 1000);
      ::history(history_, &event_, H_LOAD, file_.c_str());
    }
    if (!line_) return;
    el_set(line_, EL_EDITOR, "emacs");
    if (history_) el_set(line_, EL_HIST, &::history, history_);
    el_set(line_, EL_SIGNAL, 1);
  }
  ~Lines() {
    if (history_) {
      ::history(history_, &event_, H_SAVE, file_.c_str());
      history_end(history_);
    }
    if (line_) el_end(line_);
  }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;
  /// Nothing at the end. `result`: of a tool, and not something said.
  [[nodiscard]] std::optional<std::string> next(bool result = false) {
    std::string text;
    if (line_) {
      el_set(
          line_, EL_PROMPT, result ? +[](EditLine*) { return const_cast<char*>("= "); } : +[](EditLine*) {
            return const_cast<char*>("> ");
          });
      int count = 0;
      const char* got = el_gets(line_, &count);
      if (!got) return std::nullopt;
      text.assign(got, static_cast<std::size_t>(std::max(0, count)));
    } else if (!std::getline(std::cin, text)) {
      return std::nullopt;
    }
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }
  void keep(const std::string& text) {
    if (history_) ::history(history_, &event_, H_ENTER, text.c_str());
  }

 private:
  std::string file_;
  EditLine* line_;
  History* history_;
  HistEvent event_{};
};

class Conversation {
 public:
  Conversation(Session& session, const Common& common, Question question, boost::json::object request)
      : session_(session),
        common_(common),
        question_(std::move(question)),
        request_(std::move(request)),
        lines_(cli::state_directory() + "/chat_history") {}

  int run() {
    if (!common_.quiet)
      show(stderr,
           "chat with %s; Ctrl-C stops an answer, /thoughts shows what the model thinks or hides it, an empty line or "
           "Ctrl-D leaves\n",
           question_.model.c_str());
    int code = 0;
    while (!left_) {
      const auto said = lines_.next();
      if (!said || said->empty() || *said == "/exit") break;
      if (*said == "/thoughts") {
        question_.show_thoughts = !question_.show_thoughts;
        show(stderr, "thoughts are %s from now on\n", question_.show_thoughts ? "shown" : "folded");
        continue;
      }
      lines_.keep(*said);
      const std::size_t before = messages_.size();
      messages_.push_back({{"role", "user"}, {"content", *said}});
      code = answer();
      if (code != 0) messages_.resize(before);
      if (code == kInterrupted) code = 0;  // it stopped the answer, not the conversation
    }
    return code;
  }

 private:
  static constexpr int kInterrupted = 130;

  /// Of what was said last: asks until the model calls no tool any more. Not 0: what was said is taken back.
  int answer() {
    for (bool first = true;; first = false) {
      boost::json::object request = request_, message;
      request["messages"] = messages_;
      // Who must call a tool has done so.
      if (auto* choice = request.if_contains("tool_choice"); choice && !first && *choice != "none") *choice = "auto";
      const Ask ask = question_.tools.empty() ? ask_job(std::move(request)) : ask_chat(std::move(request));
      if (const int code = ask_once(session_, common_, question_, ask, &message); code != 0) return code;
      messages_.push_back(message);
      const auto* calls = json::find_array(message, "tool_calls");
      if (!calls) return 0;
      for (const auto& call : *calls)
        if (!add_result(call.get_object())) return kInterrupted;
    }
  }

  /// Asks the person for it. False: there is none.
  bool add_result(const boost::json::object& call) {
    const auto& function = call.at("function").get_object();
    const std::string name = json::find_text(function, "name").value_or("");
    const auto arguments = json::parse(json::find_text(function, "arguments").value_or(""), "arguments");
    if (!arguments || !arguments->is_object()) {
      show(stderr, "the call of %s broke off: the question is taken back\n", name.c_str());
      return false;
    }
    if (!common_.quiet)
      show(stderr, "the result of %s; an empty line ends it, or takes the question back\n", name.c_str());
    std::string result;
    for (auto line = lines_.next(true); !line || !line->empty(); line = lines_.next(true)) {
      left_ = !line;
      if (left_) break;
      result += (result.empty() ? "" : "\n") + *line;
    }
    if (result.empty()) return false;
    messages_.push_back({{"role", "tool"}, {"tool_call_id", call.at("id")}, {"content", std::move(result)}});
    return true;
  }

  Session& session_;
  const Common& common_;
  Question question_;
  const boost::json::object request_;
  Lines lines_;
  boost::json::array messages_;
  bool left_ = false;  // the input has ended
};

}  // namespace

int converse(Session& session, const Common& common, Question question, boost::json::object request) {
  (void)cli::make_private_directory(cli::state_directory());
  return Conversation(session, common, std::move(question), std::move(request)).run();
}

}  // namespace llorch::keeper
