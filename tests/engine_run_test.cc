// The engine over a real decoder: cancellation, exhaustion, isolation, order of events.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine.h"
#include "engine/forward_all.h"
#include "golden.h"
#include "model/memory.h"

namespace llorch {
namespace {

TokenIds prompt_of(int count, int salt) {
  TokenIds ids;
  for (int i = 0; i < count; ++i) ids.push_back((i * 37 + salt * 11 + 5) % 255);
  return ids;
}

struct Outcome {
  TokenIds tokens;
  std::string text;
  std::optional<EndEvent> end;
  std::optional<Error> error;
  std::optional<StartedEvent> started;
  int terminals = 0;
};

class EngineRun : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    arch::SynthRequest request;
    request.shape = "tiny-llama", request.type = "Q4_K_M", request.seed = 3;
    ASSERT_TRUE(arch::synthesize(request, *scratch_ / "model.gguf"));
    model_ = new LoadedModel(load_test_model(*scratch_ / "model.gguf", ""));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete scratch_;
  }

  std::unique_ptr<Engine> make(int pages, int max_batch = 4, int chunk = 32) {
    EngineOptions options;
    options.pages = pages, options.max_batch = max_batch, options.prefill_chunk = chunk, options.model_id = "test";
    return Engine::make(*model_->model, *model_->tokenizer, options).value();
  }

  static GenerateRequest request(TokenIds prompt, int max_tokens, Outcome& outcome) {
    GenerateRequest r;
    r.prompt = std::move(prompt), r.max_tokens = max_tokens, r.ignore_eos = true, r.sampling.seed = 9;
    r.sink = [&outcome](const EngineEvent& e) {
      EXPECT_EQ(outcome.terminals, 0) << "an event after the last";
      if (const auto* s = std::get_if<StartedEvent>(&e)) outcome.started = *s;
      if (const auto* t = std::get_if<TokenEvent>(&e)) {
        EXPECT_TRUE(outcome.started) << "a token before the start";
        outcome.tokens.push_back(t->token.id);
        outcome.text += t->text;
      }
      if (const auto* end = std::get_if<EndEvent>(&e)) outcome.end = *end, ++outcome.terminals;
      if (const auto* error = std::get_if<Error>(&e)) outcome.error = *error, ++outcome.terminals;
    };
    return r;
  }

  static GenerateRequest request_of_two_pages(Outcome& outcome) { return request(prompt_of(100, 1), 20, outcome); }

  Outcome fresh(const TokenIds& prompt, int max_tokens) {
    auto engine = make(8);
    Outcome o;
    EXPECT_TRUE(engine->submit(request(prompt, max_tokens, o)));
    engine->run_until_idle();
    return o;
  }

  static ScratchDirectory* scratch_;
  static LoadedModel* model_;
};
ScratchDirectory* EngineRun::scratch_ = nullptr;
LoadedModel* EngineRun::model_ = nullptr;

TEST_F(EngineRun, an_embedding_is_the_mean_of_the_last_states_of_length_one) {
  const TokenIds prompt = prompt_of(90, 4);
  const auto dim = static_cast<std::size_t>(model_->model->graph().dim);
  std::vector<double> mean(dim), first, last;
  const Observer observer = [&](const std::string& name, std::span<const float> values, std::int64_t rows,
                                std::int64_t) {
    if (name != "final_norm") return;
    for (std::int64_t r = 0; r < rows; ++r) {
      std::vector<double> state(dim);
      for (std::size_t d = 0; d < dim; ++d) mean[d] += state[d] = values[static_cast<std::size_t>(r) * dim + d];
      if (first.empty()) first = state;
      last = state;
    }
  };
  ASSERT_TRUE(forward_all(
      *model_->model, prompt, 25, KvPrecision::kF16, [](int, std::span<const float>) {}, &observer));
  const std::pair<Pooling, const std::vector<double>*> cases[] = {
      {Pooling::kMean, &mean}, {Pooling::kFirst, &first}, {Pooling::kLast, &last}};
  for (const auto& [pooling, sum] : cases) {
    auto engine = make(16);
    Outcome outcome, neighbour;
    std::vector<float> got;
    GenerateRequest r = request(prompt, 1, outcome);
    r.embedding = pooling;
    r.sink = [&, inner = r.sink](const EngineEvent& e) {
      if (const auto* embedding = std::get_if<EmbeddingEvent>(&e)) got = embedding->values;
      inner(e);
    };
    ASSERT_TRUE(engine->submit(request(prompt_of(40, 9), 6, neighbour)));
    ASSERT_TRUE(engine->submit(std::move(r)));
    engine->run_until_idle();
    ASSERT_EQ(got.size(), dim);
    EXPECT_EQ(outcome.terminals, 1);
    EXPECT_TRUE(outcome.tokens.empty());
    EXPECT_EQ(neighbour.tokens.size(), 6u);
    double squares = 0;
    for (const double v : *sum) squares += v * v;
    for (std::size_t d = 0; d < dim; ++d) ASSERT_NEAR(got[d], (*sum)[d] / std::sqrt(squares), 1e-6);
    EXPECT_EQ(engine->pages().available(), engine->pages().total());
  }
}

