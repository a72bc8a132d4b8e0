#include "keeper/conversation.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <optional>

#include "base/nearest.h"
#include "base/status_line.h"
#include "daemon_flags.h"
#include "format/json.h"
#include "gives_no_text.h"
#include "keeper/attachment.h"
#include "keeper/chat_file.h"
#include "keeper/chat_settings.h"
#include "keeper/chat_window.h"
#include "keeper/line_editor.h"
#include "keeper/model_argument.h"
#include "net/last_signal.h"

namespace llorch::keeper {

/// Whether a model takes messages, as far as that is known before it is loaded. Errors: kChatTemplateMissing;
/// kInvalidRequest of a model that gives no text; kCancelled after Ctrl-C or SIGTERM.
static Status check_chats(Session& session, const Question& question, const std::string& model);

/// While something was waited for: whoever ends this process means the whole conversation.
static bool terminated() { return net::last_signal() == SIGTERM; }

namespace {

class Conversation {
 public:
  Conversation(Session& session, const Common& common, Question question, boost::json::object request)
      : session_(session),
        common_(common),
        question_(std::move(question)),
        request_(std::move(request)),
        lines_(cli::state_directory() + "/chat_history") {}

  int run() {
    tell(fmt::format("chat with {}; /help shows what can be typed, Ctrl-D leaves", question_.model));
    int code = 0;
    while (!left_ && !terminated()) {
      auto said = lines_.message();
      if (!said) break;
      if (said->find_first_not_of(" \t\n") == said->npos) {
        if (lines_.interrupted()) tell("Ctrl-D or /bye leaves");
        tell_unended();
        continue;
      }
      if (const Status text = check_utf8(*said, "what was typed"); !text) {
        complain_here(text.error(), "nothing was sent");
        continue;
      }
      lines_.keep(*said);
      if (const auto path = lines_.on_terminal() ? file_meant(*said) : std::nullopt) {
        attach(*path);
        continue;
      }
      if (obey(*said)) continue;
      if (said->starts_with("//")) {
        said->erase(0, 1);
      } else if (const Status text = check_is_no_picture(*said, question_.model); !text) {
        complain_here(text.error(), "nothing was sent");
        continue;
      }
      code = ask(*said);
    }
    return terminated() ? 128 + SIGTERM : code;
  }

 private:
  static constexpr int kInterrupted = 130;

  struct Command {
    std::string_view name, usage, help;
    void (Conversation::*work)(const std::string& rest);
  };
  static const std::array<Command, 15> kCommands;

  /// Whether it was a command, which is then done.
  bool obey(const std::string& said) {
    const std::size_t end = std::min(said.find_first_of(" \t\n"), said.size());
    const std::string name = said.substr(0, end);
    if (name.size() < 2 || name[0] != '/' || name.find('/', 1) != name.npos) return false;
    const std::size_t begin = std::min(said.find_first_not_of(" \t\n", end), said.size());
    for (const Command& command : kCommands)
      if (command.name == name) return (this->*command.work)(said.substr(begin)), true;
    std::vector<std::string> known;
    for (const Command& command : kCommands) known.emplace_back(command.name);
    complain_here(
        {ErrorCode::kInvalidRequest, fmt::format("there is no command {}{}", name, did_you_mean(name, known))},
        "/help shows them; // at the beginning says a text that begins with /");
    return true;
  }

  void help(const std::string&) {
    for (const Command& command : kCommands)
      if (!command.help.empty())
        show(stderr, "  %-20s %s\n", std::string(command.usage).c_str(), std::string(command.help).c_str());
    show(stderr, "  %-20s %s\n", "\"\"\"", "begins a message of several lines, and ends it at the end of a line");
    if (lines_.on_terminal())
      show(stderr, "  %-20s %s\n  %-20s %s\n", "Alt-Enter",
           "another line of the message; what is pasted is one message", "Ctrl-C",
           "stops an answer, and keeps what has come of it; empties what is typed");
    show(stderr, "settings: %s\n", ChatSettings::names().c_str());
  }

  void system_message(const std::string& text) {
    if (text == "none")
      window_.set_system_message("");
    else if (!text.empty())
      window_.set_system_message(text);
    tell(window_.system_message().empty() ? "there is no system message"
                                          : "the system message is: " + window_.system_message());
  }

