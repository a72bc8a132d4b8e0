// Deterministic automata over code points: what JSON strings' contents must be (pattern, format, length, names).
//
// Built from patterns by subsets, joined by products, complemented, and written into a network as JSON strings in their
// plain spelling. Errors: nullopt where grammar/limits.h is exceeded. Values; const after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/network.h"
#include "grammar/pattern.h"

namespace llorch {

class CharDfa {
 public:
  struct Arc {
    char32_t low, high;
    std::uint32_t to;
  };
  struct State {
    std::vector<Arc> arcs;  // sorted, apart from each other; characters that none names lead nowhere
    bool accepts = false;
  };

  /// Texts in which the pattern is found somewhere; `work` is charged, up to kPatternWorkMax.
  [[nodiscard]] static std::optional<CharDfa> search(const Pattern& pattern, std::size_t& work);
  /// Texts that match the pattern as a whole.
  [[nodiscard]] static std::optional<CharDfa> match(const Pattern& pattern, std::size_t& work);
  /// Texts of `least` to `most` characters (kNone: no limit).
  [[nodiscard]] static std::optional<CharDfa> length(std::uint32_t least, std::uint32_t most);
  /// The texts themselves.
  [[nodiscard]] static std::optional<CharDfa> of_texts(std::span<const std::string_view> texts);

  /// Texts in front of the first `end`: with it behind them, it is found nowhere earlier. nullopt: `end` is empty.
  [[nodiscard]] static std::optional<CharDfa> before(std::string_view end);

  [[nodiscard]] CharDfa complement() const;
  [[nodiscard]] static std::optional<CharDfa> both(const CharDfa& a, const CharDfa& b, std::size_t& work);

  [[nodiscard]] bool accepts(std::string_view text) const;
  [[nodiscard]] bool empty() const;
  /// Made so that any text is accepted (false says nothing).
  [[nodiscard]] bool universal() const {
    const auto& arcs = states_[0].arcs;
    return states_.size() == 1 && states_[0].accepts && arcs.size() == 1 && arcs[0].low == 0 &&
           arcs[0].high == kCodePointMax;
  }
  /// Characters of the shortest and longest texts; kNone where there is none, or no longest.
  [[nodiscard]] std::pair<std::uint32_t, std::uint32_t> lengths() const;
  /// Edges from `from` that read a text in its plain spelling and the closing quote, to `to`.
  void emit(Network& net, NetState from, NetState to) const { write(net, from, to, true); }
  /// Edges that read a text as it is, without quotes; where it may end, `to` may follow.
  void emit_raw(Network& net, NetState from, NetState to) const { write(net, from, to, false); }
  /// States and arcs: what it takes to look at all of it.
  [[nodiscard]] std::size_t weight() const;
  [[nodiscard]] std::size_t size() const { return states_.size(); }

 private:
  void write(Network& net, NetState from, NetState to, bool as_json) const;
  [[nodiscard]] std::vector<bool> can_accept() const;
  std::vector<State> states_;  // state 0 is the start
};

}  // namespace llorch