/// Natural logarithms of the probabilities of a prompt's tokens but the first, and its most likely tokens by position.
struct Scores {
  std::vector<double> values;
  TokenIds best;
  void operator()(const PromptEvent& e) {
    for (const Sampled& token : e.tokens) values.push_back(token.logprob), best.push_back(token.top.at(0).id);
  }
};

TEST_F(EngineRun, a_prompt_is_scored_by_the_logits_of_all_its_rows) {
  const TokenIds prompt = prompt_of(150, 4);
  std::vector<double> values;
  TokenIds best;
  ASSERT_TRUE(forward_all(*model_->model, prompt, 32, KvPrecision::kF16, [&](int p, std::span<const float> logits) {
    if (p + 1 == static_cast<int>(prompt.size())) return;
    values.push_back(
        std::log(softmax(logits).value()[static_cast<std::size_t>(prompt[static_cast<std::size_t>(p) + 1])]));
    best.push_back(static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin()));
  }));
  const auto scoring = [&](int max_tokens, Outcome& outcome, Scores& scores) {
    GenerateRequest r = request(prompt, max_tokens, outcome);
    r.score_prompt = true, r.sampling.top_logprobs = 1;
    r.sink = [inner = r.sink, &scores](const EngineEvent& e) {
      if (const auto* piece = std::get_if<PromptEvent>(&e)) scores(*piece);
      inner(e);
    };
    return r;
  };
  const Outcome plain = fresh(prompt, 6);
  std::vector<double> first;
  for (const int max_tokens : {0, 6}) {  // alone; then behind a cache that has the prompt, and beside another
    auto engine = make(16);
    Outcome outcome, again, neighbour;
    Scores scores, scores_again;
    ASSERT_TRUE(engine->submit(scoring(max_tokens, outcome, scores)));
    engine->run_until_idle();
    ASSERT_EQ(scores.values.size(), prompt.size() - 1);
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(scores.values[i], values[i], 1e-5) << i;
    EXPECT_EQ(scores.best, best);
    ASSERT_TRUE(outcome.end);
    EXPECT_EQ(outcome.end->tokens_out, max_tokens);
    EXPECT_EQ(outcome.tokens, max_tokens > 0 ? plain.tokens : TokenIds());
    ASSERT_TRUE(engine->submit(request(prompt_of(90, 9), 12, neighbour)));
    ASSERT_TRUE(engine->submit(scoring(max_tokens, again, scores_again)));
    engine->run_until_idle();
    EXPECT_EQ(again.started->cached_tokens, 0) << "rows that are not computed have no logits";
    EXPECT_EQ(scores_again.values, scores.values);
    EXPECT_EQ(again.tokens, outcome.tokens);
    if (max_tokens == 0) first = scores.values;
    EXPECT_EQ(first, scores.values);
    EXPECT_EQ(engine->pages().available(), 16);
  }
}

