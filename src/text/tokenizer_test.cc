// Tokenizer rules on small vocabularies made by hand: merges, scores, byte fallback, added tokens, what is refused,
// adversarial length.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "test_data.h"
#include "text/pretokenizer.h"
#include "text/utf8.h"

namespace llorch {
namespace {

Metadata bpe_metadata() {
  Metadata m;
  m.set("tokenizer.ggml.model", MetaValue::text("gpt2"));
  m.set("tokenizer.ggml.pre", MetaValue::text("gpt-2"));
  m.set("tokenizer.ggml.tokens",
        MetaValue::strings({"a", "b", "c", "\u0120", "ab", "bc", "abc", "\u0120a", "<|end|>", "<x>", "<xy>"}));
  m.set("tokenizer.ggml.token_type", MetaValue::i32s({1, 1, 1, 1, 1, 1, 1, 1, 3, 4, 4}));
  m.set("tokenizer.ggml.merges", MetaValue::strings({"b c", "a b", "a bc", "\u0120 a"}));
  m.set("tokenizer.ggml.eos_token_id", MetaValue::u32(8));
  return m;
}

std::unique_ptr<Tokenizer> make(const Metadata& m) {
  auto t = Tokenizer::from_gguf(m);
  EXPECT_TRUE(t) << t.error().message;
  return std::move(*t);
}

TEST(Bpe, merges_by_rank_not_by_length_or_place) {
  const auto t = make(bpe_metadata());
  EXPECT_EQ(t->encode("abc", {}).value(), (TokenIds{6}));  // b c first, then a bc
  EXPECT_EQ(t->encode("ab", {}).value(), (TokenIds{4}));
  EXPECT_EQ(t->encode("aab", {}).value(), (TokenIds{0, 4}));
  EXPECT_EQ(t->encode("b a", {}).value(), (TokenIds{1, 7}));
  EXPECT_EQ(t->encode("", {}).value(), TokenIds{});
}

TEST(Bpe, control_tokens_only_where_asked_user_defined_ones_always) {
  const auto t = make(bpe_metadata());
  EXPECT_EQ(t->encode("a<|end|>b", {.parse_special = true}).value(), (TokenIds{0, 8, 1}));
  const TokenIds plain = t->encode("a<|end|>b", {}).value();
  EXPECT_EQ(std::ranges::count(plain, 8), 0);
  EXPECT_EQ(t->encode("a<xy>b<x>", {}).value(), (TokenIds{0, 10, 1, 9}));  // the longest of <x and <xy>
  EXPECT_EQ(t->piece(8), "");
  EXPECT_EQ(t->piece(8, true), "<|end|>");
  EXPECT_TRUE(t->ends(8));
  EXPECT_FALSE(t->ends(6));
}

TEST(Tokenizer, refuses_what_it_does_not_understand_by_name) {
  const auto error = [](const std::string& key, MetaValue value) {
    Metadata m = bpe_metadata();
    m.set(key, std::move(value));
    const auto t = Tokenizer::from_gguf(m);
    return t ? std::string("accepted") : t.error().message;
  };
  EXPECT_NE(error("tokenizer.ggml.pre", MetaValue::text("gpt-3")).find("'gpt-3'"), std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.model", MetaValue::text("t5")).find("'t5'"), std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.merges", MetaValue::strings({"a z"})).find("merge 0"), std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.merges", MetaValue::strings({"ab"})).find("merge 0"), std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.token_type", MetaValue::i32s({1})).find("1 token types for 11"), std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.token_type", MetaValue::i32s({1, 1, 1, 1, 1, 1, 1, 1, 3, 4, 9})).find("type 9"),
            std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.tokens", MetaValue::strings({})).find("0 entries"), std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.bos_token_id", MetaValue::u32(11)).find("bos_token_id"), std::string::npos);
  Metadata no_pre;
  const Metadata whole = bpe_metadata();
  for (const auto& e : whole.entries())
    if (e.key != "tokenizer.ggml.pre") no_pre.set(e.key, e.value);
  EXPECT_NE(Tokenizer::from_gguf(no_pre).error().message.find("cannot be guessed"), std::string::npos);
}

TEST(Tokenizer, refuses_text_that_is_no_utf8) {
  const auto t = make(bpe_metadata());
  for (const std::string text : {"\xff", "a\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe4\xb8"})
    EXPECT_FALSE(t->encode(text, {})) << text;
}

