// Turns of a conversation on models that remember in different ways: pages of all positions, of a window, recurrent
// state. Each turn computes what is new and at most 63 tokens more, and says the same as without a cache.
#include <gtest/gtest.h>

#include <bit>
#include <filesystem>
#include <map>
#include <set>

#include "base/random.h"
#include "engine/engine.h"
#include "golden.h"

namespace llorch {
namespace {

struct Turn {
  TokenIds tokens;
  int cached = -1;
  std::uint64_t bits = 0;  // of all logits that tokens were drawn from
  bool says_what(const Turn& other) const { return tokens == other.tokens && bits == other.bits; }
};

class Conversation : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string& name = GetParam();
    std::string path = scratch_ / "model.gguf";
    if (name.starts_with("tiny-")) {
      arch::SynthRequest request;
      request.shape = name, request.type = "Q8_0", request.seed = 5;
      ASSERT_TRUE(arch::synthesize(request, path));
    } else {
      LLORCH_NEED_TEST_DATA(zoo, "models/zoo/" + name);
      path = zoo + "/model-f32.gguf";
    }
    model_.emplace(load_test_model(path, "", 2, 256));
  }
  std::unique_ptr<Engine> make(bool prefix_cache, int pages = 24, std::int64_t lifted = 1 << 20) {
    EngineOptions options;
    options.lifted_besides = options.lifted_alone = lifted;
    options.pages = pages, options.max_batch = 3, options.prefill_chunk = 48, options.model_id = "test";
    options.prefix_cache = prefix_cache;
    options.speculation = prefix_cache ? Speculation::kNgram : Speculation::kOff;  // what is compared with is plain
    auto engine = Engine::make(*model_->model, *model_->tokenizer, options).value();
    engine->logits_probe = [this, of = engine.get()](int id, int, std::span<const float> logits) {
      std::uint64_t& bits = turns_.at({of, id})->bits;
      for (const float x : logits) bits = (bits ^ std::bit_cast<std::uint32_t>(x)) * 0x100000001b3ull;
    };
    return engine;
  }
  std::unique_ptr<CacheLevels> levels(std::int64_t memory, bool on_disk) const {
    CacheLevels::Options o;
    o.memory_bytes = memory;
    if (on_disk) o.disk = {scratch_ / "cache", "model", "test", 64 << 20};
    return CacheLevels::open(std::move(o)).value();
  }
  void submit(Engine& engine, const TokenIds& prompt, int count, Turn& turn, std::string salt = "") {
    GenerateRequest r;
    r.cache_salt = std::move(salt);
    r.prompt = prompt, r.max_tokens = count, r.ignore_eos = true, r.sampling.seed = 3;
    r.sink = [&turn](const EngineEvent& e) {
      if (const auto* started = std::get_if<StartedEvent>(&e)) turn.cached = started->cached_tokens;
      if (const auto* token = std::get_if<TokenEvent>(&e)) turn.tokens.push_back(token->token.id);
      if (const auto* error = std::get_if<Error>(&e)) ADD_FAILURE() << error->message;
    };
    const auto id = engine.submit(std::move(r));
    ASSERT_TRUE(id);
    turns_[{&engine, *id}] = &turn;
  }
  Turn say(Engine& engine, const TokenIds& prompt, int count) {
    Turn turn;
    submit(engine, prompt, count, turn);
    engine.run_until_idle();
    return turn;
  }
  [[nodiscard]] TokenIds words(int count, int salt) const {
    TokenIds ids;
    for (int i = 0; i < count; ++i) ids.push_back((i * 37 + salt * 101 + 5) % (model_->model->graph().vocab - 20));
    return ids;
  }
  static void append(TokenIds& to, const TokenIds& what) { to.insert(to.end(), what.begin(), what.end()); }

  ScratchDirectory scratch_;
  std::optional<LoadedModel> model_;
  std::map<std::pair<const Engine*, int>, Turn*> turns_;
};

TEST_P(Conversation, a_turn_computes_what_is_new) {
  const auto engine = make(true), without = make(false);
  TokenIds history = words(70, 0);
  int known = 0;  // tokens that the last turn has computed
  for (int i = 0; i < 5; ++i) {
    const Turn turn = say(*engine, history, 17);
    EXPECT_EQ(turn.cached, known / 64 * 64) << "turn " << i << " of " << history.size() << " tokens";
    EXPECT_TRUE(turn.says_what(say(*without, history, 17))) << "turn " << i;
    known = static_cast<int>(history.size()) + 16;
    append(history, turn.tokens), append(history, words(9, i + 1));
  }
}

