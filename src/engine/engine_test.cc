// The engine's parts without a model: text release, page bookkeeping, planning.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/random.h"
#include "cache/pages.h"
#include "engine/drafter.h"
#include "engine/scheduler.h"
#include "engine/text_emitter.h"

namespace llorch {
namespace {

struct Emitted {
  std::string text;
  int events = 0;
  std::optional<std::size_t> matched;
  std::string undecoded;
};

Emitted emit(const std::vector<std::string>& pieces, std::vector<std::string> stops) {
  TextEmitter emitter(std::move(stops));
  Emitted result;
  const auto take = [&](const std::vector<TokenEvent>& events) {
    for (const TokenEvent& e : events) {
      EXPECT_EQ(e.index, result.events) << "events out of order";
      EXPECT_TRUE(utf8_valid(e.text)) << "an event splits a code point";
      result.text += e.text;
      ++result.events;
    }
  };
  for (const std::string& piece : pieces) {
    take(emitter.push({}, piece));
    if (emitter.matched()) break;
  }
  take(emitter.finish());
  result.matched = emitter.matched();
  result.undecoded = emitter.undecoded();
  return result;
}

/// Every way to cut a text into pieces of bytes gives the same text, one event per piece.
TEST(TextEmitter, any_split_of_multibyte_text_joins_to_the_same_text) {
  const std::string text = "Hi 世界 🚀 e\u0301 \u200d\ufeffz";
  for (std::uint64_t mask = 0; mask < 4000; ++mask) {
    std::vector<std::string> pieces(1);
    for (std::size_t i = 0; i < text.size(); ++i) {
      pieces.back() += text[i];
      if (mix64(mask * 64 + i) % 3 == 0) pieces.emplace_back();
    }
    const Emitted e = emit(pieces, {});
    ASSERT_EQ(e.text, text);
    ASSERT_EQ(e.events, static_cast<int>(pieces.size()));
    ASSERT_TRUE(e.undecoded.empty());
  }
}

TEST(TextEmitter, no_byte_of_a_stop_string_leaves_at_any_boundary) {
  const std::string text = "one two STOP three";
  for (std::size_t a = 0; a <= text.size(); ++a)
    for (std::size_t b = a; b <= text.size(); ++b) {
      const Emitted e = emit({text.substr(0, a), text.substr(a, b - a), text.substr(b)}, {"STOP"});
      ASSERT_EQ(e.text, "one two ") << a << " " << b;
      ASSERT_EQ(e.matched, std::size_t{0});
    }
}

TEST(TextEmitter, text_held_for_a_match_that_fails_is_released) {
  const Emitted e = emit({"ab", "aba", "bac", "x"}, {"ababc"});
  EXPECT_EQ(e.text, "abababacx");
  EXPECT_FALSE(e.matched);
  EXPECT_EQ(e.events, 4);
}

TEST(TextEmitter, the_earliest_match_wins_and_the_end_releases_a_half_match) {
  EXPECT_EQ(emit({"say END or FIN"}, {"FIN", "END"}).matched, std::size_t{1});
  EXPECT_EQ(emit({"half EN"}, {"END"}).text, "half EN");
}

TEST(TextEmitter, invalid_bytes_become_no_character) {
  const Emitted e = emit({"a\xff", "b", "\xf0\x9f"}, {});
  EXPECT_EQ(e.text, "ab");
  EXPECT_EQ(e.undecoded, "\xff\xf0\x9f");
  EXPECT_EQ(e.events, 3);
}

TEST(KvPages, shares_caches_evicts_and_returns_everything) {
  KvPages pages(4);
  const PageHash root = root_hash("model", ""), first = chain_hash(root, std::vector<std::int32_t>{1, 2}),
                 second = chain_hash(first, std::vector<std::int32_t>{3, 4});
  const auto a = pages.take(), b = pages.take();
  ASSERT_TRUE(a && b);
  pages.publish(*a, first);
  pages.publish(*b, second);
  EXPECT_EQ(pages.available(), 2);
  EXPECT_EQ(pages.share(first), *a);
  pages.drop(*a);
  pages.drop(*a);
  pages.drop(*b);
  EXPECT_EQ(pages.available(), 4);
  EXPECT_TRUE(pages.idle(first));
  EXPECT_EQ(pages.share(second), *b);  // still cached
  EXPECT_FALSE(pages.idle(second));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pages.take());  // the third evicts page a
  EXPECT_FALSE(pages.has(first));
  EXPECT_FALSE(pages.take());
}

TEST(KvPages, what_is_discarded_is_free_at_once_unless_others_have_it) {
  KvPages pages(2);
  const PageHash hash = chain_hash(root_hash("model", ""), std::vector<std::int32_t>{1});
  const auto page = pages.take();
  pages.publish(*page, hash);
  ASSERT_EQ(pages.share(hash), *page);
  pages.discard(*page);
  EXPECT_TRUE(pages.has(hash));
  pages.discard(*page);
  EXPECT_FALSE(pages.has(hash));
  EXPECT_EQ(pages.available(), 2);
  EXPECT_EQ(pages.cached(), 0);
}

TEST(KvPages, hashes_differ_by_model_salt_and_tokens) {
  const std::vector<std::int32_t> t{1, 2, 3};
  EXPECT_NE(root_hash("a", "b"), root_hash("a", "c"));
  EXPECT_NE(root_hash("a", "b"), root_hash("ab", ""));
  EXPECT_NE(chain_hash(root_hash("a", ""), t), chain_hash(root_hash("b", ""), t));
  EXPECT_NE(chain_hash(root_hash("a", ""), t), chain_hash(root_hash("a", ""), std::vector<std::int32_t>{1, 2, 4}));
}

TEST(KvPages, a_random_history_never_loses_or_doubles_a_page) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    KvPages pages(8);
    std::vector<std::int32_t> owned;
    for (std::uint64_t i = 0; i < 300; ++i) {
      const std::uint64_t r = mix64(seed * 1000 + i);
      const PageHash hash =
          chain_hash(root_hash("m", ""), std::vector<std::int32_t>{static_cast<std::int32_t>(r >> 8) % 12});
      if (r % 3 == 0) {
        if (const auto page = pages.take()) {
          ASSERT_EQ(std::ranges::count(owned, *page), 0) << "seed " << seed << ": a page with an owner was taken";
          owned.push_back(*page);
          pages.publish(*page, hash);
        }
      } else if (r % 3 == 1) {
        if (const auto page = pages.share(hash)) owned.push_back(*page);
      } else if (!owned.empty()) {
        pages.drop(owned[r % owned.size()]);
        owned.erase(owned.begin() + static_cast<std::ptrdiff_t>(r % owned.size()));
      }
      const std::set<std::int32_t> distinct(owned.begin(), owned.end());
      ASSERT_EQ(pages.available() + static_cast<int>(distinct.size()), 8) << "seed " << seed << " step " << i;
    }
  }
}

