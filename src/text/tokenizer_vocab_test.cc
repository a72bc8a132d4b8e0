// Every published vocabulary of the test data reproduces its reference ids, text by text (E-31, T-34).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "format/gguf.h"
#include "test_data.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace llorch {
namespace {

std::vector<std::string> texts_of(const std::string& path) {
  const std::string all = read_text_file(path, 1u << 24).value();
  std::vector<std::string> texts;
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::string_view rest = all;
  for (std::size_t at; (at = rest.find(kSeparator)) != std::string_view::npos;
       rest.remove_prefix(at + kSeparator.size()))
    texts.emplace_back(rest.substr(0, at));
  if (!rest.empty()) texts.emplace_back(rest);  // the last one has no separator in every file
  return texts;
}

std::vector<TokenIds> ids_of(const std::string& path) {
  std::ifstream in(path);
  std::vector<TokenIds> all;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    TokenIds ids;
    for (TokenId id; words >> id;) ids.push_back(id);
    all.push_back(ids);
  }
  return all;
}

class Vocabulary : public testing::TestWithParam<const char*> {};

void expect_vectors(const Tokenizer& tokenizer, const std::string& stem, const std::string& what) {
  const bool ids_only = std::getenv("LLORCH_VECTORS_IDS_ONLY") != nullptr;  // for tokenizers that normalise
  const auto texts = texts_of(stem + ".inp");
  const auto ids = ids_of(stem + ".out");
  ASSERT_GE(texts.size(), 20u);
  ASSERT_EQ(texts.size(), ids.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto got = tokenizer.encode(texts[i], {});
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(*got, ids[i]) << what << " text " << i << ": " << texts[i];
    if (ids_only) continue;
    EXPECT_EQ(tokenizer.decode(*got), texts[i]) << what << " text " << i;
  }
}

TEST_P(Vocabulary, reproduces_the_reference_ids) {
  LLORCH_NEED_TEST_DATA(stem, std::string("vocab/") + GetParam() + ".gguf");
  const auto file = GgufFile::open(stem);
  ASSERT_TRUE(file) << file.error().message;
  const auto tokenizer = Tokenizer::from_gguf((*file)->metadata());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  expect_vectors(**tokenizer, stem, GetParam());
}

/// Over the whole special vocabulary: text that spells a control token never becomes one unasked, and does where asked
/// (E-32).
TEST_P(Vocabulary, control_tokens_only_where_asked) {
  LLORCH_NEED_TEST_DATA(stem, std::string("vocab/") + GetParam() + ".gguf");
  const auto file = GgufFile::open(stem);
  ASSERT_TRUE(file) << file.error().message;
  const auto tokenizer = Tokenizer::from_gguf((*file)->metadata()).value();
  int controls = 0;
  for (std::size_t i = 0; i < tokenizer->size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (tokenizer->token(id).kind != TokenKind::kControl) continue;
    ++controls;
    const std::string spelling = tokenizer->token(id).text;
    const TokenIds plain = tokenizer->encode("x" + spelling + "y", {}).value(),
                   parsed = tokenizer->encode("x" + spelling + "y", {.parse_special = true}).value();
    EXPECT_FALSE(plain.empty());
    for (const TokenId got : plain) ASSERT_NE(tokenizer->token(got).kind, TokenKind::kControl) << spelling;
    EXPECT_EQ(std::ranges::count(parsed, id), 1) << spelling;
    // Of two spellings, one written by a template and one by a user, only the first counts.
    const std::string trust = std::string(1 + spelling.size(), '\1') + std::string(spelling.size(), '\0');
    const TokenIds mixed =
        tokenizer->encode("x" + spelling + spelling, {.parse_special = true, .trust = trust}).value();
    EXPECT_EQ(std::ranges::count(mixed, id), 1) << spelling;
  }
  EXPECT_GT(controls, 0) << "the vocabulary has no control tokens: nothing was checked";
}

INSTANTIATE_TEST_SUITE_P(all, Vocabulary,
                         testing::Values("gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "llama-spm", "phi-3", "qwen35",
                                         "gemma-4"));

// Vectors that tools/parity/check_tokenizers makes with the reference library, both for GGUF metadata and for
// tokenizer.json.
TEST(Vectors, of_the_reference_library_are_reproduced_from_both_formats) {
  const char* directory = std::getenv("LLORCH_VECTORS");
  if (!directory) GTEST_SKIP() << "not run: LLORCH_VECTORS is not set (tools/parity/check_tokenizers sets it)";
  const std::string stem = std::string(directory) + "/vectors.gguf";
  if (std::filesystem::exists(stem)) {
    const auto file = GgufFile::open(stem);
    ASSERT_TRUE(file) << file.error().message;
    const auto from_gguf = Tokenizer::from_gguf((*file)->metadata());
    ASSERT_TRUE(from_gguf) << from_gguf.error().message;
    expect_vectors(**from_gguf, stem, "GGUF");
  }
  const auto from_json = Tokenizer::from_hf(directory);
  ASSERT_TRUE(from_json) << from_json.error().message;
  expect_vectors(**from_json, stem, "tokenizer.json");
}

}  // namespace
}  // namespace llorch