/// A template that leaves out what was thought: the answer is computed again, not what was before it.
TEST_P(Conversation, what_is_left_out_costs_only_what_follows_it) {
  const auto engine = make(true), without = make(false);
  TokenIds history = words(130, 0);
  for (int i = 0; i < 3; ++i) {
    const Turn turn = say(*engine, history, 20);
    if (i > 0) {
      EXPECT_EQ(turn.cached, (static_cast<int>(history.size()) - 17) / 64 * 64) << "turn " << i;
    }
    EXPECT_TRUE(turn.says_what(say(*without, history, 20))) << "turn " << i;
    append(history, TokenIds(turn.tokens.end() - 5, turn.tokens.end())), append(history, words(12, i + 1));
  }
}

/// Answers on a cache that is too small for all of them, beside each other, are those of a large one.
TEST_P(Conversation, those_who_rest_say_the_same) {
  const auto small = make(true, 5), large = make(false, 64);
  std::vector<Turn> got(7), want(7);
  for (int i = 0; i < 7; ++i) {
    submit(*small, words(20 + 11 * i, i), 110, got[static_cast<std::size_t>(i)]);
    submit(*large, words(20 + 11 * i, i), 110, want[static_cast<std::size_t>(i)]);
  }
  small->run_until_idle(), large->run_until_idle();
  EXPECT_GT(small->rests(), 0);
  EXPECT_EQ(large->rests(), 0);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].says_what(want[i])) << i;
  EXPECT_EQ(small->pages().available(), 5);
}

/// Guesses that are right for some tokens and then wrong, while answers go on from the cache, beside each other, and
/// rest: what each kind of memory took of them is taken back.
TEST_P(Conversation, guesses_leave_nothing_behind) {
  const auto guessing = make(true, 5), plain = make(false, 64);
  std::map<int, TokenIds> whole;  // by request: prompt and answer
  std::vector<Turn> got(4), want(4);
  const auto turns = [&](int round) {
    for (int i = 0; i < 4; ++i) {
      TokenIds prompt = words(70 + 11 * i, i);
      if (round > 0) append(prompt, want[static_cast<std::size_t>(i)].tokens);
      want[static_cast<std::size_t>(i)] = say(*plain, prompt, 50);
      got[static_cast<std::size_t>(i)] = {};
      TokenIds& all = whole[round * 4 + i + 1];
      all = prompt, append(all, want[static_cast<std::size_t>(i)].tokens);
      submit(*guessing, prompt, 50, got[static_cast<std::size_t>(i)]);
    }
  };
  int calls = 0;
  guessing->guess_probe = [&](int id, std::span<const TokenId> tokens, int most) {
    const auto rest = std::span<const TokenId>(whole.at(id)).subspan(tokens.size());
    TokenIds guess(rest.begin(),
                   rest.begin() + std::min(static_cast<std::ptrdiff_t>(rest.size()), std::ptrdiff_t{most}));
    const std::size_t wrong = mix64(static_cast<std::uint64_t>(++calls)) % 6;
    if (wrong < guess.size()) guess[wrong] = guess[wrong] == 7 ? 8 : 7;
    return guess;
  };
  for (int round = 0; round < 2; ++round) {
    turns(round);
    guessing->run_until_idle();
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].says_what(want[i])) << round << " " << i;
  }
  EXPECT_GT(guessing->accepted(), 100);
  EXPECT_GT(guessing->drafted(), guessing->accepted());
  EXPECT_GT(guessing->rests(), 0);
  EXPECT_EQ(guessing->pages().available(), 5);
}

/// Each turn in a process of its own, so to speak: what the last one had computed is on disk.
TEST_P(Conversation, a_restart_goes_on_from_the_disk) {
  const auto without = make(false);
  TokenIds history = words(70, 0);
  int known = 0;
  for (int i = 0; i < 4; ++i) {
    const auto engine = make(true);
    engine->use(levels(0, true));
    const Turn turn = say(*engine, history, 17);
    EXPECT_EQ(turn.cached, known / 64 * 64) << "turn " << i << " of " << history.size() << " tokens";
    EXPECT_TRUE(turn.says_what(say(*without, history, 17))) << "turn " << i;
    if (i > 0) {
      EXPECT_GT(engine->levels()->counts().disk_hits, 0);
    }
    known = static_cast<int>(history.size()) + 16;
    append(history, turn.tokens), append(history, words(9, i + 1));
  }
}

