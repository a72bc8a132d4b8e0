// Answers that a grammar holds: what they look like, that their bits do not depend on company, memory or forced text.
#include <gtest/gtest.h>

#include <bit>
#include <boost/json.hpp>
#include <map>

#include "base/random.h"
#include "engine/engine.h"
#include "golden.h"

namespace llorch {
namespace {

constexpr std::string_view kSchema = R"({"type": "object", "additionalProperties": false,
  "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 12}, "count": {"type": "integer", "minimum": -5, "maximum": 99},
                 "kind": {"enum": ["bird", "bee", "bear"]}},
  "required": ["name", "count", "kind"]})";

struct Answer {
  TokenIds tokens;
  std::string text;
  std::optional<StopReason> ended;
  std::optional<Error> error;
  std::map<int, std::uint64_t> bits;  // of the logits at each position that a token was drawn from
};

class Structured : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string path = GetParam();
    if (path != "builtin:haiku") {
      LLORCH_NEED_TEST_DATA(zoo, "models/zoo/" + path);
      path = zoo + "/model-f32.gguf";
    }
    model_.emplace(load_test_model(path, "", 2, 256));
    vocabulary_ = Vocabulary::of(*model_->tokenizer);
  }
  std::unique_ptr<Engine> make(int pages = 64, Speculation speculation = Speculation::kNgram) {
    EngineOptions options;
    options.speculation = speculation;
    options.pages = pages, options.max_batch = 4, options.prefill_chunk = 48, options.model_id = "test";
    auto engine = Engine::make(*model_->model, *model_->tokenizer, options).value();
    engine->logits_probe = [this, of = engine.get()](int id, int position, std::span<const float> logits) {
      std::uint64_t bits = 0;
      for (const float x : logits) bits = (bits ^ std::bit_cast<std::uint32_t>(x)) * 0x100000001b3ull;
      answers_.at({of, id})->bits[position] = bits;
    };
    return engine;
  }
  [[nodiscard]] std::shared_ptr<Constraint> constraint(const Compiled<Grammar>& grammar) const {
    return std::make_shared<Constraint>(grammar.value(), vocabulary_);
  }
  void submit(Engine& engine, std::shared_ptr<Constraint> constraint, std::uint64_t seed, Answer& answer, int most = 80,
              int salt = 0) {
    GenerateRequest r;
    r.prompt = prompt(salt), r.max_tokens = most, r.sampling.seed = seed, r.ignore_eos = true;
    r.constraint = std::move(constraint);
    r.sink = [&answer](const EngineEvent& e) {
      if (const auto* token = std::get_if<TokenEvent>(&e))
        answer.tokens.push_back(token->token.id), answer.text += token->text;
      if (const auto* end = std::get_if<EndEvent>(&e)) answer.ended = end->reason;
      if (const auto* error = std::get_if<Error>(&e)) answer.error = *error;
    };
    const auto id = engine.submit(std::move(r));
    ASSERT_TRUE(id) << id.error().message;
    answers_[{&engine, *id}] = &answer;
  }
  Answer ask(Engine& engine, std::shared_ptr<Constraint> constraint, std::uint64_t seed, int most = 80, int salt = 0) {
    Answer answer;
    submit(engine, std::move(constraint), seed, answer, most, salt);
    engine.run_until_idle();
    return answer;
  }
  [[nodiscard]] TokenIds prompt(int salt = 0) const {
    TokenIds ids;
    for (int i = 0; i < 70; ++i) ids.push_back((i * 37 + salt * 101 + 5) % (model_->model->graph().vocab - 20));
    return ids;
  }

  std::optional<LoadedModel> model_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::map<std::pair<const Engine*, int>, Answer*> answers_;
};

