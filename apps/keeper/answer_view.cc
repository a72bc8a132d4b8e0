#include "keeper/answer_view.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "base/status_line.h"
#include "format/json.h"

namespace llorch::keeper {
namespace {

constexpr const char *kDim = "\033[2m", *kPlain = "\033[0m", *kClearLine = "\r\033[K";
constexpr std::size_t kStepsMax = 64;  // that wait for the end of an answer

/// The object that a call's arguments are, also where they come as its text.
boost::json::value arguments_of(const boost::json::object& call) {
  const auto* v = call.if_contains("arguments");
  if (!v) return boost::json::object();
  if (!v->is_string()) return *v;
  auto parsed = json::parse(std::string_view(v->get_string()), "arguments");
  return parsed && parsed->is_object() ? *std::move(parsed) : *v;
}

/// A name on one line, whatever is in it.
std::string on_one_line(std::string_view name) {
  std::string quoted = boost::json::serialize(boost::json::string(name));
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace

Piece piece_of(std::string_view type, const boost::json::object& data) {
  if (type != "token" && type != "end") return {};
  const auto content = json::find_text(data, "content"), thought = json::find_text(data, "reasoning_content");
  if (content || thought) return {thought.value_or(""), content.value_or("")};
  return {"", type == "token" ? json::find_text(data, "t").value_or("") : ""};
}

std::string call_card(const boost::json::object& call) {
  std::string card = fmt::format("╭ {}\n", on_one_line(json::find_text(call, "name").value_or("")));
  const boost::json::value arguments = arguments_of(call);
  if (const auto* o = arguments.if_object()) {
    for (const auto& [name, value] : *o)
      card += fmt::format("│ {}: {}\n", on_one_line(name), boost::json::serialize(value));
  } else {
    card += fmt::format("│ {}\n", boost::json::serialize(arguments));
  }
  return card + fmt::format("╰ {}\n", on_one_line(json::find_text(call, "id").value_or("")));
}

std::string call_line(const boost::json::object& call) {
  return boost::json::serialize(boost::json::object{{"id", json::find_text(call, "id").value_or("")},
                                                    {"name", json::find_text(call, "name").value_or("")},
                                                    {"arguments", arguments_of(call)}});
}

AnswerView::AnswerView(const ViewOptions& options)
    : options_(options),
      terminal_(isatty(STDOUT_FILENO) == 1),
      counts_(can_move_cursor(stdout)),
      dim_(can_dim(terminal_ ? stdout : stderr)) {}

void AnswerView::take(std::string_view type, const boost::json::object& data) {
  if (type == "call") return call(data);
  const Piece piece = piece_of(type, data);
  if (!piece.thought.empty()) think(piece.thought);
  if (!piece.content.empty()) say(piece.content);
  if (type == "end") end_thought();
}

void AnswerView::tell(std::string_view type, const boost::json::object& data, const OnEvent& print) {
  clear_count();
  if (!line_open_ && !thought_line_open_) return print(type, data);
  if (type != "progress" && steps_.size() < kStepsMax) steps_.emplace_back(type, data);
}

void AnswerView::clear_count() {
  if (std::exchange(counting_, false)) std::fputs(kClearLine, stdout), std::fflush(stdout);
}

void AnswerView::end(const OnEvent& print) {
  end_thought();
  answer_.end();
  end_line();
  for (const auto& [type, data] : std::exchange(steps_, {})) print(type, data);
}

void AnswerView::end_line() {
  show_text(stdout, std::exchange(kept_, ""));
  line_feeds_.clear();
  if (std::exchange(line_open_, false)) std::fputc('\n', stdout);
  std::fflush(stdout);
}

void AnswerView::think(const std::string& text) {
  if (!thinking_since_) thinking_since_ = Clock::now();
  ++thought_tokens_;
  if (options_.show_thoughts) {
    std::FILE* to = terminal_ ? stdout : stderr;
    if (!thoughts_) {
      clear_status();
      if (dim_) std::fputs(kDim, to);
      thoughts_.emplace(to);
    }
    thoughts_->add(text);
    thought_line_open_ = !text.ends_with('\n');
  } else if (counts_) {
    clear_status();
    std::fprintf(
        stdout, "%s%s", kClearLine,
        dimmed(stdout, fmt::format("thinking ... {} token{}", thought_tokens_, thought_tokens_ == 1 ? "" : "s"))
            .c_str());
    std::fflush(stdout);
    counting_ = true;
  }
}

void AnswerView::end_thought() {
  if (!thinking_since_) return;
  const double seconds = std::chrono::duration<double>(Clock::now() - *thinking_since_).count();
  thinking_since_.reset();
  if (thoughts_) {
    thoughts_->end();
    thoughts_.reset();
    std::FILE* to = terminal_ ? stdout : stderr;
    if (dim_) std::fputs(kPlain, to);
    if (std::exchange(thought_line_open_, false)) std::fputc('\n', to);
    std::fflush(to);
  } else if (terminal_) {
    clear_count();
    std::fprintf(stdout, "%s\n", dimmed(stdout, fmt::format("thought for {:.1f} s", seconds)).c_str());
    std::fflush(stdout);
  }
}

void AnswerView::say(std::string text) {
  end_thought();
  text = std::exchange(line_feeds_, "") + text;
  const std::size_t end = text.find_last_not_of("\r\n") + 1;  // npos + 1 is 0
  line_feeds_ = text.substr(end);
  text.resize(end);
  if (text.empty()) return;
  if (options_.whole)
    kept_ += text;
  else
    answer_.add(text);
  line_open_ = true;
}

void AnswerView::call(const boost::json::object& data) {
  end_thought();
  end_line();
  if (terminal_)
    show_text(stdout, call_card(data));
  else
    show_json(stdout, call_line(data));
  std::fflush(stdout);
}

}  // namespace llorch::keeper