/// One page or state with each step, while another request is paused or goes on.
TEST_P(Conversation, what_is_below_comes_up_step_by_step) {
  const TokenIds history = words(200, 0);
  Turn want;
  {
    const auto engine = make(true);
    engine->use(levels(0, true));
    want = say(*engine, history, 17);
  }
  for (const bool paused : {true, false}) {
    const auto engine = make(true, 24, 1);
    engine->use(levels(0, true));
    Turn other, turn;
    submit(*engine, words(30, 9), 100, other);
    while (other.cached < 0) engine->step();
    if (paused) engine->pause(1, true);
    submit(*engine, history, 17, turn);
    engine->run_until_idle();
    EXPECT_TRUE(turn.says_what(want)) << turn.tokens.size();
    EXPECT_EQ(turn.cached, 192);
    EXPECT_EQ(other.tokens.size() == 100, !paused);
  }
}

/// Of a file that is damaged or gone, and of all behind it, nothing is used.
TEST_P(Conversation, what_is_damaged_on_disk_is_computed_again) {
  const TokenIds history = words(200, 0);
  const auto without = make(false);
  const Turn want = say(*without, history, 17);
  for (int i = 0; i < 6; ++i) {
    {
      const auto engine = make(true);
      engine->use(levels(0, true));
      EXPECT_TRUE(say(*engine, history, 17).says_what(want)) << i;
    }
    std::vector<std::filesystem::path> files;
    for (const auto& f : std::filesystem::recursive_directory_iterator(std::string(scratch_ / "cache")))
      if (f.is_regular_file()) files.push_back(f.path());
    std::ranges::sort(files);
    ASSERT_GE(files.size(), 3u);
    const auto& file = files[static_cast<std::size_t>(i) % files.size()];
    if (i % 2 == 0)
      std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
    else
      std::filesystem::remove(file);
  }
}

/// Pages that made room for others come back from memory; without that level they are computed again.
TEST_P(Conversation, what_left_the_device_is_found_in_memory) {
  const auto without = make(false);
  for (const bool below : {false, true}) {
    const auto engine = make(true, 5);
    if (below) engine->use(levels(64 << 20, false));
    std::vector<TokenIds> histories;
    for (int i = 0; i < 3; ++i) histories.push_back(words(150, i));
    for (int round = 0; round < 3; ++round)
      for (std::size_t i = 0; i < histories.size(); ++i) {
        const Turn turn = say(*engine, histories[i], 10);
        EXPECT_TRUE(turn.says_what(say(*without, histories[i], 10)));
        if (round > 0 && below) {
          EXPECT_EQ(turn.cached, static_cast<int>(histories[i].size() - 6) / 64 * 64) << round << " " << i;
        }
        if (below) {
          append(histories[i], turn.tokens), append(histories[i], words(5, round));
        }
      }
    if (!below) continue;
    EXPECT_GT(engine->levels()->counts().memory_hits, 0);
    EXPECT_EQ(engine->levels()->counts().damaged, 0);
    EXPECT_EQ(engine->pages().available(), 5);
  }
}

/// Many at once, resting and coming back, with both levels below a cache that is too small.
TEST_P(Conversation, those_who_rest_come_back_from_below) {
  const auto small = make(true, 5), large = make(false, 64);
  small->use(levels(1 << 20, true));
  for (int round = 0; round < 2; ++round) {
    std::vector<Turn> got(7), want(7);
    for (int i = 0; i < 7; ++i) {
      submit(*small, words(20 + 11 * i, i % 4), 110, got[static_cast<std::size_t>(i)]);
      submit(*large, words(20 + 11 * i, i % 4), 110, want[static_cast<std::size_t>(i)]);
    }
    small->run_until_idle(), large->run_until_idle();
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].says_what(want[i])) << round << " " << i;
  }
  EXPECT_EQ(small->pages().available(), 5);
}

/// A salt's pages are nobody else's, on disk neither.
TEST_P(Conversation, salts_part_what_is_on_disk) {
  const TokenIds history = words(150, 0);
  std::set<std::string> seen;
  for (const char* salt : {"", "a", "b", "a"}) {
    const auto engine = make(true);
    engine->use(levels(1 << 20, true));
    Turn turn;
    submit(*engine, history, 10, turn, salt);
    engine->run_until_idle();
    EXPECT_EQ(turn.cached, seen.insert(salt).second ? 0 : 128) << salt;
  }
}

INSTANTIATE_TEST_SUITE_P(all, Conversation,
                         testing::Values("tiny-llama", "tiny-gpt-oss", "qwen3_5", "lfm2", "granitemoehybrid",
                                         "nemotron_h", "gemma3", "gemma4"),
                         [](const auto& p) {
                           std::string name = p.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace llorch
