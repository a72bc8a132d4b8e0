// Text to ids and back, as the model's own tokenizer does it. Made from GGUF metadata or from a Hugging Face
// tokenizer.json.
//
// Special (control) tokens are parsed only where asked: text from users never becomes one (E-32). Text must be valid
// UTF-8. Threads: const after construction, safe from any thread. Errors: kModelLoadFailed at construction for anything
// that is not understood (named, never guessed); kInvalidRequest for text that is no UTF-8,
// too long or too much work; kOperationTimeout and kCancelled of EncodeOptions::limit.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/work_limit.h"
#include "format/metadata.h"
#include "text/model.h"

namespace llorch {

class Meter;

/// As in GGUF's tokenizer.ggml.token_type.
enum class TokenKind : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Token {
  std::string text;   // as the file spells it
  std::string bytes;  // what it stands for in decoded text
  TokenKind kind = TokenKind::kNormal;
  bool strip_left = false, strip_right = false, single_word = false;  // Hugging Face added tokens
};

struct EncodeOptions {
  bool add_special = false;     // what the file says is put round a text: BOS, EOS
  bool parse_special = false;   // spellings of control tokens in the text become those tokens
  std::string_view trust = {};  // with parse_special: only where each byte of the spelling has '\1' here; empty: all
  bool continues = false;       // the text goes on with another: nothing is put before its first word
  WorkLimit* limit = nullptr;   // what it may cost; null: kEncodeUnitsMax units
};

/// Everything that a tokenizer is made of; the two readers fill it in.
struct TokenizerParts {
  std::string kind;  // gguf-bpe, gguf-spm, hf-json
  std::vector<Token> tokens;
  std::unique_ptr<TokenModel> model;
  std::function<Result<std::string>(std::string_view fragment, bool first, WorkLimit&)> normalize;  // before cutting
  using Sink = std::function<Status(std::string_view word)>;
  std::function<Status(const std::string& normalized, WorkLimit&, const Sink&)> cut;  // into words for the model
  TokenIds prefix, suffix;                                                            // put round a text by add_special
  /// The token type of a pair's second text, where a pair is both as texts alone, the second without `prefix`.
  std::optional<int> second_type;
  TokenId bos = -1;
  std::set<TokenId> end_ids;         // every token that ends an answer
  bool strip_leading_space = false;  // decoding drops the one space that encoding added
};

class Tokenizer {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Tokenizer>> from_gguf(const Metadata& metadata);
  /// `directory` holds tokenizer.json and, where there, config.json and generation_config.json (end ids).
  [[nodiscard]] static Result<std::unique_ptr<Tokenizer>> from_hf(const std::string& directory);
  [[nodiscard]] static Result<std::unique_ptr<Tokenizer>> from_hf_json(std::string_view json);

  explicit Tokenizer(TokenizerParts parts);

  [[nodiscard]] Result<TokenIds> encode(std::string_view text, const EncodeOptions& options) const;
  /// Bytes of one token; control tokens only when `render_special`. Out of range: empty.
  [[nodiscard]] std::string_view piece(TokenId id, bool render_special = false) const;
  /// Of a few ids, or of what this model has made itself.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool render_special = false) const;
  /// Of ids that a request names. Errors: kInvalidRequest above kTextBytesMax bytes; those of `limit`.
  [[nodiscard]] Result<std::string> decode(std::span<const TokenId> ids, bool render_special, WorkLimit& limit) const;

  [[nodiscard]] std::string_view kind() const { return parts_.kind; }
  [[nodiscard]] std::size_t size() const { return parts_.tokens.size(); }
  [[nodiscard]] const Token& token(TokenId id) const { return parts_.tokens[static_cast<std::size_t>(id)]; }
  [[nodiscard]] TokenId bos() const { return parts_.bos; }
  [[nodiscard]] bool ends(TokenId id) const { return parts_.end_ids.contains(id); }
  [[nodiscard]] const std::set<TokenId>& end_ids() const { return parts_.end_ids; }
  [[nodiscard]] const TokenIds& prefix() const { return parts_.prefix; }
  [[nodiscard]] std::optional<int> second_type() const { return parts_.second_type; }

 private:
  struct TrieNode {
    std::vector<std::pair<std::uint8_t, std::int32_t>> next;
    TokenId token = -1;
  };
  void add_to_trie(TokenId id);
  [[nodiscard]] TokenId match_added(std::string_view text, std::size_t at, const EncodeOptions& options,
                                    std::size_t& size, Meter& meter) const;
  [[nodiscard]] Status encode_fragment(std::string_view fragment, bool first, TokenIds& out, WorkLimit& limit) const;

  TokenizerParts parts_;
  std::vector<TrieNode> trie_;
  std::array<bool, 256> begins_added_{};  // bytes that an added token begins with
};

/// What a constructor relies on. Errors: kModelLoadFailed where tokens are too long, alone or together.
[[nodiscard]] Status check_tokens(const std::vector<Token>& tokens);

/// The byte that a character of the byte-level alphabet stands for (GPT-2's table), or -1.
[[nodiscard]] int byte_of_character(char32_t c);
/// A byte-level token's bytes, or nullopt when a character is outside the alphabet.
[[nodiscard]] std::optional<std::string> bytes_of_token(std::string_view text);

/// The tokenizer of a Hugging Face directory as tokenizer.ggml.* keys, for the converter.
[[nodiscard]] Status hf_tokenizer_to_metadata(const std::string& directory, Metadata& out);

inline constexpr std::string_view kMetaspace = "\u2581";
[[nodiscard]] std::string replace_all(std::string_view text, std::string_view from, std::string_view to);
/// Spellings by which published models mark the end of an answer.
[[nodiscard]] bool is_end_spelling(std::string_view text);

}  // namespace llorch
