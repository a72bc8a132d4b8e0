// Tokenizer models: how one word (or one whole text) becomes ids. All run in O(n log n) or O(n x longest token)
// whatever the text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/work_limit.h"

namespace llorch {

using TokenId = std::int32_t;
using TokenIds = std::vector<TokenId>;

/// Hash and equality that let string_views look up strings.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};
using TokenMap = std::unordered_map<std::string, TokenId, TextHash, std::equal_to<>>;

/// Puts a token into a map that was reserved for all of them; the first of equals stays. Errors: kModelLoadFailed where
/// hashes collide, as only spellings that were made for it do: lookups would be slow.
[[nodiscard]] Status add_token(TokenMap& map, std::string text, TokenId id);

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Errors: those of `limit`; kInvalidRequest for a word above kWordBytesMax.
  [[nodiscard]] virtual Status encode(std::string_view word, TokenIds& out, WorkLimit& limit) const = 0;
};

struct BpeOptions {
  bool byte_units = true;      // words start as bytes; else as characters
  bool ignore_merges = false;  // a word that is a token is taken whole
  bool byte_fallback = false;  // unknown characters become <0xXX> tokens
  bool fuse_unknown = false;
  TokenId unknown = -1;
};
/// Merges by rank, as in Sennrich et al. 2016. `merges`: pairs of tokens in order of rank. Errors: kModelLoadFailed for
/// a merge whose parts or result are not tokens.
[[nodiscard]] Result<std::unique_ptr<TokenModel>> make_bpe(
    TokenMap tokens, const std::vector<std::pair<std::string, std::string>>& merges, const BpeOptions& options);

/// SentencePiece's BPE by scores: joins the neighbours whose union is the token of highest score; of equals the
/// leftmost.
[[nodiscard]] Result<std::unique_ptr<TokenModel>> make_spm(TokenMap tokens, std::vector<float> scores, TokenId unknown);

/// SentencePiece's unigram model: the segmentation of highest total score (Kudo 2018).
[[nodiscard]] Result<std::unique_ptr<TokenModel>> make_unigram(TokenMap tokens, std::vector<double> scores,
                                                               TokenId unknown, bool byte_fallback);

/// The two vocabularies of WordPiece: pieces that a word begins with, and pieces of its rest, without their marks.
struct WordPieces {
  TokenMap starts, insides;
  TokenId unknown = -1;                     // a word that cannot be cut, or is longer
  std::uint64_t word_characters_max = 100;  // BERT's
};
/// The longest piece first, from the left. Errors: kModelLoadFailed without a token for unknown words.
[[nodiscard]] Result<std::unique_ptr<TokenModel>> make_word_piece(WordPieces pieces);

/// Id of "<0xXX>" for a byte, or -1.
[[nodiscard]] TokenId byte_token(const TokenMap& tokens, std::uint8_t byte);

}  // namespace llorch
