// Tokenising in slices, beside the texts of others: the ids are those of one go, for every published vocabulary.
#include <gtest/gtest.h>

#include <random>

#include "format/gguf.h"
#include "service/background.h"
#include "test_data.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace llorch::worker {
namespace {

constexpr std::size_t kTexts = 4, kTextBytes = kSanitized ? 20'000 : 100'000;

/// The texts of the vocabulary's vectors over and over, from a random place to a random place.
std::string random_text(const std::string& vectors, std::mt19937& random) {
  const auto border = [&](std::size_t at) {
    while (at < vectors.size() && (static_cast<unsigned char>(vectors[at]) & 0xc0) == 0x80) ++at;
    return at;
  };
  std::string text;
  while (text.size() < kTextBytes) {
    const std::size_t from = border(random() % vectors.size());
    text += vectors.substr(from, border(std::min(vectors.size(), from + random() % 5000)) - from);
  }
  return text;
}

class Slices : public testing::TestWithParam<const char*> {};

TEST_P(Slices, make_the_ids_of_one_go) {
  LLORCH_NEED_TEST_DATA(stem, std::string("vocab/") + GetParam() + ".gguf");
  const auto tokenizer = Tokenizer::from_gguf(GgufFile::open(stem).value()->metadata()).value();
  const std::string vectors = read_text_file(stem + ".inp", 1u << 24).value();
  const unsigned seed = std::random_device{}();
  std::mt19937 random(seed);
  std::vector<std::string> texts;
  std::vector<TokenIds> expected, got(kTexts);
  for (std::size_t i = 0; i < kTexts; ++i) {
    texts.push_back(random_text(vectors, random));
    expected.push_back(tokenizer->encode(texts[i], {}).value());
  }
  net::EventLoop loop;
  service::Background background(loop, {.threads = 1, .begun_max = kTexts, .slice = {}});
  std::size_t ended = 0;
  std::atomic<int> pauses = 0;
  for (std::size_t i = 0; i < kTexts; ++i)
    background.run({[&, i] {
                      WorkLimit limit(1u << 30, WorkLimit::Clock::time_point::max(), nullptr, [&] {
                        ++pauses;
                        background.pause();
                      });
                      got[i] = tokenizer->encode(texts[i], {.limit = &limit}).value();
                    },
                    [&](const Status& s) {
                      EXPECT_TRUE(s);
                      if (++ended == kTexts) loop.stop();
                    },
                    std::to_string(i), nullptr});
  loop.run();
  EXPECT_GT(pauses, 20) << "there were no slices";
  for (std::size_t i = 0; i < kTexts; ++i) EXPECT_TRUE(got[i] == expected[i]) << "seed " << seed << ", text " << i;
}

INSTANTIATE_TEST_SUITE_P(all, Slices,
                         testing::Values("gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "llama-spm", "phi-3"));

}  // namespace
}  // namespace llorch::worker
