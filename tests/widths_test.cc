// Two layers of each family at the widths of a published model (arch/published.h), random weights in BF16: the default
// path against the reference device. What is right only when it is tiny shows here: sums of thousands of products,
// heads and states of real size. Experts are fewer than published, each as wide.
//
// Bound: floats are summed in another order. A sum of K terms errs by at most K 2^-24 of the sum of magnitudes, with
// random signs by its square root: for the longest here, K = 27,648, 1e-5, and others are shorter. The delta rule makes
// errors grow: five times that, as in the zoo. Tiles multiply halves of floats: as in the zoo, too.
//
// LLORCH_WIDTHS=all: all of them (10 GB of memory, minutes); else those that take seconds together.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "arch/published.h"
#include "close.h"
#include "golden.h"

namespace llorch {
namespace {

constexpr double kBound = 2e-5, kTileBound = 1e-3;

struct Case {
  const char* shape;
  const char* fields;  // over the published ones
  bool everyday = false;
  double bound = kBound;
};

// Layers of each kind that the family has.
#define LLORCH_TWO R"("num_hidden_layers": 2, "vocab_size": 320)"
#define LLORCH_SLIDING R"("layer_types": ["sliding_attention", "full_attention"], )" LLORCH_TWO
#define LLORCH_DELTA R"("layer_types": ["linear_attention", "full_attention"], )" LLORCH_TWO
constexpr Case kCases[] = {
    {"llama-3.1-8b", "{" LLORCH_TWO "}"},
    {"mistral-7b", "{" LLORCH_TWO "}"},
    {"mixtral-8x7b", R"({"num_local_experts": 4, )" LLORCH_TWO "}"},
    {"ministral-3-3b", "{" LLORCH_TWO "}"},
    {"qwen3-0.6b", "{" LLORCH_TWO "}", true},
    {"qwen3-30b-a3b", R"({"num_experts": 16, )" LLORCH_TWO "}"},
    {"qwen3.5-2b", "{" LLORCH_DELTA "}", false, 5 * kBound},
    {"qwen3.5-35b-a3b", R"({"num_experts": 16, )" LLORCH_DELTA "}", true, 5 * kBound},
    {"qwen3-next-80b-a3b", R"({"num_experts": 16, )" LLORCH_DELTA "}", false, 5 * kBound},
    {"gemma-2-2b", "{" LLORCH_SLIDING "}"},
    {"gemma-3-270m", "{" LLORCH_SLIDING "}", true},
    {"gemma-3-4b", "{" LLORCH_SLIDING "}"},
    {"embeddinggemma-300m", "{" LLORCH_SLIDING "}", true},
    {"gemma-4-e4b",
     R"({"num_hidden_layers": 4, "num_kv_shared_layers": 2, "vocab_size": 320, "vocab_size_per_layer_input": 320,
         "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]})"},
    {"gemma-4-26b-a4b", R"({"num_experts": 16, "vocab_size_per_layer_input": 320, )" LLORCH_SLIDING "}"},
    {"lfm2-1.2b", R"({"layer_types": ["conv", "full_attention"], )" LLORCH_TWO "}", true},
    {"lfm2-8b-a1b",
     R"({"layer_types": ["conv", "full_attention"], "num_experts": 8, "num_dense_layers": 1, )" LLORCH_TWO "}"},
    {"granite-3.3-2b", "{" LLORCH_TWO "}"},
    {"granite-3.1-1b-a400m", "{" LLORCH_TWO "}", true},
    {"granite-4-h-tiny", R"({"layer_types": ["mamba", "attention"], "num_local_experts": 16, )" LLORCH_TWO "}", true},
    {"granite-swa-2b", R"({"layer_types": ["full_attention", "sliding_attention"], )" LLORCH_TWO "}"},
    {"deepseek-v2-lite", R"({"n_routed_experts": 12, )" LLORCH_TWO "}", true},
    {"deepseek-v3", R"({"n_routed_experts": 16, "first_k_dense_replace": 1, )" LLORCH_TWO "}"},
    {"glm-4.7-flash", R"({"n_routed_experts": 8, )" LLORCH_TWO "}"},
    {"glm-4-9b", "{" LLORCH_TWO "}"},
    {"glm-4.5-air", R"({"n_routed_experts": 16, )" LLORCH_TWO "}"},
    {"nemotron-h-8b", R"({"hybrid_override_pattern": "M*-", "num_hidden_layers": 3, "vocab_size": 320})"},
    {"nemotron-3-nano-30b-a3b",
     R"({"hybrid_override_pattern": "M*E", "n_routed_experts": 16, "num_hidden_layers": 3, "vocab_size": 320})"},
    {"smollm3-3b", "{" LLORCH_TWO "}"},
    {"olmo-2-1b", "{" LLORCH_TWO "}"},
    {"olmo-3-7b", "{" LLORCH_SLIDING "}"},
    {"command-r7b", "{" LLORCH_SLIDING "}"},
    {"ernie-4.5-0.3b", "{" LLORCH_TWO "}", true},
    {"ernie-4.5-21b-a3b", R"({"moe_num_experts": 8, "moe_layer_end_index": 1, )" LLORCH_TWO "}"},
    {"exaone-4.0-1.2b", "{" LLORCH_TWO "}"},
    {"hunyuan-1.8b", "{" LLORCH_TWO "}"},
    {"seed-oss-36b", "{" LLORCH_TWO "}"},
    {"llama-4-scout", R"({"num_local_experts": 4, )" LLORCH_TWO "}"},
    {"bge-base", "{" LLORCH_TWO "}", true},
    {"nomic-embed", "{" LLORCH_TWO "}", true},
    {"modernbert-base", "{" LLORCH_SLIDING "}", true},
};

class Widths : public testing::TestWithParam<Case> {};

TEST_P(Widths, the_default_path_computes_what_the_reference_does) {
  const Case& c = GetParam();
  if (kSanitized) GTEST_SKIP() << "not run under sanitizers: real widths take minutes there, and the code is the zoo's";
  const char* which = std::getenv("LLORCH_WIDTHS");
  if (!c.everyday && !(which && std::string_view(which) == "all"))
    GTEST_SKIP() << "not run: LLORCH_WIDTHS=all computes all widths";
  ScratchDirectory scratch;
  const std::string path = scratch / "model.gguf";
  arch::SynthRequest request;
  request.shape = c.shape, request.fields = c.fields, request.type = "BF16", request.quick = true;
  const Status made = arch::synthesize(request, path);
  ASSERT_TRUE(made) << c.shape << ": " << made.error().message;
  const TokenIds tokens{3, 141, 59, 265, 35, 89};
  const auto run = [&](const std::string& device) {
    LoadedModel model = load_test_model(path, device, 2, 256, 8);
    return run_tokens(model, tokens).logits;
  };
  const std::vector<float> want = run("reference"), got = run("");
  Closeness close;
  ASSERT_TRUE(measure(got, want, close)) << c.shape;
  const double bound = fast_devices().front() == "amx" ? kTileBound : c.bound;
  EXPECT_LE(close.error, bound) << c.shape;
  std::printf("widths %-24s %5.0f MB, error %.1e (bound %.0e)\n", c.shape,
              static_cast<double>(std::filesystem::file_size(path)) / 1e6, close.error, bound);
}

INSTANTIATE_TEST_SUITE_P(all, Widths, testing::ValuesIn(kCases), [](const auto& p) {
  std::string name = p.param.shape;
  std::ranges::replace_if(
      name, [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

/// A published model of each family that has a model_type, but those whose shapes are stated in GGUF's keys.
TEST(PublishedShapes, have_one_of_each_family) {
  std::set<std::string_view> families, tested;
  for (const Case& c : kCases) tested.insert(c.shape);
  for (const arch::PublishedShape& s : arch::published_shapes()) {
    EXPECT_TRUE(tested.contains(s.name)) << s.name;
    const auto shape = arch::find_shape({.shape = std::string(s.name)});
    ASSERT_TRUE(shape) << s.name << ": " << shape.error().message;
    families.insert(shape->family->name);
  }
  for (const std::string_view stated : {"qwen2", "phi3", "gpt2", "gpt-oss"}) families.insert(stated);
  for (const arch::Architecture* family : arch::all()) EXPECT_TRUE(families.contains(family->name)) << family->name;
}

}  // namespace
}  // namespace llorch
