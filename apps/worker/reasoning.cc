#include "worker/reasoning.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "grammar/vocabulary.h"

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

Reasoning::Before Reasoning::before_answer(Style style, std::string_view prompt_end) {
  switch (style) {
    case Style::kNone: return Before::kNothing;
    case Style::kChannels: return Before::kChannels;
    case Style::kThink: break;
  }
  const std::string_view end = without_blanks(prompt_end);
  if (end.ends_with(kOpen)) return Before::kRestOfThought;
  return end.ends_with(kClose) ? Before::kNothing : Before::kPerhapsThought;
}

namespace {

/// A mark as grammars name it: by its token where the vocabulary has one.
std::string mark_of(const Tokenizer& tokenizer, std::string_view spelling) {
  for (std::size_t id = 0; id < tokenizer.size(); ++id) {
    const Token& token = tokenizer.token(static_cast<TokenId>(id));
    if (token.kind == TokenKind::kControl && token.text == spelling) return control_mark(spelling);
  }
  return std::string(spelling);
}

}  // namespace

GrammarComposer::Part Reasoning::add_before(GrammarComposer& grammar, Before before, const Tokenizer& tokenizer,
                                            bool answered) {
  using Part = GrammarComposer::Part;
  if (before == Before::kNothing) return grammar.literal("");
  if (before == Before::kChannels) {
    const auto mark = [&](std::string_view spelling) { return mark_of(tokenizer, spelling); };
    const std::string channel = mark("<|channel|>"), message = mark("<|message|>");
    const Part others[] = {grammar.literal(channel + "analysis" + message),
                           grammar.literal(channel + "commentary" + message)};
    const Part one[] = {grammar.any_of(others), grammar.until(mark("<|end|>")),
                        grammar.literal(mark("<|start|>") + "assistant")};
    const Part all[] = {grammar.repeat(grammar.sequence(one), 0, kNone),
                        grammar.literal(answered ? channel + "final" + message : "")};
    return grammar.sequence(all);
  }
  constexpr std::uint32_t kBlanksMax = 8;
  static constexpr std::pair<char, char> kBlank[] = {{' ', ' '}, {'\t', '\t'}, {'\r', '\r'}, {'\n', '\n'}};
  const Part rest[] = {grammar.until(mark_of(tokenizer, kClose)),
                       grammar.repeat(grammar.byte_of(kBlank), 0, kBlanksMax)};
  if (before == Before::kRestOfThought) return grammar.sequence(rest);
  const Part thought[] = {grammar.literal(mark_of(tokenizer, kOpen)), rest[0], rest[1]};
  return grammar.repeat(grammar.sequence(thought), 0, 1);
}

std::optional<ThoughtLimit> Reasoning::limit(Style style, std::string_view prompt_end, const Tokenizer& tokenizer,
                                             std::optional<int> tokens, bool calls) {
  const Before before = before_answer(style, prompt_end);
  if (before == Before::kNothing) return std::nullopt;
  ThoughtLimit limit{.tokens = tokens.value_or(ThoughtLimit::kNoLimit), .begun = before == Before::kRestOfThought};
  std::string ending;
  if (style == Style::kChannels) {
    limit.open = "<|channel|>analysis<|message|>", limit.close = "<|end|>";
    limit.answer = "<|channel|>final<|message|>";
    ending = "<|end|><|start|>assistant";
    if (!calls) ending += "<|channel|>final<|message|>";  // else the model chooses what comes next
  } else {
    limit.open = kOpen, limit.close = kClose;
    ending = fmt::format("\n{}\n\n", kClose);
  }
  if (!tokens) return limit;
  auto ids = tokenizer.encode(ending, {.parse_special = true, .continues = true});
  if (!ids) return std::nullopt;
  limit.ending = *std::move(ids);
  return limit;
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
  const std::size_t safe = close != std::string::npos ? close : held_.size() - begun(held_, kClose);
  out.reasoning += held_.substr(0, safe);
  // At the end of all, a mark that was cut off is shown to nobody.
  held_.erase(0, close != std::string::npos ? close + kClose.size() : all ? held_.size() : safe);
  if (close != std::string::npos) state_ = State::kAfter;
}

}  // namespace llorch::worker