Metadata spm_metadata() {
  Metadata m;
  m.set("tokenizer.ggml.model", MetaValue::text("llama"));
  m.set("tokenizer.ggml.tokens", MetaValue::strings({"<unk>", "<s>", "</s>", "<0xC3>", "<0xA4>", "\u2581", "a", "b",
                                                     "\u2581a", "ab", "\u2581ab", "ba"}));
  m.set("tokenizer.ggml.token_type", MetaValue::i32s({2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1}));
  m.set("tokenizer.ggml.scores", MetaValue::f32s({0, 0, 0, 0, 0, -1, -2, -3, -5, -4, -6, -3.5}));
  m.set("tokenizer.ggml.bos_token_id", MetaValue::u32(1));
  m.set("tokenizer.ggml.eos_token_id", MetaValue::u32(2));
  return m;
}

TEST(Spm, joins_by_score_falls_back_to_bytes_and_prefixes_a_space) {
  const auto t = make(spm_metadata());
  EXPECT_EQ(t->encode("ab", {}).value(), (TokenIds{10}));           // ▁ab by ab (-4), then ▁ + ab
  EXPECT_EQ(t->encode("aba", {}).value(), (TokenIds{8, 11}));       // ba (-3.5) wins over ab (-4)
  EXPECT_EQ(t->encode("\u00e4", {}).value(), (TokenIds{5, 3, 4}));  // bytes C3 A4
  EXPECT_EQ(t->encode("\u00f6", {}).value(), (TokenIds{5, 3, 0}));  // B6 is no token: unknown
  EXPECT_EQ(t->encode("a", {.add_special = true}).value(), (TokenIds{1, 8}));
  EXPECT_EQ(t->decode(t->encode(" a  b", {}).value()), " a  b");
  Metadata m = spm_metadata();
  m.set("tokenizer.ggml.add_space_prefix", MetaValue::boolean(false));
  EXPECT_EQ(make(m)->encode("ab", {}).value(), (TokenIds{9}));
}

TEST(Spm, malformed_byte_tokens_are_refused) {
  for (const char* text : {"<0x-1>", "<0xGG>", "<0xA>", "<0x123>", ""}) {
    Metadata m = spm_metadata();
    MetaValue::Strings tokens = *m.strings("tokenizer.ggml.tokens").value();
    tokens[3] = text;
    m.set("tokenizer.ggml.tokens", MetaValue::strings(tokens));
    const auto t = Tokenizer::from_gguf(m);
    ASSERT_FALSE(t) << text;
    EXPECT_NE(t.error().message.find("token 3"), std::string::npos);
  }
}

constexpr const char* kUnigram =
    R"({"added_tokens":[{"id":6,"content":"<s>","special":true,"lstrip":true,"rstrip":true,"single_word":false,"normalized":false}],
  "normalizer":{"type":"NFKC"},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},
  "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{}},
  "decoder":{"type":"Metaspace","replacement":"▁"},
  "model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["▁",-2.0],["a",-3.0],["b",-3.0],["▁a",-3.5],["ab",-3.2]]}})";

TEST(HfJson, unigram_takes_the_best_sum_of_scores) {
  const auto t = Tokenizer::from_hf_json(kUnigram);
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_EQ((*t)->encode("ab", {}).value(), (TokenIds{1, 5}));   // ▁ + ab = -5.2; ▁a + b = -6.5
  EXPECT_EQ((*t)->encode("aa", {}).value(), (TokenIds{4, 2}));   // ▁a + a = -6.5; ▁ + a + a = -8
  EXPECT_EQ((*t)->encode("zz", {}).value(), (TokenIds{1, 0}));   // unknowns fuse
  EXPECT_EQ((*t)->encode("\uff41", {}).value(), (TokenIds{4}));  // NFKC: full-width a
  EXPECT_EQ((*t)->encode("a", {.add_special = true}).value(), (TokenIds{6, 4}));
  EXPECT_EQ((*t)->encode("a <s> b", {.parse_special = true}).value(), (TokenIds{4, 6, 1, 3}));  // strips to both sides
  EXPECT_EQ((*t)->decode(TokenIds{4, 2}), "aa");
}

TEST(HfJson, unknown_parts_are_refused_by_their_type) {
  const auto error = [](const std::string& from, const std::string& to) {
    const auto t = Tokenizer::from_hf_json(replace_all(kUnigram, from, to));
    return t ? std::string("accepted") : t.error().message;
  };
  EXPECT_NE(error("\"NFKC\"", "\"Precompiled\"").find("normalizer 'Precompiled'"), std::string::npos);
  EXPECT_NE(error("\"pre_tokenizer\":{\"type\":\"Metaspace\"", "\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"")
                .find("pre-tokenizer 'UnicodeScripts'"),
            std::string::npos);
  EXPECT_NE(error("\"Unigram\"", "\"WordLevel\"").find("'WordLevel'"), std::string::npos);
  EXPECT_NE(error("TemplateProcessing", "RobertaProcessing").find("'RobertaProcessing'"), std::string::npos);
  EXPECT_NE(error("\"id\":6", "\"id\":4000000000").find("beyond the vocabulary"), std::string::npos);
  EXPECT_NE(Tokenizer::from_hf_json("{").error().message.find("not valid JSON"), std::string::npos);
  EXPECT_FALSE(Tokenizer::from_hf_json("[]"));
  EXPECT_FALSE(Tokenizer::from_hf_json("{}"));
}

constexpr const char* kWordPiece =
    R"({"added_tokens":[{"id":0,"content":"[UNK]","special":true},{"id":1,"content":"[CLS]","special":true},
                     {"id":2,"content":"[SEP]","special":true}],
  "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
  "pre_tokenizer":{"type":"BertPreTokenizer"},
  "post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},
  "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
  "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
           "vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"un":3,"##aff":4,"##able":5,"##ab":6,"una":7,"e":8,"##e":9,"世":10,
                    "界":11,"!":12,"[":13,"]":14,"unk":15,"##a":16,"i":17,"##i":18}}})";