/// Read by another parser than the one that made the grammar.
void expect_animal(const std::string& text) {
  boost::system::error_code bad;
  const auto v = boost::json::parse(text, bad);
  ASSERT_FALSE(bad) << text;
  ASSERT_TRUE(v.is_object()) << text;
  const auto& o = v.get_object();
  ASSERT_EQ(o.size(), 3u) << text;
  EXPECT_TRUE(o.at("name").is_string() && !o.at("name").get_string().empty()) << text;
  EXPECT_TRUE(o.at("count").is_int64() && o.at("count").get_int64() >= -5 && o.at("count").get_int64() <= 99) << text;
  const std::string_view kind = o.at("kind").as_string();
  EXPECT_TRUE(kind == "bird" || kind == "bee" || kind == "bear") << text;
}

TEST_P(Structured, answers_are_what_the_schema_says) {
  const auto engine = make();
  const auto animal = constraint(Grammar::from_json_schema(kSchema));
  int whole = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Answer a = ask(*engine, animal, seed, 150);
    ASSERT_FALSE(a.error) << a.error->message;
    if (a.ended != StopReason::kEos) continue;
    ++whole;
    expect_animal(a.text);
  }
  EXPECT_GE(whole, 15) << "answers end by themselves, also where the end token is to be ignored";
}

/// What is forced is not drawn, and changes no bit of what is: the same tokens as a prompt give the same logits.
TEST_P(Structured, forced_text_takes_no_step_and_changes_no_bit) {
  const auto engine = make(), plain = make();
  const Answer a = ask(*engine, constraint(Grammar::from_json_schema(kSchema, {JsonWhitespace::kCompact})), 7, 150);
  ASSERT_EQ(a.ended, StopReason::kEos);
  expect_animal(a.text);
  EXPECT_LE(a.bits.size() + 3, a.tokens.size()) << "drawn " << a.bits.size() << " of " << a.tokens.size();
  const int before = static_cast<int>(prompt().size());
  for (const auto& [position, bits] : a.bits) {
    Answer again;
    GenerateRequest r;
    r.prompt = prompt(), r.max_tokens = 1;
    r.prompt.insert(r.prompt.end(), a.tokens.begin(), a.tokens.begin() + (position + 1 - before));
    const auto id = plain->submit(std::move(r));
    ASSERT_TRUE(id);
    answers_[{plain.get(), *id}] = &again;
    plain->run_until_idle();
    ASSERT_EQ(again.bits.at(position), bits) << "position " << position;
  }
}

TEST_P(Structured, alone_in_company_and_on_little_memory_they_are_the_same) {
  const auto alone = make(64, Speculation::kOff), company = make(), small = make(9);
  const auto animal = constraint(Grammar::from_json_schema(kSchema)),
             text = constraint(Grammar::from_regex("[a-z ]{140,}"));
  std::vector<Answer> together(6), tight(6);
  for (std::size_t i = 0; i < together.size(); ++i) {
    submit(*company, i % 3 == 2 ? nullptr : i % 3 ? text : animal, i, together[i], 150, static_cast<int>(i));
    submit(*small, i % 3 == 2 ? nullptr : i % 3 ? text : animal, i, tight[i], 150, static_cast<int>(i));
  }
  company->run_until_idle(), small->run_until_idle();
  EXPECT_GT(small->rests(), 0);
  for (std::size_t i = 0; i < together.size(); ++i) {
    const Answer want = ask(*alone, i % 3 == 2 ? nullptr : i % 3 ? text : animal, i, 150, static_cast<int>(i));
    ASSERT_FALSE(want.error);
    EXPECT_EQ(together[i].tokens, want.tokens) << i;
    EXPECT_EQ(tight[i].tokens, want.tokens) << i;
    EXPECT_EQ(together[i].bits, want.bits) << i;
    EXPECT_EQ(tight[i].bits, want.bits) << i;
  }
}

