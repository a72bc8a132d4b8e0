// Tokenizers from Hugging Face's tokenizer.json: normalizer, pre-tokenizer, BPE, Unigram or WordPiece model,
// post-processor, decoder, added tokens. What is not understood is refused by its type's name. Source: the documented
// schema of the `tokenizers` library.
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "base/limits.h"
#include "format/json.h"
#include "text/bert.h"
#include "text/limits.h"
#include "text/post_processor.h"
#include "text/pretokenizer.h"
#include "text/steps.h"
#include "text/tokenizer.h"
#include "text/tokenizer_writer.h"
#include "text/utf8.h"

namespace llorch {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// {"String": "x"} or {"Regex": "x"}, as a pattern.
Result<std::string> pattern_of(const json::object& o, bool& literal) {
  const json::object* pattern = json::find_object(o, "pattern");
  if (!pattern) return bad_model("tokenizer.json: a {} has no pattern", tokenizer_part_type(o));
  if (const auto text = json::find_text(*pattern, "String")) {
    literal = true;
    return *text;
  }
  literal = false;
  if (const auto regex = json::find_text(*pattern, "Regex")) return *regex;
  return bad_model("tokenizer.json: a {} has an unknown kind of pattern", tokenizer_part_type(o));
}

std::string quote(const std::string& literal) { return "\\Q" + replace_all(literal, "\\E", "\\E\\\\E\\Q") + "\\E"; }

class Reader {
 public:
  TokenizerParts parts;
  bool byte_level = false;
  bool metaspace = false;
  std::vector<std::string> split_patterns;  // for the converter: Split regexes in order
  bool only_splits = true;
  std::vector<std::pair<std::string, std::string>> merges;
  BpeOptions bpe;
  bool is_bpe = false;
  BertNormalization bert;
  int bert_steps = 0;          // normalizers and pre-tokenizers of BERT
  bool is_word_piece = false;  // with BERT's marks and longest word
  TokenId unknown_word = -1;   // of WordPiece
  bool pieces = true;          // no step but SentencePiece's: a mark in front (where it prepends), spaces become marks
  bool prepends = false;
  bool as_written = true;  // no normalizer but NFC, which GGUF's names of pre-tokenizers stand for where it is

  /// BPE over SentencePiece's pieces.
  [[nodiscard]] bool is_sentence_piece() const {
    return is_bpe && pieces && metaspace && !byte_level && bpe.byte_fallback && !bpe.ignore_merges;
  }
  /// WordPiece with what GGUF's tokenizer model `bert` says by its name.
  [[nodiscard]] bool is_bert() const {
    return is_word_piece && bert_steps == 2 && normalizers_.size() == 1 && cuts_.size() == 1 && bert.clean &&
           bert.separate_han && parts.prefix.size() <= 1 && parts.suffix.size() <= 1;
  }

  Status read(const json::object& root) {
    LLORCH_OK(read_normalizer(json::find_object(root, "normalizer")));
    if (const json::object* pre = json::find_object(root, "pre_tokenizer")) LLORCH_OK(read_pre(*pre));
    LLORCH_OK(read_decoder(json::find_object(root, "decoder")));
    LLORCH_OK(read_vocabulary(root));
    LLORCH_OK(read_model());
    LLORCH_OK(read_post_processor(json::find_object(root, "post_processor"), parts, steps_));
    parts.kind = "hf-json";
    parts.normalize = [steps = normalizers_](std::string_view text, bool, WorkLimit& limit) -> Result<std::string> {
      std::string result(text);
      for (const TextStep& step : steps) {
        LLORCH_OK(limit.charge(8 + result.size() / 8));
        LLORCH_TRY(result, step(std::move(result), limit));
        LLORCH_OK(check_growth(text.size(), result.size()));
      }
      return result;
    };
    parts.cut = [steps = cuts_](const std::string& text, WorkLimit& limit, const TokenizerParts::Sink& sink) -> Status {
      std::vector<std::string> words{text};
      for (const CutStep& step : steps) {
        LLORCH_OK(step(words, limit));
        std::size_t bytes = 0;
        for (const std::string& word : words) bytes += word.size();
        LLORCH_OK(limit.charge(8 + bytes / 8 + 2 * words.size()));
        LLORCH_OK(check_growth(text.size(), bytes));
      }
      for (const std::string& word : words) LLORCH_OK(sink(word));
      return {};
    };
    return check_tokens(parts.tokens);
  }