TEST_F(EngineRun, who_rests_while_its_prompt_is_scored_is_told_each_probability_once) {
  std::vector<double> alone;
  for (const int pages : {16, 5}) {
    auto engine = make(pages, 4, 4);
    Outcome older, outcome;
    Scores scores;
    ASSERT_TRUE(engine->submit(request(prompt_of(40, 2), 120, older)));
    GenerateRequest r = request(prompt_of(200, 1), 5, outcome);
    r.score_prompt = true, r.sampling.top_logprobs = 1;
    r.sink = [inner = r.sink, &scores](const EngineEvent& e) {
      if (const auto* piece = std::get_if<PromptEvent>(&e)) scores(*piece);
      inner(e);
    };
    ASSERT_TRUE(engine->submit(std::move(r)));
    engine->run_until_idle();
    ASSERT_TRUE(outcome.end) << outcome.error->message;
    EXPECT_EQ(engine->rests() > 0, pages == 5);
    ASSERT_EQ(scores.values.size(), 199u);
    if (pages == 5) {
      EXPECT_EQ(scores.values, alone);
    }
    alone = scores.values;
  }
}

TEST_F(EngineRun, progress_is_told_after_each_part_of_a_prompt) {
  auto engine = make(16);
  for (const std::vector<int>& computed : {std::vector<int>{32, 64, 96, 100}, {96, 100}}) {  // then from the cache
    Outcome outcome;
    std::vector<int> told;
    GenerateRequest r = request_of_two_pages(outcome);
    r.progress = true;
    r.sink = [&, inner = r.sink](const EngineEvent& e) {
      if (const auto* progress = std::get_if<ProgressEvent>(&e)) {
        EXPECT_TRUE(outcome.tokens.empty());
        EXPECT_EQ(progress->tokens, 100);
        EXPECT_EQ(progress->cached_tokens, outcome.started->cached_tokens);
        told.push_back(progress->computed_tokens);
      }
      inner(e);
    };
    ASSERT_TRUE(engine->submit(std::move(r)));
    engine->run_until_idle();
    EXPECT_EQ(told, computed);
  }
}

TEST_F(EngineRun, each_token_is_handed_over_before_the_next_is_computed) {
  auto engine = make(8);
  int computed = 0, handed = 0;
  engine->logits_probe = [&](int, int, std::span<const float>) {
    EXPECT_EQ(handed, computed++) << "a token was computed before the last one was handed over";
  };
  Outcome o;
  GenerateRequest r = request(prompt_of(10, 1), 12, o);
  // Letters only: a byte of a longer character would rightly be withheld.
  r.constraint =
      std::make_shared<Constraint>(Grammar::from_regex("[a-z]*").value(), Vocabulary::of(*model_->tokenizer));
  r.sink = [&, inner = r.sink](const EngineEvent& e) {
    handed += std::holds_alternative<TokenEvent>(e);
    inner(e);
  };
  ASSERT_TRUE(engine->submit(std::move(r)));
  engine->run_until_idle();
  EXPECT_EQ(computed, 12);
  EXPECT_EQ(o.tokens.size(), 12u);
  ASSERT_TRUE(o.end);
  EXPECT_EQ(o.end->reason, StopReason::kMaxTokens);
  EXPECT_EQ(o.end->tokens_in, 10);
  EXPECT_EQ(o.end->tokens_out, 12);
}

TEST_F(EngineRun, cancel_works_while_queued_in_prefill_and_in_decode_and_returns_every_page) {
  for (const int steps_before : {0, 1, 6}) {
    auto engine = make(8, 1, 16);
    Outcome o, queued;
    const int id = engine->submit(request(prompt_of(60, 2), 50, o)).value();
    const int waiting = engine->submit(request(prompt_of(20, 3), 50, queued)).value();
    for (int i = 0; i < steps_before; ++i) engine->step();
    engine->cancel(id);
    engine->cancel(waiting);
    EXPECT_FALSE(engine->step()) << "work went on after cancelling";
    for (const Outcome* each : {&o, &queued}) {
      ASSERT_TRUE(each->error);
      EXPECT_EQ(each->error->code, ErrorCode::kCancelled);
      EXPECT_FALSE(each->end);
    }
    EXPECT_EQ(engine->pages().available(), 8);
    Outcome next;
    ASSERT_TRUE(engine->submit(request(prompt_of(60, 2), 8, next)));
    engine->run_until_idle();
    EXPECT_EQ(next.tokens, fresh(prompt_of(60, 2), 8).tokens);
    engine->cancel(id);  // of something gone: nothing happens
    EXPECT_FALSE(engine->step());
  }
}

