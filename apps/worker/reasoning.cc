#include "worker/reasoning.h"

#include <algorithm>

namespace llorch::worker {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>", kBlanks = " \t\r\n";

/// Length of the longest end of `text` that begins `mark`.
std::size_t begun(std::string_view text, std::string_view mark) {
  for (std::size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n)
    if (text.ends_with(mark.substr(0, n))) return n;
  return 0;
}

std::string_view without_blanks(std::string_view text) {
  const std::size_t end = text.find_last_not_of(kBlanks);
  return text.substr(0, end == std::string_view::npos ? 0 : end + 1);
}

}  // namespace

Reasoning::Style Reasoning::style_of(std::string_view chat_template) {
  if (chat_template.contains("<|channel|>")) return Style::kChannels;
  return chat_template.contains(kClose) ? Style::kThink : Style::kNone;
}

Reasoning::Reasoning(Style style, std::string_view prompt_end) : style_(style) {
  if (style == Style::kThink) state_ = without_blanks(prompt_end).ends_with(kOpen) ? State::kThinking : State::kStart;
}

Reasoning::Parts Reasoning::push(std::string_view text, std::string_view control) {
  Parts out;
  if (style_ == Style::kChannels) {
    if (control == "<|channel|>" || control == "<|start|>") {
      state_ = State::kHeader;
      held_.clear();
    } else if (control == "<|message|>") {
      state_ = held_.starts_with("final") || held_.empty() ? State::kAnswer : State::kThinking;
      held_.clear();
    } else if (state_ == State::kHeader) {
      held_ += text;
    } else {
      (state_ == State::kThinking ? out.reasoning : out.content) += text;
    }
    return out;
  }
  held_ += text;
  advance(out, false);
  return out;
}

Reasoning::Parts Reasoning::finish() {
  Parts out;
  if (style_ == Style::kChannels) return out;
  advance(out, true);
  return out;
}

void Reasoning::advance(Parts& out, bool all) {
  if (state_ == State::kStart) {  // only at the very beginning is the mark a mark
    const std::size_t first = held_.find_first_not_of(kBlanks);
    const std::string_view rest = std::string_view(held_).substr(std::min(first, held_.size()));
    if (rest.starts_with(kOpen)) {
      held_.erase(0, first + kOpen.size());
      state_ = State::kThinking;
    } else if (all || !kOpen.starts_with(rest)) {
      state_ = State::kAnswer;
    } else {
      return;
    }
  }
  if (state_ == State::kThinking) think(out, all);
  if (state_ == State::kAfter) {  // line breaks between the two belong to neither
    held_.erase(0, std::min(held_.find_first_not_of(kBlanks), held_.size()));
    if (!held_.empty()) state_ = State::kAnswer;
  }
  if (state_ == State::kAnswer) {
    out.content += held_;
    held_.clear();
  }
}

void Reasoning::think(Parts& out, bool all) {
  const std::size_t close = held_.find(kClose);
  const std::size_t safe = close != std::string::npos ? close : held_.size() - (all ? 0 : begun(held_, kClose));
  out.reasoning += held_.substr(0, safe);
  held_.erase(0, close != std::string::npos ? close + kClose.size() : safe);
  if (close != std::string::npos) state_ = State::kAfter;
}

}  // namespace llorch::worker