 private:
  // -------------------------------------------------------------------------------------------------------------
  // normalizer
  Status count_step() { return count_tokenizer_step(steps_); }
  static Result<std::string> replacement(const json::object& o, const char* key, std::string_view otherwise) {
    std::string text = json::find_text(o, key).value_or(std::string(otherwise));
    if (text.size() > text_limits::kReplacementBytesMax)
      return bad_model("tokenizer.json: a {} puts in {} bytes, at most {} are taken", tokenizer_part_type(o),
                       text.size(), text_limits::kReplacementBytesMax);
    return text;
  }

  /// Absent and null are `otherwise`; what is no truth value is refused.
  static Result<bool> flag_of(const json::object& o, const char* key, bool otherwise) {
    const json::value* v = json::find(o, key);
    if (!v || v->is_null()) return otherwise;
    if (!v->is_bool())
      return bad_model("tokenizer.json: '{}' of a {} is neither true nor false", key, tokenizer_part_type(o));
    return v->get_bool();
  }

  Status read_normalizer(const json::object* o) {
    if (!o) return {};
    const std::string type = tokenizer_part_type(*o);
    if (type != "Sequence") {
      pieces = pieces && (type == "Prepend" || type == "Replace");
      as_written = as_written && type == "NFC";
    }
    const auto add = [&](TextStep step) {
      normalizers_.push_back(std::move(step));
      return count_step();
    };
    const auto form = [&](int option) { return add(unicode_form_step(option)); };
    if (type == "NFC") return form(UTF8PROC_COMPOSE);
    if (type == "NFD") return form(UTF8PROC_DECOMPOSE);
    if (type == "NFKC") return form(UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    if (type == "NFKD") return form(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
    if (type == "Sequence") {
      const json::array* list = json::find_array(*o, "normalizers");
      if (!list) return bad_model("tokenizer.json: a Sequence has no normalizers");
      for (const json::value& v : *list) LLORCH_OK(read_normalizer(v.if_object()));
      return {};
    }
    if (type == "Lowercase") return add(lower_case_step());
    if (type == "Prepend") {
      LLORCH_TRY(const std::string what, replacement(*o, "prepend", ""));
      prepends = true, pieces = pieces && what == kMetaspace;
      return add(
          [what](std::string text, WorkLimit&) -> Result<std::string> { return text.empty() ? text : what + text; });
    }
    if (type == "Replace") {
      bool literal = false;
      LLORCH_TRY(const std::string pattern, pattern_of(*o, literal));
      LLORCH_TRY(Regex regex, Regex::compile(literal ? quote(pattern) : pattern));
      LLORCH_TRY(const std::string content, replacement(*o, "content", ""));
      if (pattern == " " && content == kMetaspace)
        metaspace = true;
      else
        pieces = false;
      return add(replace_step(std::move(regex), content));
    }
    if (type == "Strip") {
      const bool left = json::find_bool(*o, "strip_left").value_or(true),
                 right = json::find_bool(*o, "strip_right").value_or(true);
      LLORCH_TRY(Regex regex, Regex::compile(left && right ? R"(^\s+|\s+$)" : left ? R"(^\s+)" : R"(\s+$)"));
      return add(replace_step(std::move(regex), ""));
    }
    if (type == "BertNormalizer") {
      LLORCH_TRY(bert.clean, flag_of(*o, "clean_text", true));
      LLORCH_TRY(bert.separate_han, flag_of(*o, "handle_chinese_chars", true));
      LLORCH_TRY(bert.lower_case, flag_of(*o, "lowercase", true));
      LLORCH_TRY(bert.strip_accents, flag_of(*o, "strip_accents", bert.lower_case));
      ++bert_steps;
      return add(bert_text_step(bert));
    }
    return bad_model("tokenizer.json: normalizer '{}' is not supported", type);
  }

  // ----------------------------------------------------------------------------------------------------------
  // pre-tokenizer
  using Behavior = SplitBehavior;

  static Result<Behavior> behavior_of(const std::string& name) {
    if (name == "Isolated") return Behavior::kIsolated;
    if (name == "Removed") return Behavior::kRemoved;
    if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
    if (name == "MergedWithNext") return Behavior::kMergedWithNext;
    if (name == "Contiguous") return Behavior::kContiguous;
    return bad_model("tokenizer.json: split behaviour '{}' is not supported", name);
  }

  Status add_split(const std::string& pattern, Behavior behavior, bool invert) {
    LLORCH_TRY(Regex regex, Regex::compile(pattern, known_pattern(pattern)));
    cuts_.push_back(split_step(std::move(regex), behavior, invert));
    return count_step();
  }

  /// Spaces become the replacement, and words begin at it.
  Status add_metaspace(const json::object& o) {
    LLORCH_TRY(const std::string mark, replacement(o, "replacement", kMetaspace));
    std::string scheme = json::find_text(o, "prepend_scheme").value_or("");
    if (scheme.empty()) scheme = json::find_bool(o, "add_prefix_space").value_or(true) ? "always" : "never";
    metaspace = true;
    if (scheme != "never") parts.strip_leading_space = true;
    cuts_.push_back(metaspace_step(mark, scheme != "never"));
    LLORCH_OK(count_step());
    return json::find_bool(o, "split").value_or(true) ? add_split(quote(mark), Behavior::kMergedWithNext, false)
                                                      : Status();
  }

  Status read_pre(const json::object& o) {
    const std::string type = tokenizer_part_type(o);
    if (type == "Sequence") {
      const json::array* list = json::find_array(o, "pretokenizers");
      if (!list) return bad_model("tokenizer.json: a Sequence has no pretokenizers");
      for (const json::value& v : *list) {
        if (!v.is_object()) return bad_model("tokenizer.json: a pre-tokenizer is no object");
        LLORCH_OK(read_pre(v.get_object()));
      }
      return {};
    }
    if (type == "Split") {
      bool literal = false;
      LLORCH_TRY(const std::string pattern, pattern_of(o, literal));
      LLORCH_TRY(const Behavior behavior, behavior_of(json::find_text(o, "behavior").value_or("")));
      const bool invert = json::find_bool(o, "invert").value_or(false);
      pieces = pieces && literal && pattern == " ";  // which are marks by then
      if (behavior == Behavior::kIsolated && !invert && !literal)
        split_patterns.push_back(pattern);
      else
        only_splits = only_splits && behavior == Behavior::kRemoved && invert;
      if (behavior == Behavior::kRemoved && invert) split_patterns.push_back(pattern);
      return add_split(literal ? quote(pattern) : pattern, behavior, invert);
    }
    pieces = false;
    if (type == "ByteLevel") {
      byte_level = true;
      if (json::find_bool(o, "add_prefix_space").value_or(true)) {
        only_splits = false;
        cuts_.push_back(space_prefix_step());
        LLORCH_OK(count_step());
      }
      if (!json::find_bool(o, "use_regex").value_or(true)) return {};
      split_patterns.emplace_back(kGpt2Pattern);
      return add_split(std::string(kGpt2Pattern), Behavior::kIsolated, false);
    }
    if (type == "Digits") {
      const bool single = json::find_bool(o, "individual_digits").value_or(false);
      split_patterns.emplace_back(single ? R"(\p{N})" : R"(\p{N}+)");
      return add_split(split_patterns.back(), Behavior::kIsolated, false);
    }
    only_splits = false;
    if (type == "Whitespace") return add_split(R"(\w+|[^\w\s]+)", Behavior::kRemoved, true);
    if (type == "WhitespaceSplit") return add_split(R"(\s+)", Behavior::kRemoved, false);
    if (type == "Punctuation") {
      LLORCH_TRY(const Behavior behavior, behavior_of(json::find_text(o, "behavior").value_or("Isolated")));
      return add_split(R"([\p{P}!-/:-@\[-`{-~])", behavior, false);
    }
    if (type == "BertPreTokenizer") {
      cuts_.push_back(bert_cut_step());
      ++bert_steps;
      return count_step();
    }
    if (type == "Metaspace") return add_metaspace(o);
    return bad_model("tokenizer.json: pre-tokenizer '{}' is not supported", type);
  }

  // ---------------------------------------------------------------------------------------------------------------
  // decoder
  Status read_decoder(const json::object* o) {
    if (!o) return {};
    const std::string type = tokenizer_part_type(*o);
    if (type == "Sequence") {
      const json::array* list = json::find_array(*o, "decoders");
      if (!list) return bad_model("tokenizer.json: a Sequence has no decoders");
      for (const json::value& v : *list) LLORCH_OK(read_decoder(v.if_object()));
      return {};
    }
    if (type == "ByteLevel") return byte_level = true, Status();
    if (type == "ByteFallback" || type == "Fuse") return {};
    if (type == "Metaspace") return metaspace = true, Status();
    if (type == "Replace") return metaspace = metaspace || json::find_text(*o, "content").value_or("") == " ", Status();
    if (type == "Strip") {
      if (json::find_text(*o, "content").value_or("") == " " && json::find_unsigned(*o, "start").value_or(0) == 1)
        parts.strip_leading_space = true;
      return {};
    }
    if (type == "WordPiece") {
      inside_mark_ = json::find_text(*o, "prefix").value_or("##");
      LLORCH_TRY(cleans_up_, flag_of(*o, "cleanup", true));
      parts.strip_leading_space = true;
      return {};
    }
    return bad_model("tokenizer.json: decoder '{}' is not supported", type);
  }

  // ------------------------------------------------------------------------------------------------- vocabulary and
  // model
  Status put_token(std::uint64_t id, std::string text, TokenKind kind) {
    if (id >= limits::kVocabMax)
      return bad_model("tokenizer.json: token id {} is outside 0..{}", id, limits::kVocabMax - 1);
    if (id >= parts.tokens.size()) parts.tokens.resize(id + 1, Token{"", "", TokenKind::kUnused});
    parts.tokens[id].text = std::move(text);
    parts.tokens[id].kind = kind;
    return {};
  }

  Status read_vocabulary(const json::object& root) {
    model_ = json::find_object(root, "model");
    if (!model_) return bad_model("tokenizer.json has no model");
    if (const json::object* vocab = json::find_object(*model_, "vocab")) {
      for (const auto& [text, id] : *vocab) {
        const auto number = json::as_unsigned(id);
        if (!number) return bad_model("tokenizer.json: a token has no id");
        if (*number > 4 * vocab->size() + 1024)
          return bad_model("tokenizer.json: token id {} is far beyond the {} entries", *number, vocab->size());
        LLORCH_OK(put_token(*number, std::string(text.data(), text.size()), TokenKind::kNormal));
      }
    } else if (const json::array* list = json::find_array(*model_, "vocab")) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        const json::array* pair = (*list)[i].if_array();
        const auto score = pair && pair->size() == 2 ? json::as_number((*pair)[1]) : std::nullopt;
        if (!score || !(*pair)[0].is_string())
          return bad_model("tokenizer.json: vocabulary entry {} is no [text, score]", i);
        LLORCH_OK(put_token(i, std::string((*pair)[0].get_string().data(), (*pair)[0].get_string().size()),
                            TokenKind::kNormal));
        scores_.push_back(*score);
      }
    } else {
      return bad_model("tokenizer.json: the model has no vocab");
    }
    base_size_ = parts.tokens.size();
    for (std::size_t i = 0; i < base_size_; ++i) {
      Token& t = parts.tokens[i];
      t.bytes = byte_level     ? bytes_of_token(t.text).value_or(t.text)
                : metaspace    ? replace_all(t.text, kMetaspace, " ")
                : inside_mark_ ? decoded_piece(t.text)
                               : t.text;
      if (t.text.size() == 6 && t.text.starts_with("<0x") && t.text.back() == '>' && !byte_level) {
        std::uint8_t byte = 0;
        const char* digits = t.text.data() + 3;
        if (std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2)
          t.bytes = std::string(1, static_cast<char>(byte)), t.kind = TokenKind::kByte;
      }
    }
    return read_added(json::find_array(root, "added_tokens"));
  }