TEST_F(EngineRun, a_paused_request_waits_and_ends_with_the_same_tokens) {
  const Outcome expected = fresh(prompt_of(20, 8), 12);
  auto engine = make(16);
  Outcome held, beside;
  const int id = engine->submit(request(prompt_of(20, 8), 12, held)).value();
  while (held.tokens.size() < 4) ASSERT_TRUE(engine->step());
  engine->pause(id, true);
  ASSERT_TRUE(engine->submit(request(prompt_of(9, 9), 6, beside)));
  engine->run_until_idle();
  EXPECT_EQ(beside.terminals, 1) << "a paused neighbour held the others up";
  EXPECT_EQ(held.tokens.size(), 4u);
  EXPECT_FALSE(engine->step()) << "nothing to do, and yet it spins";
  engine->pause(id, false);
  engine->run_until_idle();
  EXPECT_EQ(held.tokens, expected.tokens);
  EXPECT_EQ(engine->pages().available(), engine->pages().total());
}

TEST_F(EngineRun, what_can_never_fit_ends_with_kv_oom_and_the_next_request_works) {
  auto engine = make(2);
  Outcome big, small;
  ASSERT_TRUE(engine->submit(request(prompt_of(150, 1), 20, big)));
  ASSERT_TRUE(engine->submit(request(prompt_of(20, 1), 5, small)));
  engine->run_until_idle();
  ASSERT_TRUE(big.error);
  EXPECT_EQ(big.error->code, ErrorCode::kKvOom);
  EXPECT_NE(big.error->message.find("alloc"), std::string::npos);
  EXPECT_TRUE(big.tokens.empty());
  ASSERT_TRUE(small.end);
  EXPECT_EQ(small.tokens, fresh(prompt_of(20, 1), 5).tokens);
  EXPECT_EQ(engine->pages().available(), 2);
}

TEST_F(EngineRun, requests_that_do_not_fit_together_wait_and_give_the_same_tokens) {
  auto engine = make(3);
  Outcome a, b, c;
  ASSERT_TRUE(engine->submit(request(prompt_of(100, 4), 20, a)));  // two pages each
  ASSERT_TRUE(engine->submit(request(prompt_of(100, 5), 20, b)));
  ASSERT_TRUE(engine->submit(request(prompt_of(30, 6), 20, c)));
  engine->run_until_idle();
  EXPECT_EQ(a.tokens, fresh(prompt_of(100, 4), 20).tokens);
  EXPECT_EQ(b.tokens, fresh(prompt_of(100, 5), 20).tokens);
  EXPECT_EQ(c.tokens, fresh(prompt_of(30, 6), 20).tokens);
  EXPECT_EQ(engine->pages().available(), 3);
}

/// Limits that nobody may reach reserve nothing: what runs out of pages rests and goes on to the same tokens, the
/// oldest never; and nobody comes in before who rests.
TEST_F(EngineRun, requests_grow_page_by_page_and_the_youngest_rest) {
  for (const bool prefix_cache : {true, false}) {
    EngineOptions options;
    options.pages = 6, options.max_batch = 4, options.prefill_chunk = 32, options.model_id = "test";
    options.prefix_cache = prefix_cache;
    auto engine = Engine::make(*model_->model, *model_->tokenizer, options).value();
    std::vector<Outcome> outcomes(8);
    std::vector<int> ended, began;
    for (int i = 0; i < 8; ++i) {
      GenerateRequest r = request(prompt_of(30 + 9 * i, i), 150, outcomes[static_cast<std::size_t>(i)]);
      r.sink = [sink = std::move(r.sink), i, &ended, &began](const EngineEvent& e) {
        if (std::holds_alternative<StartedEvent>(e)) began.push_back(i);
        if (std::holds_alternative<EndEvent>(e)) ended.push_back(i);
        sink(e);
      };
      ASSERT_TRUE(engine->submit(std::move(r)));
    }
    int together = 0;
    while (engine->step()) together = std::max(together, engine->running());
    EXPECT_GT(together, 1) << "five pages of one request would leave two for others";
    EXPECT_GT(engine->rests(), 0);
    EXPECT_EQ(ended, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7})) << "the oldest first";
    EXPECT_EQ(began, ended);
    for (int i = 0; i < 8; ++i) {
      const Outcome& o = outcomes[static_cast<std::size_t>(i)];
      ASSERT_TRUE(o.end) << i << ": " << (o.error ? o.error->message : "no end");
      EXPECT_EQ(o.tokens, fresh(prompt_of(30 + 9 * i, i), 150).tokens) << i;
    }
    EXPECT_EQ(engine->pages().available(), 6);
    EXPECT_EQ(engine->waiting(), 0);
  }
}