/// The same vocabulary as GGUF spells it.
Metadata word_piece_metadata() {
  Metadata m;
  m.set("tokenizer.ggml.model", MetaValue::text("bert"));
  m.set("tokenizer.ggml.tokens",
        MetaValue::strings({"[UNK]", "[CLS]", "[SEP]", "▁un", "aff", "able", "ab", "▁una", "▁e", "e", "▁世", "▁界",
                            "▁!", "▁[", "▁]", "▁unk", "a", "▁i", "i"}));
  m.set("tokenizer.ggml.token_type", MetaValue::i32s({3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  m.set("tokenizer.ggml.unknown_token_id", MetaValue::u32(0));
  m.set("tokenizer.ggml.cls_token_id", MetaValue::u32(1));
  m.set("tokenizer.ggml.seperator_token_id", MetaValue::u32(2));
  return m;
}

/// The ids are those of Hugging Face's library (tokenizers 0.22) for this vocabulary.
TEST(WordPiece, cuts_like_the_reference_from_both_formats) {
  const auto json = Tokenizer::from_hf_json(kWordPiece);
  ASSERT_TRUE(json) << json.error().message;
  const auto gguf = make(word_piece_metadata());
  std::string long_word(100, 'e');
  TokenIds long_ids(100, 9);
  long_ids[0] = 8;
  const std::pair<std::string, TokenIds> cases[] = {
      {"", {}},
      {"Un\u00c9", {3, 9}},                          // lower case, no accent
      {"E\u0301!!", {8, 12, 12}},                    // nor one of its own
      {"unab", {0}},                                 // the longest first piece is una, and no ##b follows it
      {"ex e", {0, 8}},                              // a word is unknown as a whole
      {"e\u4e16\u754ce", {8, 10, 11, 8}},            // Chinese characters are words
      {"e\u200be\u00a0e\x07\ufffde", {8, 9, 8, 9}},  // what cannot be seen goes, white space of any kind separates
      {"[UNK]", {13, 15, 14}},                       // text that spells a control token
      {"\u0130i", {17, 18}},
      {long_word, long_ids},
      {long_word + "e", {0}},
  };
  for (const auto& [text, ids] : cases) {
    EXPECT_EQ((*json)->encode(text, {}).value(), ids) << text;
    EXPECT_EQ(gguf->encode(text, {}).value(), ids) << "GGUF: " << text;
  }
  for (const Tokenizer* t : {json->get(), gguf.get()}) {
    EXPECT_EQ(t->encode("une", {.add_special = true}).value(), (TokenIds{1, 3, 9, 2})) << t->kind();
    EXPECT_EQ(t->encode("e[SEP]e", {.parse_special = true}).value(), (TokenIds{8, 2, 8})) << t->kind();
    EXPECT_EQ(t->decode(TokenIds{3, 4, 5, 12, 10}), "unaffable! 世") << t->kind();
  }
}

TEST(WordPiece, a_cased_vocabulary_keeps_letters_and_accents) {
  Metadata m = word_piece_metadata();
  m.set("tokenizer.ggml.normalizer.lowercase", MetaValue::boolean(false));
  const auto cased = make(m);
  EXPECT_EQ(cased->encode("une UNE un\u00e9", {}).value(), (TokenIds{3, 9, 0, 0}));
  m.set("tokenizer.ggml.normalizer.strip_accents", MetaValue::boolean(true));
  EXPECT_EQ(make(m)->encode("une UNE un\u00e9", {}).value(), (TokenIds{3, 9, 0, 3, 9}));
}

TEST(WordPiece, refuses_what_it_does_not_understand_by_name) {
  const auto error = [](const std::string& key, MetaValue value) {
    Metadata m = word_piece_metadata();
    m.set(key, std::move(value));
    const auto t = Tokenizer::from_gguf(m);
    return t ? std::string("accepted") : t.error().message;
  };
  EXPECT_NE(error("tokenizer.ggml.normalizer.nfkc", MetaValue::boolean(true)).find("normalizer.nfkc"),
            std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.normalizer.lowercase", MetaValue::text("yes")).find("normalizer.lowercase"),
            std::string::npos);
  EXPECT_NE(error("tokenizer.ggml.unknown_token_id", MetaValue::u32(UINT32_MAX)).find("unknown words"),
            std::string::npos);
  const auto json_error = [](const std::string& from, const std::string& to) {
    const auto t = Tokenizer::from_hf_json(replace_all(kWordPiece, from, to));
    return t ? std::string("accepted") : t.error().message;
  };
  EXPECT_NE(json_error("\"lowercase\":true", "\"lowercase\":1").find("'lowercase'"), std::string::npos);
  EXPECT_NE(json_error(":100", ":-1").find("'max_input_chars_per_word'"), std::string::npos);
  EXPECT_NE(json_error("\"unk_token\":\"[UNK]\"", "\"unk_token\":\"?\"").find("unknown words"), std::string::npos);
  EXPECT_NE(json_error("[\"[SEP]\",2]", "[\"[END]\",2]").find("'[END]'"), std::string::npos);
  EXPECT_NE(json_error("\"cls\":[\"[CLS]\",1]", "\"cls\":7").find("'cls'"), std::string::npos);
}

TEST(PreTokenizer, knows_the_ecosystems_names) {
  for (const std::string_view name : pretokenizer_names()) {
    const auto p = PreTokenizer::by_name(name);
    ASSERT_TRUE(p) << name << ": " << p.error().message;
    constexpr std::string_view kText = "Hello  World's 12345 ünï 世界\r\n\n x";
    WorkLimit limit(1'000'000);
    const Pieces pieces = p->split(kText, limit).value();
    EXPECT_GT(pieces.size(), 5u) << name << " does not cut";
    std::string joined;
    for (const std::string_view piece : pieces) joined += piece;
    EXPECT_EQ(joined, kText) << name << " loses text";
  }
}

TEST(PreTokenizer, the_table_of_models_has_its_names_and_no_others) {
  const std::string all = read_text_file(LLORCH_SOURCE_DIR "/docs/models.md", limits::kJsonBytesMax).value();
  const std::size_t begin = all.find("| names | cut like |"), end = all.find("Not accepted", begin);
  ASSERT_NE(end, std::string::npos);
  std::set<std::string, std::less<>> named;
  const std::string_view table = std::string_view(all).substr(begin, end - begin);
  for (std::size_t at = 0; (at = table.find('`', at)) != table.npos;) {
    const std::size_t close = table.find('`', at + 1);
    ASSERT_NE(close, table.npos);
    named.emplace(table.substr(at + 1, close - at - 1));
    at = close + 1;
  }
  const auto known = pretokenizer_names();
  EXPECT_EQ(named, (std::set<std::string, std::less<>>(known.begin(), known.end())));
  for (const char* name : {"pixtral", "default", "kimi-k2"}) EXPECT_FALSE(PreTokenizer::by_name(name)) << name;
}

TEST(Adversarial, a_megabyte_takes_work_in_proportion) {
  const auto spm = make(spm_metadata());
  const auto bpe = make(bpe_metadata());
  const auto bert = make(word_piece_metadata());
  const auto work = [](const Tokenizer& t, const std::string& text) {
    WorkLimit limit(1'000'000'000);
    EXPECT_TRUE(t.encode(text, {.limit = &limit}));
    return static_cast<double>(limit.used());
  };
  for (const std::string unit : {"a", " ", "ab", "<", "\n", "'", "e", "\u4e16"}) {
    std::string small, large;
    constexpr std::size_t kBytes = kSanitized ? 10'000 : 62'500;
    while (small.size() < kBytes) small += unit;
    while (large.size() < 16 * kBytes) large += unit;
    // Sixteen times the text: linear is 16, quadratic 256.
    for (const Tokenizer* t : {spm.get(), bpe.get(), bert.get()})
      EXPECT_LT(work(*t, large), 20 * work(*t, small)) << "unit '" << unit << "' " << t->kind();
  }
}

TEST(Utf8, accepts_exactly_the_valid_sequences) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string s;
    utf8_append(s, c);
    ASSERT_EQ(utf8_sequence(s), static_cast<int>(s.size())) << static_cast<std::uint32_t>(c);
    ASSERT_EQ(utf8_code_point(s, static_cast<int>(s.size())), c);
    for (std::size_t n = 1; n < s.size(); ++n)
      ASSERT_EQ(utf8_sequence(s.substr(0, n)), -1) << static_cast<std::uint32_t>(c);
  }
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3("})
    EXPECT_EQ(utf8_sequence(bad), 0) << bad;
}

}  // namespace
}  // namespace llorch