  std::string decoded_piece(const std::string& text) const {
    if (text.starts_with(*inside_mark_)) return text.substr(inside_mark_->size());
    return cleans_up_ ? decoded_word(text) : " " + text;
  }

  Status read_added(const json::array* added) {
    if (!added) return {};
    for (const json::value& v : *added) {
      const json::object* o = v.if_object();
      const auto id = o ? json::find_unsigned(*o, "id") : std::nullopt;
      const auto content = o ? json::find_text(*o, "content") : std::nullopt;
      if (!id || !content) return bad_model("tokenizer.json: an added token lacks id or content");
      if (*id > 4 * base_size_ + 65536)
        return bad_model("tokenizer.json: added token id {} is far beyond the vocabulary", *id);
      LLORCH_OK(
          put_token(*id, *content,
                    json::find_bool(*o, "special").value_or(false) ? TokenKind::kControl : TokenKind::kUserDefined));
      Token& t = parts.tokens[*id];
      t.bytes = *content;
      t.strip_left = json::find_bool(*o, "lstrip").value_or(false);
      t.strip_right = json::find_bool(*o, "rstrip").value_or(false);
      t.single_word = json::find_bool(*o, "single_word").value_or(false);
    }
    return {};
  }

  Result<TokenMap> token_map() const {
    TokenMap map;
    map.reserve(base_size_);
    for (std::size_t i = 0; i < base_size_; ++i) {
      const Token& t = parts.tokens[i];
      if (t.kind == TokenKind::kUnused) continue;
      LLORCH_OK(add_token(map, byte_level && t.kind == TokenKind::kNormal ? t.bytes : t.text, static_cast<TokenId>(i)));
    }
    return map;
  }

