// Tokenizers from GGUF metadata: `gpt2` (byte-level BPE with a named pre-tokenizer), `llama` (SentencePiece by scores),
// `gemma4` (BPE over characters, spaces as U+2581, bytes where a character is no token) and `bert` (WordPiece).
#include <memory>

#include "base/limits.h"
#include "text/bert.h"
#include "text/limits.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

namespace llorch {
namespace {

Result<TokenId> token_id(const Metadata& m, std::string_view key, std::size_t vocab) {
  if (!m.has(key)) return -1;
  LLORCH_TRY(const auto id, m.unsigned_integer(key));
  if (id == UINT32_MAX) return -1;  // some writers say "none" so
  if (id >= vocab) return bad_model("metadata key '{}' is {}, the vocabulary has {} entries", key, id, vocab);
  return static_cast<TokenId>(id);
}

Result<std::vector<Token>> read_tokens(const Metadata& m) {
  LLORCH_TRY(const auto* texts, m.strings("tokenizer.ggml.tokens"));
  if (texts->empty() || texts->size() > limits::kVocabMax)
    return bad_model("a vocabulary of {} entries is outside 1..{}", texts->size(), limits::kVocabMax);
  std::vector<Token> tokens(texts->size());
  for (std::size_t i = 0; i < texts->size(); ++i) tokens[i].text = (*texts)[i];
  if (m.has("tokenizer.ggml.token_type")) {
    LLORCH_TRY(const auto* kinds, m.integers("tokenizer.ggml.token_type"));
    if (kinds->size() != tokens.size()) return bad_model("{} token types for {} tokens", kinds->size(), tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if ((*kinds)[i] < 1 || (*kinds)[i] > 6) return bad_model("token {} has type {}", i, (*kinds)[i]);
      tokens[i].kind = static_cast<TokenKind>((*kinds)[i]);
    }
  }
  return tokens;
}

Result<TokenMap> index(const std::vector<Token>& tokens, bool byte_level) {
  TokenMap map;
  map.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token& t = tokens[i];
    if (t.kind == TokenKind::kControl || t.kind == TokenKind::kUnused) continue;
    LLORCH_OK(add_token(map, byte_level ? t.bytes : t.text, static_cast<TokenId>(i)));
  }
  return map;
}

Status read_ends(const Metadata& m, TokenizerParts& p) {
  const bool bert = p.kind == "gguf-bert";  // may have its ends under BERT's own names
  LLORCH_TRY(p.bos, token_id(m, "tokenizer.ggml.bos_token_id", p.tokens.size()));
  if (bert && p.bos < 0) {
    LLORCH_TRY(p.bos, token_id(m, "tokenizer.ggml.cls_token_id", p.tokens.size()));
  }
  TokenId eos = -1;
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    LLORCH_TRY(const TokenId id, token_id(m, key, p.tokens.size()));
    if (id >= 0) p.end_ids.insert(id);
    if (eos < 0) eos = id;
  }
  bool harmony = false;  // gpt-oss ends messages with <|end|> and answers with <|return|>
  for (const Token& t : p.tokens) harmony |= t.kind == TokenKind::kControl && t.text == "<|return|>";
  for (std::size_t i = 0; i < p.tokens.size(); ++i)
    if (p.tokens[i].kind == TokenKind::kControl && is_end_spelling(p.tokens[i].text) &&
        !(harmony && p.tokens[i].text == "<|end|>"))
      p.end_ids.insert(static_cast<TokenId>(i));
  LLORCH_TRY(const bool add_bos, m.boolean_or("tokenizer.ggml.add_bos_token", p.kind != "gguf-bpe"));
  LLORCH_TRY(const bool add_eos, m.boolean_or("tokenizer.ggml.add_eos_token", bert));
  if (bert && eos < 0) {
    LLORCH_TRY(eos, token_id(m, "tokenizer.ggml.seperator_token_id", p.tokens.size()));  // as the ecosystem spells it
  }
  if (add_bos && p.bos >= 0) p.prefix.push_back(p.bos);
  if (add_eos && eos >= 0) p.suffix.push_back(eos);
  p.second_type = bert ? 1 : 0;  // no key says it
  return {};
}

