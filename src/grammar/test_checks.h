// For fuzz targets: what holds of every grammar that compiled.
#pragma once

#include "base/utf8.h"
#include "grammar/char_dfa.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "grammar/test_reference_matcher.h"

namespace llorch {

inline std::pair<std::string_view, std::string_view> split_line(std::string_view all) {
  const std::size_t end = std::min(all.find('\n'), all.size());
  return {all.substr(0, end), all.substr(std::min(end + 1, all.size()))};
}

template<class F>
void for_each_line(std::string_view texts, const F& f) {
  for (int lines = 0; lines < 4; ++lines) {
    const auto [text, rest] = split_line(texts);
    f(text);
    if (rest.empty()) return;
    texts = rest;
  }
}

inline std::shared_ptr<const Vocabulary> small_vocabulary() {
  static const auto vocabulary = [] {
    std::vector<std::string> tokens;
    for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
    for (const char* text : {"ab", "aab", "\"", "\",", "a\":", "\\n\"", "\\u00", "\xc3\xa9", "\xa9\"", "{\"",
                             "}}", "12",  "0.", ", ",  "tru",  "\\\\",  "e1",    "]}",       "\n  ",   "name"})
      tokens.emplace_back(text);
    tokens.emplace_back("");
    const auto end = static_cast<std::uint32_t>(tokens.size() - 1);
    return std::make_shared<const Vocabulary>(std::move(tokens), std::vector<std::uint32_t>{end});
  }();
  return vocabulary;
}

/// Along each text: the automaton accepts what the reference reading accepts, each mask is what trying each token
/// gives, what is forced can be taken, and from no place is there nothing to go on with.
inline void check_grammar(const Grammar& grammar, std::string_view texts) {
  const auto vocabulary = small_vocabulary();
  const auto constraint = std::make_shared<Constraint>(grammar, vocabulary);
  std::vector<std::uint32_t> bits(vocabulary->mask_words());
  for_each_line(texts, [&](std::string_view text) {
    text = text.substr(0, 48);
    Matcher matcher(constraint);
    std::size_t taken = 0;
    for (;; ++taken) {
      if (!matcher.mask(bits)) return;  // too ambiguous
      if (taken % 8 == 0) {
        bool any = false;
        for (std::uint32_t id = 0; id < vocabulary->size(); ++id) {
          const bool allowed = bits[id >> 5] >> (id & 31) & 1;
          any = any || allowed;
          if (Matcher(matcher).advance_token(id) != allowed) __builtin_trap();
        }
        if (!any || !Matcher(matcher).advance(matcher.forced())) __builtin_trap();
      }
      if (taken == text.size() || !matcher.advance(text.substr(taken, 1))) break;
    }
    if (grammar.network()->size() > 3000 || text.size() > 24) return;
    const bool accepted = taken == text.size() && matcher.can_end();
    if (reference_accepts(*grammar.network(), text) != accepted) __builtin_trap();
  });
}

}  // namespace llorch
