// Regular expressions as trees: the part of ECMA-262 that names a regular language.
//
// Taken: alternatives, groups, classes, \d \w (ASCII) and \s and their complements, quantifiers (lazy ones too: which
// match is found does not matter), ^ and $, escapes. Refused by name: lookaround, backreferences, \b, \p, inline flags.
// GBNF reads into the same trees, with rules as leaves.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/network.h"
#include "grammar/refusal.h"

namespace llorch {

struct CodePoints {
  char32_t low, high;
};
inline constexpr char32_t kCodePointMax = 0x10ffff;
/// Sorted, joined where they touch.
void normalize(std::vector<CodePoints>& set);
[[nodiscard]] std::vector<CodePoints> complement(std::vector<CodePoints> set);

class Pattern {
 public:
  using Index = std::uint32_t;
  enum class Kind : std::uint8_t { kEmpty, kSet, kSequence, kChoice, kRepeat, kBegin, kEnd, kRule };
  struct Node {
    Kind kind = Kind::kEmpty;
    std::uint32_t least = 1, most = 1;  // of kRepeat; kNone: no limit
    std::uint32_t repeats = 0;          // kRepeat nodes inside of one another, this one among them
    NetRule rule = 0;
    std::vector<Index> children;
    std::vector<CodePoints> set;
  };

  /// Engines do not agree on what a space is (NBSP, U+001C, U+0085, U+FEFF ...).
  enum class Spaces : std::uint8_t {
    kCertain,   // \s is what all call a space, \S what none does: what is matched, all engines match
    kPossible,  // the other way round: what is not matched, none does
  };
  /// Errors: keyword "regex", naming the byte.
  [[nodiscard]] static Compiled<Pattern> parse(std::string_view text, Spaces spaces = Spaces::kCertain);
  /// Whether \s or \S stands in it, so that the two readings may differ.
  [[nodiscard]] bool has_spaces() const { return has_spaces_; }
  void set_has_spaces() { has_spaces_ = true; }

  [[nodiscard]] const Node& node(Index i) const { return nodes_[i]; }
  [[nodiscard]] Index root() const { return root_; }
  void set_root(Index root) { root_ = root; }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }

  [[nodiscard]] Index add(Node node);
  [[nodiscard]] Index add_set(std::vector<CodePoints> set);
  [[nodiscard]] Index add_text(std::string_view text);  // UTF-8, one set for each character
  [[nodiscard]] Index add_repeat(Index child, std::uint32_t least, std::uint32_t most);
  [[nodiscard]] Index add_list(Kind kind, std::vector<Index> children);

  /// What the tree matches, between two states. Errors: anchors that are not at an end of the whole pattern.
  [[nodiscard]] Compiled<void> emit(Network& net, NetState from, NetState to) const;

 private:
  enum class Side : std::uint8_t { kInner = 0, kFirst = 1, kLast = 2, kBoth = 3 };
  [[nodiscard]] Compiled<void> emit(Network& net, Index index, NetState from, NetState to, unsigned side) const;
  [[nodiscard]] Compiled<void> emit_repeat(Network& net, const Node& node, NetState from, NetState to) const;

  std::vector<Node> nodes_;
  Index root_ = 0;
  bool has_spaces_ = false;
};

}  // namespace llorch