  /// Control tokens are no pieces: text from users never becomes one.
  Status read_word_piece() {
    WordPieces pieces;
    pieces.starts.reserve(base_size_), pieces.insides.reserve(base_size_);
    const std::string mark = json::find_text(*model_, "continuing_subword_prefix").value_or("##");
    const std::string unknown = json::find_text(*model_, "unk_token").value_or("[UNK]");
    for (std::size_t i = 0; i < base_size_; ++i) {
      const Token& t = parts.tokens[i];
      const auto id = static_cast<TokenId>(i);
      if (t.text == unknown && t.kind != TokenKind::kUnused) pieces.unknown = id;
      if (t.kind == TokenKind::kUnused || t.kind == TokenKind::kControl) continue;
      LLORCH_OK(add_token(pieces.starts, t.text, id));
      if (t.text.starts_with(mark)) LLORCH_OK(add_token(pieces.insides, t.text.substr(mark.size()), id));
    }
    if (const json::value* most = json::find(*model_, "max_input_chars_per_word")) {
      const auto number = json::as_unsigned(*most);
      if (!number) return bad_model("tokenizer.json: 'max_input_chars_per_word' is no whole number");
      pieces.word_characters_max = *number;
    }
    unknown_word = pieces.unknown;
    is_word_piece = mark == "##" && pieces.word_characters_max == WordPieces().word_characters_max;
    LLORCH_TRY(parts.model, make_word_piece(std::move(pieces)));
    return {};
  }

