// Bit-exactness (E-40, T-35): for every architecture and ISA, logits are memcmp-equal for any number of threads, any
// prefill chunk, alone or among strangers, with a cold, warm or evicted prefix cache, drafted or not; and decoding step
// by step gives what one prefill gives (E-14).
#include <gtest/gtest.h>

#include <cstring>

#include "base/random.h"
#include "engine/engine.h"
#include "golden.h"

namespace llorch {
namespace {

constexpr std::uint64_t kSeed = 21;

TokenIds tokens_of(int count, int salt) {
  TokenIds ids;
  for (int i = 0; i < count; ++i)
    ids.push_back(static_cast<TokenId>(mix64(static_cast<std::uint64_t>(i * 131 + salt)) % 319));
  return ids;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return !a.empty() && a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

struct Case {
  std::string shape, type, isa;
};

/// The emulated device is slow, and the zoo's chunks and orders run there (cuda_zoo): some of each kind.
bool runs_emulated(std::string_view shape, std::string_view type) {
  return type == "F32" ? shape == "tiny-llama"
                       : shape == "tiny-qwen2" || shape == "tiny-gpt2" || shape == "tiny-gpt-oss";
}

std::vector<Case> cases() {
  std::vector<Case> list;
  const std::vector<std::string> devices = fast_devices();
  for (const std::string_view shape : arch::shape_names()) {
    if (!shape.starts_with("tiny-")) continue;
    for (const std::string& isa : devices) {
      // It is slow, and gives the bits of the others (AcrossIsas): two architectures, each with one of the types, show
      // that it does so in any company.
      for (const char* type : {"F32", "Q4_K_M"}) {
        if (kCudaEmulated && !runs_emulated(shape, type)) continue;
        if (isa != "scalar" || shape == (std::string_view(type) == "F32" ? "tiny-gpt-oss" : "tiny-llama"))
          list.push_back({std::string(shape), type, isa});
      }
    }
    if (!kCudaAlone) list.push_back({std::string(shape), "Q6_K", "reference"});
  }
  return list;
}

/// Under sanitizers: every architecture on one ISA, one architecture on all.
bool runs_here(const Case& c) {
  return !kSanitized ||
         (c.type == "Q4_K_M" && (c.isa == fast_devices().front() || (c.shape == "tiny-qwen2" && c.isa != "scalar")));
}

class Determinism : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string none = no_test_device(); !none.empty()) GTEST_SKIP() << none;
    if (!runs_here(GetParam()))
      GTEST_SKIP() << "not run under sanitizers: the same code paths run in other cases, this one in release";
    path_ = scratch_ / "model.gguf";
    arch::SynthRequest request;
    request.shape = GetParam().shape, request.type = GetParam().type, request.seed = kSeed;
    ASSERT_TRUE(arch::synthesize(request, path_));
  }
  [[nodiscard]] LoadedModel load(int threads) const { return load_test_model(path_, GetParam().isa, threads); }

  ScratchDirectory scratch_;
  std::string path_;
};

/// Logits of every sampled position of one request, and its tokens.
struct Trace {
  std::vector<std::vector<float>> logits;
  TokenIds tokens;
  int cached = -1;
};

class Harness {
 public:
  Harness(LoadedModel& model, EngineOptions options)
      : engine_(Engine::make(*model.model, *model.tokenizer, options).value()) {
    engine_->logits_probe = [this](int id, int, std::span<const float> logits) {
      traces_[id].logits.emplace_back(logits.begin(), logits.end());
    };
  }
  int submit(TokenIds prompt, int max_tokens, std::uint64_t seed) {
    GenerateRequest r;
    r.prompt = std::move(prompt), r.max_tokens = max_tokens, r.ignore_eos = true;
    r.sampling.seed = seed;
    const int slot = next_++;
    r.sink = [this, slot](const EngineEvent& e) {
      if (const auto* started = std::get_if<StartedEvent>(&e)) traces_[slot].cached = started->cached_tokens;
      if (const auto* token = std::get_if<TokenEvent>(&e)) traces_[slot].tokens.push_back(token->token.id);
      if (const auto* error = std::get_if<Error>(&e)) ADD_FAILURE() << error->message;
    };
    const auto id = engine_->submit(std::move(r));
    EXPECT_TRUE(id) << id.error().message;
    EXPECT_EQ(*id, slot);
    return slot;
  }
  void run() { engine_->run_until_idle(); }
  Trace& trace(int id) { return traces_[id]; }
  Engine& engine() { return *engine_; }

