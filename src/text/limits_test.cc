// What hostile tokenizers and hostile texts may cost (issue 15, number 3): each attack ends with an error or within
// units that are counted, so that no test looks at a clock.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "test_data.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

namespace llorch {
namespace {

std::string tokenizer_json(const std::string& more, const std::string& model = "") {
  return R"({"added_tokens":[{"id":3,"content":"<x>","special":true}],)" + more + R"("model":)" +
         (model.empty() ? R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})" : model) + "}";
}
std::unique_ptr<Tokenizer> make(const std::string& json) {
  auto t = Tokenizer::from_hf_json(json);
  EXPECT_TRUE(t) << t.error().message;
  return t ? std::move(*t) : nullptr;
}
std::string refusal(const std::string& json) {
  const auto t = Tokenizer::from_hf_json(json);
  return t ? "accepted" : t.error().message;
}
Result<TokenIds> encode(const Tokenizer& t, std::string_view text, std::uint64_t units) {
  WorkLimit limit(units);
  auto ids = t.encode(text, {.parse_special = true, .limit = &limit});
  EXPECT_LE(limit.used(), units);
  return ids;
}
std::string sequence(const std::string& step, int count) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i ? "," : "") + step;
  return R"({"type":"Sequence","normalizers":[)" + list + R"(],"pretokenizers":[)" + list + "]}";
}

TEST(TokenizerLimits, growing_replacements_end_where_the_text_has_grown_too_much) {
  const std::string doubling = R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  const auto t = make(tokenizer_json("\"normalizer\":" + sequence(doubling, 40) + ","));
  const auto ids = encode(*t, "aaaa", 100'000'000);
  ASSERT_FALSE(ids);
  EXPECT_NE(ids.error().message.find("tokenizer makes more than"), std::string::npos) << ids.error().message;
  const std::string mark = R"({"type":"Metaspace","replacement":"xx","prepend_scheme":"always","split":false},)"
                           R"({"type":"Split","pattern":{"Regex":"."},"behavior":"Isolated"})";
  const auto m = make(tokenizer_json("\"pre_tokenizer\":" + sequence(mark, 30) + ","));
  EXPECT_FALSE(encode(*m, "ab", 100'000'000));
  EXPECT_NE(refusal(tokenizer_json("\"normalizer\":" + sequence(doubling, 65) + ",")).find("more than 64 steps"),
            std::string::npos);
  const std::string large = R"({"type":"Prepend","prepend":")" + std::string(100'000, 'x') + R"("})";
  EXPECT_NE(refusal(tokenizer_json("\"normalizer\":" + large + ",")).find("puts in 100000 bytes"), std::string::npos);
}