/// A cache is as large as it was asked for, and has no more pages than could be used where all layers have windows.
TEST_F(EngineRun, pages_are_what_fits_and_what_can_be_used) {
  const Graph& plain = model_->model->graph();
  for (const std::int64_t bytes : {1 << 18, 1 << 20, 37 << 20}) {
    const std::int64_t pages = pages_within(plain, bytes, 4, 128, KvPrecision::kF16);
    EXPECT_LE(cache_bytes(plain, pages, 4, 128, KvPrecision::kF16).value(), bytes);
    EXPECT_GT(cache_bytes(plain, pages + 1, 4, 128, KvPrecision::kF16).value(), bytes);
  }
  EXPECT_EQ(pages_within(plain, 0, 4, 128, KvPrecision::kF16), 1);
  EXPECT_EQ(default_pages(plain, 256, 8), 8) << "a quarter of 8 times 4";
  EXPECT_EQ(default_pages(plain, 256, 2), 4) << "one whole context";
  EXPECT_EQ(default_pages(plain, 4096, 8), 128) << "a quarter, which is 1,024 positions for each";
  EXPECT_EQ(default_pages(plain, 8192, 8), 128) << "1,024 positions for each, which is one whole context";
  EXPECT_EQ(default_pages(plain, 131'072, 8), 2048) << "one whole context";
  EXPECT_EQ(default_pages(plain, 131'072, 256), 4096) << "1,024 positions for each";
  arch::SynthRequest request;
  request.shape = "tiny-phi3", request.type = "Q8_0";
  ASSERT_TRUE(arch::synthesize(request, *scratch_ / "windows.gguf"));
  LoadedModel windows = load_test_model(*scratch_ / "windows.gguf", "");
  const Graph& graph = windows.model->graph();
  ASSERT_EQ(graph.context, 128);
  EXPECT_EQ(pages_within(graph, std::int64_t{1} << 40, 4, 128, KvPrecision::kF16), 8);
  EXPECT_EQ(default_pages(graph, 128, 4), 8);
  Outcome never;
  auto engine = Engine::make(*windows.model, *windows.tokenizer, {.pages = 1, .max_batch = 2}).value();
  ASSERT_TRUE(engine->submit(request_of_two_pages(never)));
  engine->run_until_idle();
  ASSERT_TRUE(never.error);
  EXPECT_EQ(never.error->message.find("of 0 bytes"), std::string::npos) << never.error->message;
}

TEST_F(EngineRun, who_rests_can_be_cancelled_and_paused) {
  auto engine = make(5);
  Outcome old, young, next;
  const int first = engine->submit(request(prompt_of(60, 1), 150, old)).value();
  const int second = engine->submit(request(prompt_of(60, 2), 150, young)).value();
  while (engine->rests() == 0) ASSERT_TRUE(engine->step());
  EXPECT_EQ(engine->waiting(), 1);
  engine->pause(second, true);
  ASSERT_TRUE(engine->submit(request(prompt_of(10, 3), 5, next)));
  while (!old.end) ASSERT_TRUE(engine->step());
  engine->cancel(second);
  engine->run_until_idle();
  ASSERT_TRUE(young.error);
  EXPECT_EQ(young.error->code, ErrorCode::kCancelled);
  EXPECT_EQ(old.tokens, fresh(prompt_of(60, 1), 150).tokens);
  EXPECT_EQ(next.tokens, fresh(prompt_of(10, 3), 5).tokens);
  EXPECT_EQ(engine->pages().available(), 5);
  (void)first;
}

TEST_F(EngineRun, a_request_after_any_history_equals_a_fresh_one) {
  auto engine = make(8);
  for (int i = 0; i < 30; ++i) {
    Outcome before, after;
    ASSERT_TRUE(engine->submit(request(prompt_of(1 + i * 5, i), 6, before)));
    engine->run_until_idle();
    const TokenIds prompt = prompt_of(70 + i % 9, i % 4);
    ASSERT_TRUE(engine->submit(request(prompt, 6, after)));
    engine->run_until_idle();
    ASSERT_EQ(after.tokens, fresh(prompt, 6).tokens) << i;
  }
}

TEST_F(EngineRun, another_salt_never_shares_pages) {
  auto engine = make(8);
  const TokenIds prompt = prompt_of(100, 1);
  const auto cached = [&](const std::string& salt) {
    Outcome o;
    GenerateRequest r = request(prompt, 2, o);
    r.cache_salt = salt;
    EXPECT_TRUE(engine->submit(std::move(r)));
    engine->run_until_idle();
    return o.started->cached_tokens;
  };
  EXPECT_EQ(cached("a"), 0);
  EXPECT_EQ(cached("a"), 64);
  EXPECT_EQ(cached("b"), 0);
}

/// Pages X and W are both cached, but W was computed behind Y: a prompt X W may share X alone.
TEST_F(EngineRun, a_page_is_shared_only_behind_the_same_beginning) {
  auto engine = make(24);
  const TokenIds x = prompt_of(64, 1), y = prompt_of(64, 2), w = prompt_of(64, 3), tail = prompt_of(10, 4);
  const auto joined = [](std::initializer_list<TokenIds> parts) {
    TokenIds all;
    for (const TokenIds& p : parts) all.insert(all.end(), p.begin(), p.end());
    return all;
  };
  int cached = -1;
  for (const TokenIds& prompt : {joined({x, tail}), joined({y, w, tail}), joined({x, w, tail})}) {
    Outcome o;
    ASSERT_TRUE(engine->submit(request(prompt, 6, o)));
    engine->run_until_idle();
    EXPECT_EQ(o.tokens, fresh(prompt, 6).tokens);
    cached = o.started->cached_tokens;
  }
  EXPECT_EQ(cached, 64);
}

TEST_F(EngineRun, a_stop_string_ends_the_answer_before_its_first_byte) {
  const Outcome whole = fresh(prompt_of(12, 2), 24);
  ASSERT_GT(whole.text.size(), 6u);
  const std::string stop = whole.text.substr(4, 2);
  auto engine = make(8);
  Outcome o;
  GenerateRequest r = request(prompt_of(12, 2), 24, o);
  r.stop = {stop};
  ASSERT_TRUE(engine->submit(std::move(r)));
  engine->run_until_idle();
  ASSERT_TRUE(o.end);
  EXPECT_EQ(o.end->reason, StopReason::kStopSequence);
  EXPECT_EQ(o.end->stop_sequence, stop);
  EXPECT_EQ(o.text, whole.text.substr(0, whole.text.find(stop)));
}

TEST_F(EngineRun, bad_requests_are_refused_before_they_cost_anything) {
  auto engine = make(4);
  Outcome o;
  const auto code = [&](const std::function<void(GenerateRequest&)>& spoil) {
    GenerateRequest r = request(prompt_of(5, 1), 5, o);
    spoil(r);
    const auto id = engine->submit(std::move(r));
    return id ? std::string("accepted") : std::string(name(id.error().code));
  };
  EXPECT_EQ(code([](auto& r) { r.prompt.clear(); }), "INVALID_REQUEST");
  EXPECT_EQ(code([](auto& r) { r.prompt[0] = 320; }), "INVALID_REQUEST");
  EXPECT_EQ(code([](auto& r) { r.prompt[0] = -1; }), "INVALID_REQUEST");
  EXPECT_EQ(code([](auto& r) { r.max_tokens = -1; }), "INVALID_REQUEST");
  EXPECT_EQ(code([](auto& r) { r.max_tokens = 252; }), "context_length_exceeded");
  EXPECT_EQ(code([](auto& r) { r.stop = {""}; }), "INVALID_REQUEST");
  EXPECT_EQ(code([](auto& r) { r.stop.assign(limits::kStopStringsMax + 1, "a"); }), "INVALID_REQUEST");
  EXPECT_EQ(code([](auto& r) { r.sampling.temperature = -1; }), "INVALID_REQUEST");
  EXPECT_FALSE(engine->step());
  EXPECT_EQ(o.terminals, 0);
}

}  // namespace
}  // namespace llorch