 private:
  std::map<int, Trace> traces_;
  std::unique_ptr<Engine> engine_;
  int next_ = 1;
};

void expect_same(const Trace& got, const Trace& want, const char* what) {
  EXPECT_EQ(got.tokens, want.tokens) << what;
  ASSERT_EQ(got.logits.size(), want.logits.size()) << what;
  for (std::size_t i = 0; i < want.logits.size(); ++i)
    ASSERT_TRUE(same_bits(got.logits[i], want.logits[i])) << what << ", step " << i;
}

TEST_P(Determinism, threads_and_prefill_chunks_change_no_bit) {
  const TokenIds tokens = tokens_of(80, 1);
  LoadedModel one = load(1);
  const std::vector<float> want = run_tokens(one, tokens, 512, KvPrecision::kF16).logits;
  for (const int chunk : {1, 7, 64})
    EXPECT_TRUE(same_bits(run_tokens(one, tokens, chunk, KvPrecision::kF16).logits, want)) << "chunk " << chunk;
  for (const KvPrecision kv : {KvPrecision::kF32, KvPrecision::kQ8_0})
    EXPECT_TRUE(same_bits(run_tokens(one, tokens, 7, kv).logits, run_tokens(one, tokens, 512, kv).logits))
        << "KV precision " << static_cast<int>(kv);
  for (const int threads : {2, 4}) {
    LoadedModel more = load(threads);
    EXPECT_TRUE(same_bits(run_tokens(more, tokens, 512, KvPrecision::kF16).logits, want)) << threads << " threads";
    EXPECT_TRUE(same_bits(run_tokens(more, tokens, 7, KvPrecision::kF16).logits, want))
        << threads << " threads, chunk 7";
  }
}

TEST_P(Determinism, strangers_and_the_prefix_cache_change_no_bit) {
  constexpr int kOut = 8;
  const TokenIds prompt = tokens_of(70, 2);
  LoadedModel model = load(2);
  EngineOptions options;
  options.prefill_chunk = 32, options.max_batch = 8, options.pages = 40;
  Harness alone(model, options);
  const int first = alone.submit(prompt, kOut, 5);
  alone.run();
  const Trace want = alone.trace(first);
  ASSERT_EQ(want.tokens.size(), static_cast<std::size_t>(kOut));
  EXPECT_EQ(want.cached, 0);

  const int warm = alone.submit(prompt, kOut, 5);
  alone.run();
  EXPECT_EQ(alone.trace(warm).cached, 64);
  expect_same(alone.trace(warm), want, "warm prefix cache");

  alone.engine().evict_cache();
  const int evicted = alone.submit(prompt, kOut, 5);
  alone.run();
  EXPECT_EQ(alone.trace(evicted).cached, 0);
  expect_same(alone.trace(evicted), want, "evicted prefix cache");

  Harness crowd(model, options);
  int mine = 0;
  for (int i = 0; i < 8; ++i) {
    const int id = i == 5 ? crowd.submit(prompt, kOut, 5)
                          : crowd.submit(tokens_of(3 + 11 * i, 100 + i), 4 + i, static_cast<std::uint64_t>(i));
    if (i == 5) mine = id;
  }
  crowd.run();
  expect_same(crowd.trace(mine), want, "seven strangers");

  options.max_batch = 1, options.prefill_chunk = 1;
  Harness single(model, options);
  const int strict = single.submit(prompt, kOut, 5);
  single.run();
  expect_same(single.trace(strict), want, "batch of one, chunk of one");

  // Decoding step by step equals one prefill of the same tokens.
  TokenIds all = prompt;
  all.insert(all.end(), want.tokens.begin(), want.tokens.end() - 1);
  const std::vector<float> whole = run_tokens(model, all, 512, KvPrecision::kF16).logits;
  const std::size_t vocab = want.logits.front().size();
  for (std::size_t i = 0; i < want.logits.size(); ++i)
    ASSERT_TRUE(same_bits(want.logits[i], std::span(whole).subspan((prompt.size() - 1 + i) * vocab, vocab)))
        << "re-prefill, step " << i;
}