Status read_bpe(const Metadata& m, TokenizerParts& p) {
  p.kind = "gguf-bpe";
  for (Token& t : p.tokens) {
    const bool plain = t.kind == TokenKind::kNormal || t.kind == TokenKind::kUnused;
    t.bytes = plain ? bytes_of_token(t.text).value_or(t.text) : t.text;
  }
  if (!m.has("tokenizer.ggml.pre"))
    return bad_model("metadata key 'tokenizer.ggml.pre' is missing: the pre-tokenizer cannot be guessed");
  LLORCH_TRY(const std::string name, m.text("tokenizer.ggml.pre"));
  LLORCH_TRY(PreTokenizer pre, PreTokenizer::by_name(name));
  LLORCH_TRY(const auto* lines, m.strings("tokenizer.ggml.merges"));
  if (lines->size() > text_limits::kMergesMax) return bad_model("there are {} merges", lines->size());
  std::vector<std::pair<std::string, std::string>> merges;
  for (std::size_t i = 0; i < lines->size(); ++i) {
    const std::string_view line = (*lines)[i];
    const std::size_t space = line.find(' ', 1);
    const auto left = space == std::string_view::npos ? std::nullopt : bytes_of_token(line.substr(0, space));
    const auto right = space == std::string_view::npos ? std::nullopt : bytes_of_token(line.substr(space + 1));
    if (!left || !right) return bad_model("merge {} is not a pair of byte-level tokens", i);
    merges.emplace_back(*left, *right);
  }
  BpeOptions options;
  options.ignore_merges = pre.ignore_merges();
  LLORCH_TRY(TokenMap map, index(p.tokens, true));
  LLORCH_TRY(p.model, make_bpe(std::move(map), merges, options));
  p.normalize = [](std::string_view text, bool, WorkLimit&) -> Result<std::string> { return std::string(text); };
  p.cut = [pre = std::make_shared<PreTokenizer>(std::move(pre))](const std::string& text, WorkLimit& limit,
                                                                 const TokenizerParts::Sink& sink) -> Status {
    LLORCH_TRY(const Pieces pieces, pre->split(text, limit));
    for (const std::string_view piece : pieces) LLORCH_OK(sink(piece));
    return {};
  };
  return {};
}

/// What tokens stand for whose spaces are U+2581 and whose bytes are spelled <0xXX>.
Status read_spelled_bytes(TokenizerParts& p) {
  for (std::size_t i = 0; i < p.tokens.size(); ++i) {
    Token& t = p.tokens[i];
    t.bytes = replace_all(t.text, kMetaspace, " ");
    if (t.kind != TokenKind::kByte) continue;
    int byte = -1;
    if (t.text.size() == 6 && t.text.starts_with("<0x") && t.text.back() == '>' &&
        std::isxdigit(static_cast<unsigned char>(t.text[3])) && std::isxdigit(static_cast<unsigned char>(t.text[4])))
      byte = std::stoi(t.text.substr(3, 2), nullptr, 16);
    if (byte < 0) return bad_model("token {} is of type byte but is not spelled <0xXX>", i);
    t.bytes = std::string(1, static_cast<char>(byte));
  }
  return {};
}

Result<TokenId> unknown_token(const Metadata& m, const TokenizerParts& p) {
  LLORCH_TRY(TokenId unknown, token_id(m, "tokenizer.ggml.unknown_token_id", p.tokens.size()));
  for (std::size_t i = 0; unknown < 0 && i < p.tokens.size(); ++i)
    if (p.tokens[i].kind == TokenKind::kUnknown) unknown = static_cast<TokenId>(i);
  return unknown;
}

Status cut_nothing(const std::string& text, WorkLimit&, const TokenizerParts::Sink& sink) { return sink(text); }