TEST(TokenizerLimits, ids_that_spell_gigabytes_are_refused) {
  const std::string piece(16'000, 'a');
  const auto t = make(tokenizer_json("", R"({"type":"Unigram","unk_id":0,"vocab":[["u",0],[")" + piece + R"(",-1]]})"));
  const TokenIds ids(100'000, 1);  // 1.6 GB
  WorkLimit limit(1'000'000'000);
  const auto text = t->decode(ids, false, limit);
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message.find("spell more than"), std::string::npos) << text.error().message;
  WorkLimit little(10'000);
  EXPECT_FALSE(t->decode(ids, false, little));
  EXPECT_EQ(t->decode(TokenIds{1}, false, limit), piece);
}

TEST(TokenizerLimits, a_piece_of_megabytes_is_refused_and_long_ones_are_charged) {
  const auto unigram = [](const std::string& piece) {
    return tokenizer_json("", R"({"type":"Unigram","unk_id":0,"vocab":[["u",0],["a",-1],[")" + piece + R"(",-2]]})");
  };
  EXPECT_NE(refusal(unigram(std::string(3'000'000, 'a'))).find("at most 16384"), std::string::npos);
  EXPECT_NE(
      refusal(tokenizer_json("", R"({"type":"BPE","vocab":{")" + std::string(3'000'000, 'a') + R"(":0},"merges":[]})"))
          .find("at most 16384"),
      std::string::npos);
  constexpr std::size_t kPiece = kSanitized ? 4'000 : 16'000;
  const auto t = make(unigram(std::string(kPiece, 'a')));
  EXPECT_FALSE(encode(*t, std::string(100'000, 'a'), 50'000'000));
  // What does not begin like the long piece costs nothing for it.
  EXPECT_TRUE(encode(*t, std::string(100'000, 'b'), 5'000'000));
  EXPECT_EQ(encode(*t, std::string(kPiece + 1, 'a'), 1'000'000'000).value().size(), 2u);
}

TEST(TokenizerLimits, one_long_word_is_merged_in_proportion_to_its_length) {
  std::string vocab, merges;
  vocab = R"("a":0)";
  std::string piece = "a";
  for (int i = 1; i <= 12; ++i) {
    merges += (i > 1 ? "," : "") + ("[\"" + piece + "\",\"" + piece + "\"]");
    piece += piece;
    vocab += ",\"" + piece + "\":" + std::to_string(i < 3 ? i : i + 1);
  }
  const auto t = make(tokenizer_json("", R"({"type":"BPE","vocab":{)" + vocab + R"(},"merges":[)" + merges + "]}"));
  EXPECT_TRUE(encode(*t, std::string(1'000'000, 'a'), 100'000'000));
  EXPECT_FALSE(encode(*t, std::string(1'000'000, 'a'), 1'000'000));
  EXPECT_NE(encode(*t, std::string((16u << 20) + 1, 'a'), 1'000'000'000).error().message.find("cannot be cut"),
            std::string::npos);
}

TEST(TokenizerLimits, word_pieces_of_any_length_are_charged) {
  const auto vocab = [](const std::string& longest) {
    return tokenizer_json(
        "",
        R"({"type":"WordPiece","unk_token":"u","max_input_chars_per_word":10000000,"vocab":{"u":0,"a":1,"##a":2,"##)" +
            longest + R"(b":4}})");
  };
  const auto t = make(vocab("a"));
  EXPECT_EQ(encode(*t, std::string(100'000, 'a'), 10'000'000).value().size(), 100'000u);
  // Each place of the text asks for all sizes up to the longest piece's.
  const auto far = make(vocab(std::string(2'000, 'a')));
  EXPECT_FALSE(encode(*far, std::string(5'000, 'a'), 100'000'000));
}

TEST(TokenizerLimits, added_tokens_that_nearly_match_everywhere_are_charged) {
  const auto t = make(R"({"added_tokens":[{"id":3,"content":")" + std::string(16'000, 'a') +
                      R"(b","special":false}],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})");
  EXPECT_FALSE(encode(*t, std::string(200'000, 'a'), 100'000'000));
  std::string many = R"({"added_tokens":[)";
  for (int i = 0; i < 400; ++i)
    many += (i ? "," : "") + (R"({"id":)" + std::to_string(3 + i) + R"(,"content":")" + std::to_string(i) +
                              std::string(16'000, 'a') + "\"}");
  EXPECT_NE(refusal(many + R"(],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})").find("the added tokens have"),
            std::string::npos);
}

TEST(TokenizerLimits, patterns_that_backtrack_end_and_each_call_of_the_matcher_is_bounded) {
  const auto split = [](const std::string& pattern) {
    return make(tokenizer_json(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":")" + pattern +
                               R"("},"behavior":"Isolated"},)"));
  };
  EXPECT_FALSE(encode(*split("(a+)+$"), std::string(5'000, 'a') + "b", 100'000'000));
  // Two million starts with a walk to the end from each: the limit is looked at all the way.
  EXPECT_FALSE(encode(*split("(?:\\\\s|x)+$"), std::string(2'000'000, ' ') + "x", 100'000));
  EXPECT_NE(refusal(tokenizer_json(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":")" +
                                   std::string(70'000, 'a') + R"("},"behavior":"Isolated"},)"))
                .find("longer than"),
            std::string::npos);
}

/// Quadratic work over a text of this length would outlast the suite's time.
#ifdef LLORCH_SANITIZED
constexpr std::size_t kLongTextBytes = 60'000;
#else
constexpr std::size_t kLongTextBytes = 300'000;
#endif

TEST(TokenizerLimits, the_patterns_behind_names_take_time_in_proportion_to_any_text) {
  for (const char* name : {"gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder", "deepseek-v3", "starcoder",
                           "falcon", "gpt-4o", "tekken", "bloom", "viking", "qwen35", "seed-coder"})
    for (const std::string unit : {" ", "\n", "a", "A", "1", "'", "!", "\u4e16", " \n", "\u0301"}) {
      std::string text;
      while (text.size() < kLongTextBytes) text += unit;
      WorkLimit limit(64'000'000);
      EXPECT_TRUE(PreTokenizer::by_name(name)->split(text + "x", limit)) << name << " '" << unit << "'";
    }
}

TEST(TokenizerLimits, matches_are_the_same_wherever_a_call_ends) {
  const auto regex = Regex::compile("\\p{N}+|ä+");
  std::string text;
  std::vector<std::pair<std::size_t, std::size_t>> want, got;
  for (int i = 1; i < 300; ++i) {
    text += std::string(static_cast<std::size_t>(i * 37 % 5'000), i % 2 ? 'x' : ' ') + "\u4e16";
    const std::string piece = i % 3 ? std::to_string(i) : "ää";
    want.emplace_back(text.size(), text.size() + piece.size());
    text += piece;
  }
  WorkLimit limit(1'000'000'000);
  ASSERT_TRUE(regex->each(text, limit, [&](std::size_t begin, std::size_t end) -> Status {
    got.emplace_back(begin, end);
    return {};
  }));
  EXPECT_EQ(got, want);
}

TEST(TokenizerLimits, normal_forms_are_the_same_in_portions_and_runs_of_marks_are_bounded) {
  // ids are of single characters: "é" composed and not, Hangul, a kana with its mark.
  const std::string vocab = R"({"type":"BPE","vocab":{"a":0,"é":1,"각":2,"が":4,"世":5,"e":6},"merges":[]})";
  const auto t = make(tokenizer_json(R"("normalizer":{"type":"NFC"},)", vocab));
  for (std::size_t padding : {0, 1, 4094, 4095, 4096, 4097, 9000}) {
    const std::string text = std::string(padding, 'a') + "e\u0301\u1100\u1161\u11a8\u304b\u3099\u4e16";
    TokenIds want(padding, 0);
    want.insert(want.end(), {1, 2, 4, 5});
    EXPECT_EQ(t->encode(text, {}).value(), want) << padding;
  }
  std::string kana;
  TokenIds want;
  for (int i = 0; i < 5'000; ++i) kana += "\u304b\u3099", want.push_back(4);
  EXPECT_EQ(t->encode(kana, {}).value(), want);
  std::string marks = "e";
  for (int i = 0; i < 200'000; ++i) marks += "\u0301\u0323";
  EXPECT_NE(encode(*t, marks, 100'000'000).error().message.find("combining characters"), std::string::npos);
}

TEST(TokenizerLimits, hashes_that_were_made_to_collide_are_refused) {
  TokenMap map;
  map.reserve(200);
  Status status;
  const std::size_t buckets = map.bucket_count();
  for (int i = 0, added = 0; added < 100 && status; ++i) {
    const std::string text = std::to_string(i);
    if (map.hash_function()(text) % buckets != 7) continue;
    status = add_token(map, text, ++added);
  }
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kModelLoadFailed);
}

TEST(TokenizerLimits, another_thread_ends_whatever_runs) {
  const auto spaces =
      make(tokenizer_json(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\s+$"},"behavior":"Isolated"},)"));
  const auto unigram = make(tokenizer_json(
      "", R"({"type":"Unigram","unk_id":0,"vocab":[["u",0],["a",-1],[")" + std::string(16'000, 'a') + R"(",-2]]})"));
  for (const auto& [tokenizer, text] : {std::pair{spaces.get(), std::string(4'000'000, ' ') + "x"},
                                        std::pair{unigram.get(), std::string(8'000'000, 'a')}}) {
    const auto stop = std::make_shared<std::atomic<bool>>(false);
    std::atomic<bool> begun = false;
    Result<TokenIds> ids;
    std::thread encodes([&, t = tokenizer, &text = text] {
      WorkLimit limit(~std::uint64_t{0}, WorkLimit::Clock::time_point::max(), stop);
      begun = true;
      ids = t->encode(text, {.limit = &limit});
    });
    while (!begun) std::this_thread::yield();
    *stop = true;
    encodes.join();  // without the flag it runs for hours
    ASSERT_FALSE(ids);
    EXPECT_EQ(ids.error().code, ErrorCode::kCancelled) << ids.error().message;
  }
}

}  // namespace
}  // namespace llorch