/// Guesses that are right for some tokens and then wrong, of all lengths: what is drawn does not depend on them.
TEST_P(Determinism, guesses_change_no_bit) {
  constexpr int kOut = 32;  // across the end of a page
  const TokenIds prompt = tokens_of(45, 3);
  LoadedModel model = load(2);
  EngineOptions options;
  options.speculation = Speculation::kOff, options.pages = 20, options.prefix_cache = false;
  Harness plain(model, options);
  const int first = plain.submit(prompt, kOut, 6), second = plain.submit(tokens_of(9, 4), kOut, 7);
  plain.run();
  EXPECT_EQ(plain.engine().drafted(), 0);
  options.speculation = Speculation::kNgram;
  Harness drafted(model, options);
  int calls = 0;
  drafted.engine().guess_probe = [&](int id, std::span<const TokenId> tokens, int most) {
    TokenIds known = id == first ? prompt : tokens_of(9, 4);
    const Trace& trace = plain.trace(id);
    known.insert(known.end(), trace.tokens.begin(), trace.tokens.end());
    TokenIds guess(known.begin() + static_cast<std::ptrdiff_t>(tokens.size()), known.end());
    guess.resize(std::min(guess.size(), static_cast<std::size_t>(most)));
    const std::size_t wrong = mix64(static_cast<std::uint64_t>(++calls)) % 9;  // seldom behind the last one
    if (wrong < guess.size()) guess[wrong] = (guess[wrong] + 1) % 319;
    return guess;
  };
  ASSERT_EQ(drafted.submit(prompt, kOut, 6), first);
  ASSERT_EQ(drafted.submit(tokens_of(9, 4), kOut, 7), second);
  drafted.run();
  expect_same(drafted.trace(first), plain.trace(first), "guesses");
  expect_same(drafted.trace(second), plain.trace(second), "guesses, another sequence");
  EXPECT_GT(drafted.engine().accepted(), kOut / 2);
  EXPECT_GT(drafted.engine().drafted(), drafted.engine().accepted());
}

INSTANTIATE_TEST_SUITE_P(all, Determinism, testing::ValuesIn(cases()), [](const auto& p) {
  std::string name = p.param.shape + "_" + p.param.type + "_" + p.param.isa;
  std::ranges::replace(name, '-', '_');
  return name;
});

/// Arithmetic is fixed by the format alone: a whole model gives the same bits on every instruction set without tiles.
class AcrossIsas : public testing::TestWithParam<std::string> {};

TEST_P(AcrossIsas, every_instruction_set_without_tiles_gives_the_same_bits) {
  if (kCudaAlone) GTEST_SKIP() << "not run: it is the CPU's";
  const ScratchDirectory scratch;
  const TokenIds tokens = tokens_of(70, 4);
  int count = 0;
  const auto* const* all = kernel::all_kernels(count);
  for (const char* type : {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K", "MXFP4"}) {
    if (kSanitized && std::string_view(type) != "Q4_K_M") continue;
    arch::SynthRequest request;
    request.shape = GetParam(), request.type = type, request.seed = kSeed;
    ASSERT_TRUE(arch::synthesize(request, scratch / "model.gguf"));
    for (const KvPrecision kv : {KvPrecision::kF16, KvPrecision::kQ8_0}) {
      if (kv == KvPrecision::kQ8_0 && std::string_view(type) != "Q4_K_M") continue;  // no matter of the weights' format
      std::vector<float> want;
      std::string first;
      for (int i = 0; i < count; ++i) {
        if (!all[i]->canonical || (kSanitized && std::string_view(all[i]->name) == "scalar")) continue;
        LoadedModel model = load_test_model(scratch / "model.gguf", all[i]->name, 2);
        std::vector<float> got = run_tokens(model, tokens, 33, kv).logits;
        if (want.empty()) {
          want = std::move(got), first = all[i]->name;
          continue;
        }
        EXPECT_TRUE(same_bits(got, want)) << type << ": " << all[i]->name << " and " << first << " differ";
      }
    }
  }
}

std::vector<std::string> tiny_shapes() {
  std::vector<std::string> names;
  for (const std::string_view shape : arch::shape_names())
    if (shape.starts_with("tiny-")) names.emplace_back(shape);
  return names;
}
INSTANTIATE_TEST_SUITE_P(all, AcrossIsas, testing::ValuesIn(tiny_shapes()), [](const auto& p) {
  std::string name = p.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

// The comparison itself must see a single bit.
TEST(SameBits, sees_one_bit_and_refuses_nothing) {
  std::vector<float> a{1, 2, 3}, b = a;
  EXPECT_TRUE(same_bits(a, b));
  b[1] = std::nextafter(b[1], 3.0f);
  EXPECT_FALSE(same_bits(a, b));
  EXPECT_FALSE(same_bits({}, {}));
  b = {0.0f, 2, 3}, a = {-0.0f, 2, 3};
  EXPECT_FALSE(same_bits(a, b));
}

}  // namespace
}  // namespace llorch