  Status read_model() {
    std::string type = tokenizer_part_type(*model_);
    if (type.empty()) type = json::find_array(*model_, "merges") ? "BPE" : "Unigram";
    const bool fallback = json::find_bool(*model_, "byte_fallback").value_or(false);
    if (type == "Unigram") {
      const auto unknown = json::find_unsigned(*model_, "unk_id");
      if (scores_.size() != base_size_) return bad_model("tokenizer.json: a Unigram vocabulary needs scores");
      LLORCH_TRY(TokenMap map, token_map());
      LLORCH_TRY(parts.model,
                 make_unigram(std::move(map), scores_,
                              unknown && *unknown < base_size_ ? static_cast<TokenId>(*unknown) : -1, fallback));
      return {};
    }
    if (type == "WordPiece") return read_word_piece();
    if (type != "BPE") return bad_model("tokenizer.json: model '{}' is not supported", type);
    is_bpe = true;
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!json::find_text(*model_, key).value_or("").empty())
        return bad_model("tokenizer.json: '{}' is not supported", key);
    if (const auto dropout = json::find_number(*model_, "dropout"); dropout && *dropout > 0)
      return bad_model("tokenizer.json: 'dropout' is not supported");
    bpe.byte_units = byte_level;
    bpe.byte_fallback = fallback;
    bpe.ignore_merges = json::find_bool(*model_, "ignore_merges").value_or(false);
    bpe.fuse_unknown = json::find_bool(*model_, "fuse_unk").value_or(false);
    LLORCH_TRY(TokenMap map, token_map());
    if (const auto unknown = json::find_text(*model_, "unk_token"))
      if (const auto found = map.find(*unknown); found != map.end()) bpe.unknown = found->second;
    const json::array* list = json::find_array(*model_, "merges");
    if (!list) return bad_model("tokenizer.json: a BPE model has no merges");
    if (list->size() > text_limits::kMergesMax) return bad_model("tokenizer.json has {} merges", list->size());
    for (const json::value& v : *list) LLORCH_OK(read_merge(v));
    LLORCH_TRY(parts.model, make_bpe(std::move(map), merges, bpe));
    return {};
  }