  void set(const std::string& typed) {
    const std::size_t end = std::min(typed.find_first_of(" \t"), typed.size());
    const std::size_t begin = std::min(typed.find_first_not_of(" \t", end), typed.size());
    const std::string name = typed.substr(0, end), value = typed.substr(begin);
    if (!name.empty())
      if (const Status s = settings_.set(name, value == "default" ? "" : value); !s)
        return complain_here(s.error(), "/set NAME VALUE; /set NAME default takes it back");
    std::string all;
    for (const auto& [each, is] : settings_.all()) all += fmt::format("{}{} {}", all.empty() ? "" : ", ", each, is);
    tell(all.empty() ? "nothing is set; the settings are " + ChatSettings::names() : "set: " + all);
  }

  void clear(const std::string&) {
    window_.clear();
    tell("what was said is forgotten; system message and settings stay");
  }

  void save(const std::string& name) {
    const auto path = chat_path(name);
    if (!path) return complain_here(path.error(), "/save NAME");
    if (*path != kept_at_ && load_chat(*path))
      return complain_here({ErrorCode::kResourceInUse, *path + " is another conversation: it stays as it is"},
                           "/save with another name, or /load it first");
    const ChatFile chat{question_.model, window_.messages(), window_.tokens(), window_.tokens_max()};
    if (const Status s = save_chat(*path, chat); !s)
      return complain_here(s.error(), s.error().code == ErrorCode::kResourceInUse
                                          ? "/save with another name"
                                          : "does the folder exist, and may this user write there?");
    kept_at_ = *path;
    tell("saved: " + *path);
  }

  void load(const std::string& name) {
    const auto path = chat_path(name);
    if (!path) return complain_here(path.error(), "/load NAME");
    auto chat = load_chat(*path);
    if (!chat) return complain_here(chat.error(), "/load NAME takes what /save NAME has written");
    question_.model = chat->model, kept_at_ = *path;
    window_.set_messages(std::move(chat->messages));
    window_.set_tokens(chat->tokens, chat->tokens_max);
    tell(fmt::format("loaded: {} messages; the model is {}", window_.messages().size(), question_.model));
  }

  void model(const std::string& typed) {
    if (typed.empty()) return tell("the model is " + question_.model);
    const auto meant = model_meant(typed, common_.of_this_machine() && question_.hive.empty());
    if (!meant) return complain_here(meant.error(), "`llorch model list` shows what is here");
    if (const Status chats = check_chats(session_, question_, *meant); !chats)
      return complain_here(chats.error(), "the model is still " + question_.model);
    question_.model = *meant;
    tell("the model is " + question_.model);
  }

  void multi(const std::string& begun) {
    const auto said = lines_.rest_of_message(begun);
    tell_unended();
    if (said && !said->empty()) (void)ask(*said);
    left_ = left_ || !said;
  }

  void file(const std::string& typed) {
    if (typed.empty())
      return complain_here({ErrorCode::kInvalidRequest, "a file needs a path"}, "/file PATH, then the message");
    attach(path_of(typed));
  }

  /// Its text goes along with the next message.
  void attach(const std::string& path) {
    const auto text = attachment(path, question_.model);
    if (!text) return complain_here(text.error(), "/file PATH takes a file of text; nothing was sent");
    attached_ += *text;
    tell(fmt::format("{} goes along with the next message", path));
  }

  void retry(const std::string&) {
    if (unsent_.empty())
      return complain_here({ErrorCode::kInvalidRequest, "no message has failed"}, "/retry sends one that has failed");
    (void)ask(std::exchange(unsent_, ""));
  }

  void thoughts(const std::string&) {
    question_.show_thoughts = !question_.show_thoughts;
    show_dim_line(stderr, fmt::format("thoughts are {} from now on", question_.show_thoughts ? "shown" : "folded"));
  }

  void show_state(const std::string&) {
    std::string all = fmt::format("model: {}\n", question_.model);
    if (!window_.system_message().empty()) all += fmt::format("system: {}\n", window_.system_message());
    for (const auto& [name, value] : settings_.all()) all += fmt::format("{}: {}\n", name, value);
    all += fmt::format("messages: {}\n", window_.messages().size());
    if (window_.tokens_known())
      all += fmt::format("tokens: {} of {}\n", window_.tokens(), window_.tokens_max());
    else
      all += "tokens: the next answer tells\n";
    if (!attached_.empty()) all += "a file goes along with the next message\n";
    show_text(stderr, all);
  }