Status read_gemma4(const Metadata& m, TokenizerParts& p) {
  p.kind = "gguf-gemma4";
  LLORCH_OK(read_spelled_bytes(p));
  LLORCH_TRY(const auto* lines, m.strings("tokenizer.ggml.merges"));
  if (lines->size() > text_limits::kMergesMax) return bad_model("there are {} merges", lines->size());
  std::vector<std::pair<std::string, std::string>> merges;
  for (std::size_t i = 0; i < lines->size(); ++i) {
    const std::string_view line = (*lines)[i];
    const std::size_t space = line.find(' ', 1);
    if (space == std::string_view::npos) return bad_model("merge {} is not a pair of tokens", i);
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  BpeOptions options;
  options.byte_units = false, options.byte_fallback = options.fuse_unknown = true;
  LLORCH_TRY(options.unknown, unknown_token(m, p));
  LLORCH_TRY(TokenMap map, index(p.tokens, false));
  LLORCH_TRY(p.model, make_bpe(std::move(map), merges, options));
  p.normalize = [](std::string_view text, bool, WorkLimit&) -> Result<std::string> {
    return replace_all(std::string(text), " ", kMetaspace);
  };
  p.cut = cut_nothing;
  return {};
}

Status read_spm(const Metadata& m, TokenizerParts& p) {
  p.kind = "gguf-spm";
  LLORCH_TRY(const auto scores, m.numbers("tokenizer.ggml.scores"));
  if (scores.size() != p.tokens.size()) return bad_model("{} scores for {} tokens", scores.size(), p.tokens.size());
  LLORCH_OK(read_spelled_bytes(p));
  LLORCH_TRY(const bool squeeze, m.boolean_or("tokenizer.ggml.remove_extra_whitespaces", false));
  if (squeeze) return bad_model("tokenizer.ggml.remove_extra_whitespaces is not supported");
  LLORCH_TRY(const bool prefix, m.boolean_or("tokenizer.ggml.add_space_prefix", true));
  LLORCH_TRY(const TokenId unknown, unknown_token(m, p));
  LLORCH_TRY(TokenMap map, index(p.tokens, false));
  LLORCH_TRY(p.model, make_spm(std::move(map), {scores.begin(), scores.end()}, unknown));
  p.normalize = [prefix](std::string_view text, bool first, WorkLimit&) -> Result<std::string> {
    return replace_all(prefix && first ? " " + std::string(text) : std::string(text), " ", kMetaspace);
  };
  p.cut = cut_nothing;
  p.strip_leading_space = prefix;
  return {};
}

/// Pieces that begin a word are spelled with U+2581, those of its rest without a mark.
Status read_bert(const Metadata& m, TokenizerParts& p) {
  p.kind = "gguf-bert";
  BertNormalization how;
  constexpr std::string_view kNormalizer = "tokenizer.ggml.normalizer.", kLower = "tokenizer.ggml.normalizer.lowercase",
                             kAccents = "tokenizer.ggml.normalizer.strip_accents";
  for (const Metadata::Entry& e : m.entries())
    if (e.key.starts_with(kNormalizer) && e.key != kLower && e.key != kAccents)
      return bad_model("metadata key '{}' is not understood: it may change how text is cut", e.key);
  LLORCH_TRY(how.lower_case, m.boolean_or(kLower, true));
  LLORCH_TRY(how.strip_accents, m.boolean_or(kAccents, how.lower_case));
  WordPieces pieces;
  pieces.starts.reserve(p.tokens.size()), pieces.insides.reserve(p.tokens.size());
  for (std::size_t i = 0; i < p.tokens.size(); ++i) {
    Token& t = p.tokens[i];
    const bool starts = t.text.starts_with(kMetaspace);
    const std::string piece = t.text.substr(starts ? kMetaspace.size() : 0);
    t.bytes = starts ? decoded_word(piece) : t.text;
    if (t.kind == TokenKind::kControl || t.kind == TokenKind::kUnused) continue;
    LLORCH_OK(add_token(starts ? pieces.starts : pieces.insides, piece, static_cast<TokenId>(i)));
  }
  LLORCH_TRY(pieces.unknown, unknown_token(m, p));
  LLORCH_TRY(p.model, make_word_piece(std::move(pieces)));
  p.normalize = [step = bert_text_step(how)](std::string_view text, bool, WorkLimit& limit) {
    return step(std::string(text), limit);
  };
  p.cut = [step = bert_cut_step()](const std::string& text, WorkLimit& limit,
                                   const TokenizerParts::Sink& sink) -> Status {
    std::vector<std::string> words{text};
    LLORCH_OK(step(words, limit));
    for (const std::string& word : words) LLORCH_OK(sink(word));
    return {};
  };
  p.strip_leading_space = true;
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_gguf(const Metadata& m) {
  TokenizerParts p;
  LLORCH_TRY(const std::string model, m.text("tokenizer.ggml.model"));
  LLORCH_TRY(p.tokens, read_tokens(m));
  if (model == "gpt2")
    LLORCH_OK(read_bpe(m, p));
  else if (model == "llama")
    LLORCH_OK(read_spm(m, p));
  else if (model == "gemma4")
    LLORCH_OK(read_gemma4(m, p));
  else if (model == "bert")
    LLORCH_OK(read_bert(m, p));
  else
    return bad_model("tokenizer model '{}' is not supported", model);
  LLORCH_OK(check_tokens(p.tokens));
  LLORCH_OK(read_ends(m, p));
  return std::make_unique<Tokenizer>(std::move(p));
}

}  // namespace llorch
