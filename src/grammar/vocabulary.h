// The bytes of a vocabulary's tokens, in the order in which masks are made of them.
//
// A trie in preorder: whoever walks it steps an automaton once for each node, and leaves out what lies below a node
// that the automaton refuses. Tokens inside of a JSON string are tabled at once: which of them stay inside, how many
// characters they hold, and what comes behind the quote of those that close it. Const after construction, safe from
// any thread. About 12 MB for 128,000 tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "grammar/character_set.h"
#include "text/tokenizer.h"

namespace llorch {

/// Bytes from here on are in no text (RFC 3629); two of them stand round the spelling of a control token, so that a
/// grammar can name one and no text spells it.
inline constexpr unsigned kTextBytesEnd = 0xf8;
inline constexpr char kControlBegins = '\xff', kControlEnds = '\xfe';
/// How grammars name a control token.
[[nodiscard]] inline std::string control_mark(std::string_view spelling) {
  return kControlBegins + std::string(spelling) + kControlEnds;
}

/// Nodes in preorder; node 0 is the root. One more node at the end closes the last range.
struct TokenTrie {
  struct Node {
    std::uint32_t end = 0;    // the node behind all that lies below this one
    std::uint32_t first = 0;  // this node's tokens begin there in `items`; the next node's begin where they end
    std::uint32_t texts = 0;  // what begins with this node, an index into `texts`; 0: not known
    std::uint16_t depth = 0;
    std::uint8_t byte = 0;
  };
  /// All that is read from a node on, that node's character among it.
  struct Texts {
    CharacterSet characters;
    std::uint32_t length = 0;  // characters of the longest
  };
  std::vector<Node> nodes;
  std::vector<std::uint32_t> items;  // ids, or indices of what is filed under the text
  std::vector<Texts> texts;

  /// The node below `node` that reads `byte`, 0: there is none.
  [[nodiscard]] std::uint32_t child(std::uint32_t node, std::uint8_t byte) const;
  /// `texts` may repeat; an empty one is filed at the root.
  [[nodiscard]] static TokenTrie of(std::span<const std::pair<std::string_view, std::uint32_t>> texts);

 private:
  void find_texts();
};

/// What tokens do inside of a string without constraints.
struct StringTokens {
  static constexpr std::size_t kCountsMax = 24;
  struct Closer {
    std::uint32_t token;
    std::uint32_t characters;  // before the quote
  };
  std::vector<std::uint32_t> inside;                 // bits: tokens that stay inside
  std::vector<std::uint32_t> up_to[kCountsMax + 1];  // bits: of those, the ones that need no more characters than that
  struct Long {
    std::uint32_t token, characters;
  };
  std::vector<Long> longer;  // those that need more
  TokenTrie tails;           // texts behind the quote; items are indices of `closers`
  TokenTrie closing;         // whole texts of the tokens that close it; items are tokens
  std::vector<Closer> closers;
};

class Vocabulary {
 public:
  /// Tokens of text, by their bytes; control tokens where a grammar names them, end tokens where a text may end.
  [[nodiscard]] static std::shared_ptr<const Vocabulary> of(const Tokenizer& tokenizer);
  /// tokens[i] are the bytes of token i, or control_mark() of its spelling; empty for one that is in no mask.
  Vocabulary(std::vector<std::string> tokens, std::vector<std::uint32_t> end_ids);

  [[nodiscard]] std::size_t size() const { return tokens_.size(); }
  /// Words of a mask: 32 tokens each, token i is bit i % 32 of word i / 32.
  [[nodiscard]] std::size_t mask_words() const { return (tokens_.size() + 31) / 32; }
  [[nodiscard]] std::string_view bytes(std::uint32_t token) const { return tokens_[token]; }
  /// A token of these bytes.
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view bytes) const;
  [[nodiscard]] const std::vector<std::uint32_t>& end_ids() const { return end_ids_; }
  [[nodiscard]] bool ends(std::uint32_t token) const;
  [[nodiscard]] const TokenTrie& trie() const { return trie_; }
  [[nodiscard]] const StringTokens& free_strings() const { return free_; }
  [[nodiscard]] const StringTokens& plain_strings() const { return plain_; }

 private:
  std::vector<std::string> tokens_;
  std::vector<std::uint32_t> end_ids_;
  TokenTrie trie_;
  StringTokens free_, plain_;
};

}  // namespace llorch