TEST(Scheduler, decodes_first_then_prefill_in_order_within_the_budget) {
  const SequenceState states[] = {{1, 100, true}, {2, 1, false}, {3, 50, true}, {4, 1, false}};
  const auto plan = plan_step(states, 64, 40);
  ASSERT_EQ(plan.size(), 4u);
  EXPECT_EQ(plan[0].id, 2);
  EXPECT_EQ(plan[1].id, 4);
  EXPECT_EQ(plan[2].id, 1);
  EXPECT_EQ(plan[2].tokens, 40);
  EXPECT_EQ(plan[3].id, 3);
  EXPECT_EQ(plan[3].tokens, 22);
}

TEST(Scheduler, what_must_be_whole_is_not_cut) {
  const SequenceState states[] = {{1, 30, true, true}, {2, 40, true, true}, {3, 20, true, true}};
  const auto plan = plan_step(states, 64, 8);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].id, 1);
  EXPECT_EQ(plan[0].tokens, 30);
  EXPECT_EQ(plan[1].id, 3) << "40 more do not fit this step";
  EXPECT_EQ(plan[1].tokens, 20);
}

TEST(Scheduler, guesses_take_what_is_left_of_the_budget) {
  const SequenceState states[] = {{.id = 1, .pending = 1, .drafts = 4},
                                  {.id = 2, .pending = 50, .prefilling = true},
                                  {.id = 3, .pending = 1, .drafts = 9}};
  auto plan = plan_step(states, 64, 50);
  ASSERT_EQ(plan.size(), 3u);
  EXPECT_EQ(plan[0].drafts, 4);
  EXPECT_EQ(plan[1].drafts, 0) << "all of them or none";
  EXPECT_EQ(plan[2].tokens, 50);
  EXPECT_EQ(plan[2].drafts, 0);
  plan = plan_step(states, 65, 50);
  EXPECT_EQ(plan[1].drafts, 9);
}