  /// "a b" or ["a", "b"].
  Status read_merge(const json::value& v) {
    std::string left, right;
    if (const json::array* pair = v.if_array();
        pair && pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
      left.assign((*pair)[0].get_string().data(), (*pair)[0].get_string().size());
      right.assign((*pair)[1].get_string().data(), (*pair)[1].get_string().size());
    } else if (v.is_string()) {
      const std::string line(v.get_string().data(), v.get_string().size());
      const std::size_t space = line.find(' ');
      if (space == std::string::npos) return bad_model("tokenizer.json: merge {} is no pair", merges.size());
      left = line.substr(0, space), right = line.substr(space + 1);
    } else {
      return bad_model("tokenizer.json: merge {} is no pair", merges.size());
    }
    if (byte_level) {
      const auto a = bytes_of_token(left), b = bytes_of_token(right);
      if (!a || !b) return bad_model("tokenizer.json: merge {} leaves the byte-level alphabet", merges.size());
      left = *a, right = *b;
    }
    merges.emplace_back(std::move(left), std::move(right));
    return {};
  }

  std::size_t steps_ = 0;
  std::vector<TextStep> normalizers_;
  std::vector<CutStep> cuts_;
  const json::object* model_ = nullptr;
  std::vector<double> scores_;
  std::size_t base_size_ = 0;
  std::optional<std::string> inside_mark_;  // of a WordPiece decoder
  bool cleans_up_ = false;
};

/// Adds the end ids of a JSON file's "eos_token_id" (a number or a list).
void read_end_ids(const std::string& path, std::size_t vocab, std::set<TokenId>& ends) {
  std::error_code problem;
  if (!std::filesystem::exists(path, problem)) return;
  const auto parsed = json::parse_file(path);
  const json::value* v = parsed && parsed->is_object() ? json::find(parsed->get_object(), "eos_token_id") : nullptr;
  if (!v) return;
  const auto add = [&](const json::value& one) {
    if (const auto id = json::as_unsigned(one); id && *id < vocab) ends.insert(static_cast<TokenId>(*id));
  };
  if (const json::array* list = v->if_array())
    for (const json::value& one : *list) add(one);
  else
    add(*v);
}

Status read_json(const json::value& root, Reader& reader) {
  if (!root.is_object()) return bad_model("tokenizer.json is no JSON object");
  LLORCH_OK(reader.read(root.get_object()));
  TokenizerParts& p = reader.parts;
  for (std::size_t i = 0; i < p.tokens.size(); ++i)
    if (p.tokens[i].kind == TokenKind::kControl && is_end_spelling(p.tokens[i].text))
      p.end_ids.insert(static_cast<TokenId>(i));
  return {};
}