/// Guesses that are right for some tokens and then wrong, alone or in company: what the grammar allows behind each of
/// them is what it allows behind what is drawn.
TEST_P(Structured, drafted_or_not_they_are_the_same) {
  const auto alone = make(64, Speculation::kOff), drafted = make();
  const auto animal = constraint(Grammar::from_json_schema(kSchema)),
             text = constraint(Grammar::from_regex("([a-z ]{3,9}(, |; )){9}[a-z]{40,}"));
  std::vector<Answer> want(5), got(5);
  for (std::size_t i = 0; i < want.size(); ++i) {
    want[i] = ask(*alone, i % 2 ? text : animal, i, 150, static_cast<int>(i));
    ASSERT_FALSE(want[i].error);
    submit(*drafted, i % 2 ? text : animal, i, got[i], 150, static_cast<int>(i));
  }
  int calls = 0;
  drafted->guess_probe = [&](int id, std::span<const TokenId> tokens, int most) {
    const TokenIds& all = want[static_cast<std::size_t>(id) - 1].tokens;
    TokenIds guess(all.begin() + static_cast<std::ptrdiff_t>(tokens.size() - prompt().size()), all.end());
    guess.resize(std::min(guess.size() + 2, static_cast<std::size_t>(most)), 5);  // beyond the end, too
    const std::size_t wrong = mix64(static_cast<std::uint64_t>(++calls)) % 7;
    if (wrong < guess.size()) guess[wrong] = static_cast<TokenId>(mix64(static_cast<std::uint64_t>(calls)) % 300);
    return guess;
  };
  drafted->run_until_idle();
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].text, want[i].text) << i;
    EXPECT_EQ(got[i].tokens, want[i].tokens) << i;
    EXPECT_EQ(got[i].bits, want[i].bits) << i;
    EXPECT_EQ(got[i].ended, want[i].ended) << i;
  }
  EXPECT_GT(drafted->accepted(), 60);
  EXPECT_GT(drafted->drafted(), drafted->accepted());
}

TEST_P(Structured, one_that_is_forced_from_end_to_end) {
  const auto engine = make();
  const Answer a = ask(*engine, constraint(Grammar::from_regex("exactly this")), 1);
  EXPECT_EQ(a.text, "exactly this");
  EXPECT_EQ(a.ended, StopReason::kEos);
  EXPECT_TRUE(a.bits.empty()) << "nothing was to be drawn";
  const Answer cut = ask(*engine, constraint(Grammar::from_regex("exactly this")), 1, 1);
  EXPECT_EQ(cut.tokens.size(), 1u);
  EXPECT_EQ(cut.ended, StopReason::kMaxTokens);
  const Answer empty = ask(*engine, constraint(Grammar::from_regex("")), 1);
  EXPECT_EQ(empty.text, "");
  EXPECT_EQ(empty.ended, StopReason::kEos);
}

TEST_P(Structured, errors_are_the_request_s_own) {
  const auto engine = make();
  GenerateRequest r;
  r.prompt = prompt();
  r.constraint = std::make_shared<Constraint>(
      Grammar::from_regex("a").value(),
      std::make_shared<Vocabulary>(std::vector<std::string>{"a"}, std::vector<std::uint32_t>{}));
  EXPECT_EQ(engine->submit(std::move(r)).error().code, ErrorCode::kInvalidRequest) << "of another vocabulary";
  // Behind the first character, a text has more readings than are kept.
  std::string many = "[\\s\\S]";
  for (int i = 0; i < 10'001; ++i) many += "(a|b)*";
  const auto ambiguous = Grammar::from_regex(many);
  ASSERT_TRUE(ambiguous) << ambiguous.error().message;
  Answer bad, good;
  submit(*engine, constraint(ambiguous), 1, bad, 120);
  submit(*engine, constraint(Grammar::from_json_schema(kSchema)), 3, good, 150);
  engine->run_until_idle();
  ASSERT_TRUE(bad.error) << bad.text;
  EXPECT_EQ(bad.error->code, ErrorCode::kInvalidRequest);
  EXPECT_FALSE(good.error);
  EXPECT_EQ(good.tokens, ask(*make(), constraint(Grammar::from_json_schema(kSchema)), 3, 150).tokens);
}

INSTANTIATE_TEST_SUITE_P(Models, Structured, testing::Values("builtin:haiku", "qwen3_5", "gemma3"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::ranges::replace_if(
                               name, [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

}  // namespace
}  // namespace llorch