  void bye(const std::string&) { left_ = true; }

  /// What was said and its answer join the conversation, unless nothing came of it: then both are as they were, and
  /// /retry sends the message again. Returns the exit code.
  int ask(const std::string& said) {
    const std::string message = std::exchange(attached_, "") + said;
    const ChatWindow before = window_;
    int code = 1;
    if (const Status there = session_.wake_if_asleep(); !there)
      code = complain(common_, there.error());
    else
      code = ask_awake(message);
    left_ = left_ || terminated();
    if (code == 0) {
      window_.keep();
      return 0;
    }
    window_ = before;
    if (terminated()) return code;
    unsent_ = message;
    tell(fmt::format("the conversation is as it was before the message; /retry sends it again{}",
                     lines_.on_terminal() ? ", the arrow up edits it" : ""));
    return code == kInterrupted ? 0 : code;  // it stopped the answer, not the conversation
  }

  int ask_awake(const std::string& message) {
    boost::json::object request = request_;
    request["model"] = question_.model;
    settings_.apply(request);
    if (const int turns = window_.make_room(json::find_unsigned(request, "max_tokens")); turns > 0)
      tell_forgotten(turns);
    window_.begin(message);
    return answer(std::move(request));
  }

  /// Of what was said last: asks until the model calls no tool any more. Not 0: what was said is taken back.
  int answer(boost::json::object request) {
    for (bool first = true;; first = false) {
      // Who must call a tool has done so.
      if (auto* choice = request.if_contains("tool_choice"); choice && !first && *choice != "none") *choice = "auto";
      const auto answered = ask_in_window(request);
      if (!answered) return complain(common_, answered.error());
      if (answered->interrupted) return keep_partial_answer(*answered);
      window_.add(answered->message);
      const auto* calls = json::find_array(answered->message, "tool_calls");
      if (!calls) return note_end(*answered), 0;
      for (const auto& call : *calls)
        if (!add_result(call.get_object())) return kInterrupted;
    }
  }

  /// While the conversation is longer than the model's window, its oldest turns leave.
  Result<Answered> ask_in_window(boost::json::object request) {
    for (int forgotten = 0, turns = 1;; turns *= 2) {
      request["messages"] = window_.messages();
      auto answered =
          ask_and_show(session_, common_, question_, question_.tools.empty() ? ask_job(request) : ask_chat(request));
      const bool full = !answered && answered.error().code == ErrorCode::kContextLengthExceeded;
      const int left = full ? window_.forget(turns) : 0;
      forgotten += left;
      if (full && left > 0) continue;
      if (forgotten > 0) tell_forgotten(forgotten);
      return answered;
    }
  }

  /// What had come when Ctrl-C stopped it is the answer; without any the question is taken back.
  int keep_partial_answer(const Answered& answered) {
    if (answered.text.empty()) return kInterrupted;
    window_.add({{"role", "assistant"}, {"content", answered.text}});
    tell("stopped; what had come is kept");
    return 0;
  }

  void note_end(const Answered& answered) {
    window_.measure(answered.end);
    tell_cut(common_, answered.end);
  }

  void tell_forgotten(int turns) const {
    tell(fmt::format("the conversation is longer than the model's window: its oldest {} left out",
                     turns == 1 ? "turn was" : fmt::format("{} turns were", turns)));
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
    tell(fmt::format("the result of {}; an empty line ends it, or takes the question back", name));
    std::string result;
    for (auto line = lines_.line(LineEditor::Prompt::kResult); !line || !line->empty();
         line = lines_.line(LineEditor::Prompt::kResult)) {
      left_ = !line;
      if (left_) break;
      result += (result.empty() ? "" : "\n") + *line;
    }
    if (result.empty()) return false;
    window_.add({{"role", "tool"}, {"tool_call_id", call.at("id")}, {"content", std::move(result)}});
    return true;
  }

  void tell_unended() const {
    if (lines_.unended()) tell("the message was not ended by \"\"\" and is dropped: nothing was sent");
  }

  void tell(const std::string& text) const {
    if (!common_.quiet) show_dim_line(stderr, text);
  }
  static void complain_here(const Error& error, std::string_view hint) {
    show(stderr, "%s\n  %s\n", error.message.c_str(), std::string(hint).c_str());
  }