Status read_directory(const std::string& directory, Reader& reader) {
  const std::filesystem::path path(directory);
  std::error_code problem;
  if (!std::filesystem::exists(path / "tokenizer.json", problem)) {
    if (std::filesystem::exists(path / "tokenizer.model", problem))
      return bad_model("{} has only a SentencePiece tokenizer.model: convert it to tokenizer.json first", directory);
    return bad_model("{} has no tokenizer.json", directory);
  }
  LLORCH_TRY(const json::value root, json::parse_file(path / "tokenizer.json"));
  LLORCH_OK(read_json(root, reader));
  for (const char* file : {"config.json", "generation_config.json"})
    read_end_ids(path / file, reader.parts.tokens.size(), reader.parts.end_ids);
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_hf(const std::string& directory) {
  Reader reader;
  LLORCH_OK(read_directory(directory, reader));
  return std::make_unique<Tokenizer>(std::move(reader.parts));
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_hf_json(std::string_view text) {
  LLORCH_TRY(const json::value root, json::parse(text, "tokenizer.json"));
  Reader reader;
  LLORCH_OK(read_json(root, reader));
  return std::make_unique<Tokenizer>(std::move(reader.parts));
}

Status hf_tokenizer_to_metadata(const std::string& directory, Metadata& out) {
  Reader reader;
  LLORCH_OK(read_directory(directory, reader));
  const bool bert = reader.is_bert();
  if (reader.is_sentence_piece())
    return write_sentence_piece({reader.parts, reader.merges, reader.bpe.unknown, reader.prepends}, out);
  if (!bert && (!reader.is_bpe || !reader.byte_level || !reader.only_splits))
    return fail(ErrorCode::kUnsupportedValue,
                "this tokenizer.json is neither byte-level BPE nor SentencePiece's nor BERT's: it cannot be written as "
                "GGUF metadata");
  if (!bert && !reader.as_written)
    return fail(ErrorCode::kUnsupportedValue,
                "the normalizer of this tokenizer.json (other than NFC) cannot be written as GGUF metadata");
  const std::string_view pre = bert ? "default" : pretokenizer_name(reader.split_patterns);
  if (pre.empty())
    return fail(ErrorCode::kUnsupportedValue,
                "the pre-tokenizer of this tokenizer.json has no name in GGUF's vocabulary");
  const TokenizerParts& p = reader.parts;
  MetaValue::Strings tokens, merges;
  MetaValue::Integers kinds;
  for (const Token& t : p.tokens) {
    // BERT's pieces are marked where a word begins, not inside it.
    const bool piece = bert && t.kind == TokenKind::kNormal;
    const bool inside = piece && t.text.starts_with("##");
    tokens.push_back(inside ? t.text.substr(2) : piece ? std::string(kMetaspace) + t.text : t.text);
    kinds.push_back(static_cast<int>(t.kind));
  }
  out.set("tokenizer.ggml.model", MetaValue::text(bert ? "bert" : "gpt2"));
  out.set("tokenizer.ggml.pre", MetaValue::text(std::string(pre)));
  out.set("tokenizer.ggml.tokens", MetaValue::strings(std::move(tokens)));
  out.set("tokenizer.ggml.token_type", MetaValue::i32s(std::move(kinds)));
  LLORCH_OK(write_special_tokens(p, out));
  if (bert) {
    out.set("tokenizer.ggml.unknown_token_id", MetaValue::u32(static_cast<std::uint32_t>(reader.unknown_word)));
    out.set("tokenizer.ggml.normalizer.lowercase", MetaValue::boolean(reader.bert.lower_case));
    out.set("tokenizer.ggml.normalizer.strip_accents", MetaValue::boolean(reader.bert.strip_accents));
    return {};
  }
  LLORCH_TRY(const json::value root, json::parse_file(std::filesystem::path(directory) / "tokenizer.json"));
  for (const json::value& v : *json::find_array(*json::find_object(root.get_object(), "model"), "merges")) {
    if (v.is_string())
      merges.emplace_back(v.get_string().data(), v.get_string().size());
    else
      merges.push_back(std::string(v.get_array()[0].get_string().c_str()) + " " +
                       v.get_array()[1].get_string().c_str());
  }
  out.set("tokenizer.ggml.merges", MetaValue::strings(std::move(merges)));
  return {};
}

}  // namespace llorch