TEST(Drafter, guesses_what_followed_the_longest_agreement) {
  Drafter drafter;
  const TokenIds tokens{1, 2, 3, 40, 41, 42, 9, 9, 2, 3, 50, 51, 52, 8, 1, 2, 3};
  EXPECT_EQ(drafter.guess(tokens, 15), (TokenIds{40, 41, 42})) << "three agree there, two later on";
  EXPECT_EQ(drafter.guess(tokens, 2), (TokenIds{40, 41}));
  EXPECT_EQ(drafter.guess(tokens, 0), TokenIds{});
  EXPECT_EQ(drafter.guess(std::span(tokens).first(13), 15), TokenIds{}) << "nothing of three tokens came before";
  EXPECT_EQ(drafter.guess(TokenIds{7, 7, 7, 7, 7}, 15), (TokenIds{7, 7, 7})) << "what repeats itself goes on";
  EXPECT_EQ(drafter.guess(TokenIds{}, 15), TokenIds{});
}

TEST(Drafter, right_guesses_make_longer_ones_and_wrong_ones_make_it_wait) {
  TokenIds tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i % 50);
  Drafter drafter;
  for (const std::size_t size : {3u, 7u, 15u, 16u}) {
    EXPECT_EQ(drafter.guess(tokens, 16).size(), size);
    drafter.learn(static_cast<int>(size), static_cast<int>(size));
  }
  drafter.learn(16, 4);
  EXPECT_EQ(drafter.guess(tokens, 16).size(), 5u);
  int guesses = 0;
  for (int drawn = 0; drawn < 1000; ++drawn)
    if (const TokenIds guess = drafter.guess(tokens, 16); !guess.empty())
      ++guesses, drafter.learn(static_cast<int>(guess.size()), 0);
  EXPECT_LT(guesses, 25) << "nothing is right";
  EXPECT_GT(guesses, 10) << "it is tried again";
}

TEST(Scheduler, every_sequence_advances_and_nothing_exceeds_the_budget) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    std::vector<SequenceState> states;
    for (int i = 0; i < 1 + static_cast<int>(mix64(seed) % 8); ++i) {
      const std::uint64_t r = mix64(seed * 31 + static_cast<std::uint64_t>(i));
      states.push_back({i, r % 2 ? 1 : 1 + static_cast<int>(r % 900), r % 2 == 0});
      if (r % 2) states.back().drafts = static_cast<int>(r / 2 % 17);
    }
    const auto plan = plan_step(states, 64, 32);
    int total = 0;
    for (const PlannedWork& w : plan) {
      ASSERT_GT(w.tokens, 0);
      ASSERT_LE(w.tokens, states[static_cast<std::size_t>(w.id)].pending);
      ASSERT_TRUE(w.drafts == 0 || w.drafts == states[static_cast<std::size_t>(w.id)].drafts);
      total += w.tokens + w.drafts;
    }
    ASSERT_LE(total, 64);
    for (const SequenceState& s : states) {
      const bool planned = std::ranges::any_of(plan, [&](const PlannedWork& w) { return w.id == s.id; });
      ASSERT_TRUE(planned || s.prefilling) << "a decode was left out";
    }
  }
}

}  // namespace
}  // namespace llorch