  Session& session_;
  const Common& common_;
  Question question_;
  const boost::json::object request_;
  ChatSettings settings_;
  LineEditor lines_;
  ChatWindow window_;
  std::string kept_at_;            // the file that /save or /load named last
  std::string attached_, unsent_;  // for the next message; the last one, where it has failed
  bool left_ = false;
};

const std::array<Conversation::Command, 15> Conversation::kCommands{{
    {"/help", "/help", "this list", &Conversation::help},
    {"/?", "", "", &Conversation::help},
    {"/system", "/system TEXT", "how the model shall answer; none: no such message", &Conversation::system_message},
    {"/set", "/set NAME VALUE", "a setting of the answers; default: as it was", &Conversation::set},
    {"/show", "/show", "model, system message, settings, how full the window is", &Conversation::show_state},
    {"/clear", "/clear", "forget what was said", &Conversation::clear},
    {"/save", "/save NAME", "keep the conversation", &Conversation::save},
    {"/load", "/load NAME", "go on with one that was kept", &Conversation::load},
    {"/file", "/file PATH", "a file of text goes along with the next message", &Conversation::file},
    {"/retry", "/retry", "send a message again that has failed", &Conversation::retry},
    {"/model", "/model MODEL", "another model answers from now on", &Conversation::model},
    {"/multi", "/multi", "a message of several lines; \"\"\" ends it", &Conversation::multi},
    {"/thoughts", "/thoughts", "show what the model thinks, or hide it again", &Conversation::thoughts},
    {"/bye", "/bye", "leave", &Conversation::bye},
    {"/exit", "", "", &Conversation::bye},
}};

}  // namespace

/// Whether a person has set a chat template for a model; true where that may not be looked at.
static bool template_is_set(Session& session, const std::string& ref) {
  if (cli::read_section(cli::colony_config_path(), "worker").contains("chat-template")) return true;
  const auto kept = session.call("GET", net::url_path("/v1/model-settings").segment(ref).text());
  const auto* o = kept ? kept->if_object() : nullptr;
  const auto* settings = o ? json::find_object(*o, "settings") : nullptr;
  return !settings || settings->contains("chat-template");
}

static Status check_chats(Session& session, const Question& question, const std::string& model) {
  if (question.raw || model.empty()) return {};
  const auto text = [](const boost::json::object* o, const char* key) {
    return o ? json::find_text(*o, key).value_or("") : std::string();
  };
  const auto can = [](const boost::json::object* o) {
    std::vector<std::string> words;
    const auto* list = o ? json::find_array(*o, "capabilities") : nullptr;
    if (list)
      for (const auto& v : *list)
        if (v.is_string()) words.emplace_back(v.get_string());
    return words;
  };
  const std::string name = model.starts_with('/') ? "file:" + model : model;
  const auto listed = session.call("GET", net::url_path("/v1/models").segment(name).text());
  const auto* known = listed ? listed->if_object() : nullptr;
  std::vector<std::string> abilities = can(known ? json::find_object(*known, "meta") : nullptr);
  const std::string ref = known ? text(known, "id") : name;
  if (abilities.empty() && ref.starts_with("file:")) {  // its hive reads it, and loads nothing
    boost::json::object order{{"operation", "model_download"}, {"model", ref}};
    if (!question.hive.empty()) order["hive_id"] = question.hive;
    const auto read = session.run(order, {});
    if ((read && read->interrupted) || terminated()) return fail(ErrorCode::kCancelled, "stopped");
    if (read) abilities = can(read->result.if_object());
  }
  if (abilities.empty()) return {};  // the first answer tells
  const auto has = [&](std::string_view word) { return std::ranges::find(abilities, word) != abilities.end(); };
  if (has("chat") || template_is_set(session, ref)) return {};
  if (!has("text-gen")) return fail(ErrorCode::kInvalidRequest, "{}: this model {}", model, kGivesNoText);
  return fail(ErrorCode::kChatTemplateMissing, "{}: the model has no chat template, so that it takes no messages",
              model);
}

int converse(Session& session, const Common& common, Question question, boost::json::object request) {
  if (const Status chats = check_chats(session, question, question.model); !chats) {
    if (chats.error().code == ErrorCode::kCancelled) return 128 + (terminated() ? SIGTERM : SIGINT);
    return complain(common, chats.error());
  }
  (void)cli::make_private_directory(cli::state_directory());
  return Conversation(session, common, std::move(question), std::move(request)).run();
}

}  // namespace llorch::keeper
