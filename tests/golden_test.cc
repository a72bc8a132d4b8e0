// Every family (F32 and Q4_K) and every format (in the llama family) against Hugging Face transformers in float64
// (P-01, E-05, E-06).
//
// With the reference backend every F32 checkpoint is within 1e-5 of the largest value of that checkpoint. The first
// diverging checkpoint is named. The fast ISAs compute plain formats (F32, F16, BF16) with float activations and block
// formats with activations quantized to 8 bits:
//   plain:  rounding of float sums. A sum of K terms errs by at most K 2^-24 relative to the sum of magnitudes; the
//   longest here has K = 1024,
//           about 10 such sums follow each other: 1024 * 2^-24 * 10 = 6e-4 in the worst case, and random signs leave
//           about its square root over K of that. Bound: 1e-4 (largest difference over largest value). On tiles
//           activations are two bfloat16: 2^-17 = 8e-6 for each product, well inside.
//   blocks: a block of 32 activations is rounded to steps of max/127; a uniform error of half a step has a deviation of
//   max / 127 / sqrt(12), and
//           the maximum of 32 values is about 2.2 deviations of them: 2.2 / (127 * 3.46) = 0.5 % of the output of each
//           product, independent of K. A residual stream passes 4 products per layer and the head: sqrt(4 * 2 + 1) *
//           0.5 % = 1.5 %. K formats quantize 256 activations together, whose maximum is about 2.8 deviations: 0.64 %
//           and 1.9 %. Bound: 3 %, on norm(difference) / norm(logits).
//   products of a library (accelerate): floats for weights of every format, so the rounding of sums alone, in blocks of
//   256 columns: about sqrt(256) 2^-24 = 1e-6 of each product, and sqrt(9) of that. Bound: 3e-6.
// In a mixture the same error can decide between two experts that are almost equally good. Such a flip must lie within
// the bound (the router's logits differ by less than twice the bound of their size); the reference's choice is then
// imposed on that row, so that every row of logits is compared; how many were imposed is printed. Where the two largest
// expected logits lie further apart than twice the largest difference that the bound allows, the argmax must agree.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "close.h"
#include "golden.h"
#include "zoo.h"

namespace llorch {
namespace {

constexpr double kReferenceBound = 1e-5, kPlainBound = 1e-4, kBlockBound = 0.03, kHalfCacheBound = 1e-3,
                 kProvidedBound = 3e-6;

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (const std::string none = no_test_device(); !none.empty()) GTEST_SKIP() << none;
    golden_ = Golden::read(GetParam());
    const std::set<std::string> sanitized{"F32", "Q2_K", "Q4_K", "Q5_1", "Q6_K", "MXFP4"};
    if (kSanitized && !sanitized.contains(golden_.type))
      GTEST_SKIP() << "not run under sanitizers: " << golden_.type
                   << " runs in release, each of its code paths in another format";
    path_ = scratch_ / "model.gguf";
    ASSERT_EQ(golden_.make_model(path_), "") << golden_.name;
  }
  void check_argmax(const std::vector<float>& got, const std::vector<float>& want, double allowed,
                    const std::string& isa) const {
    constexpr std::size_t kVocab = 320;
    for (std::size_t row = 0; row * kVocab < want.size(); ++row) {
      const auto first = want.begin() + static_cast<std::ptrdiff_t>(row * kVocab);
      std::vector<float> sorted(first, first + kVocab);
      std::ranges::partial_sort(sorted, sorted.begin() + 2, std::greater<>());
      if (static_cast<double>(sorted[0] - sorted[1]) <= 2 * allowed) continue;
      const auto ours = got.begin() + static_cast<std::ptrdiff_t>(row * kVocab);
      EXPECT_EQ(std::max_element(ours, ours + kVocab) - ours, std::max_element(first, first + kVocab) - first)
          << golden_.name << " " << isa << " row " << row;
    }
  }
  /// Lets every row of `model` choose the reference's experts, having checked that where it would not the choice is a
  /// near tie. `flips` counts those.
  void impose_routing(LoadedModel& model, const ForwardRun& reference, std::size_t rows, int& flips) const {
    model.model->router_probe = [&, rows](const std::string& name, std::span<float> logits) {
      const std::vector<float>& want = reference.checkpoints.at(name);
      ASSERT_EQ(logits.size(), want.size()) << name;
      const std::size_t experts = want.size() / rows;
      for (std::size_t row = 0; row < rows; ++row) {
        const std::span<float> a = logits.subspan(row * experts, experts);
        const std::span<const float> b(want.data() + row * experts, experts);
        if (chosen(a) == chosen(b)) continue;
        std::vector<float> sorted(b.begin(), b.end());
        std::ranges::sort(sorted, std::greater<>());
        const float size = std::max(std::fabs(sorted.front()), std::fabs(sorted.back()));
        EXPECT_LE(sorted[kActive - 1] - sorted[kActive], 2 * kBlockBound * size)
            << golden_.name << ": " << name << " row " << row << " chose other experts without a near tie";
        std::ranges::copy(b, a.begin());
        ++flips;
      }
    };
  }
  static std::set<std::size_t> chosen(std::span<const float> logits) {
    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    return {order.begin(), order.begin() + kActive};
  }
  static constexpr std::size_t kActive = 2;  // experts per token of tiny-gpt-oss

  ScratchDirectory scratch_;
  Golden golden_;
  std::string path_;
};

TEST_P(GoldenTest, reference_backend_is_within_1e5_at_every_checkpoint) {
  if (kCudaAlone) GTEST_SKIP() << "not run: it is the CPU's";
  LoadedModel model = load_test_model(path_, "reference", 2, golden_.short_context);
  const ForwardRun run = run_tokens(model, golden_.short_tokens, 512, KvPrecision::kF32, true);
  double worst = 0;
  int compared = 0;
  for (const std::string& name : run.order) {
    const auto want = golden_.values.find("short/" + name);
    if (want == golden_.values.end()) continue;
    Closeness c;
    ASSERT_TRUE(measure(run.checkpoints.at(name), want->second, c))
        << golden_.name << ": first diverging checkpoint " << name;
    ASSERT_LE(c.error, kReferenceBound) << golden_.name << ": first diverging checkpoint " << name;
    worst = std::max(worst, c.error);
    ++compared;
  }
  EXPECT_GT(compared, 0);
  // Nothing that the reference recorded may be left out.
  EXPECT_EQ(compared,
            std::ranges::count_if(golden_.values, [](const auto& v) { return v.first.starts_with("short/"); }));
  std::printf("golden %-14s %-9s error %.1e over %d checkpoints\n", golden_.name.c_str(), "reference", worst, compared);
  if (const auto want = golden_.values.find("long/logits"); want != golden_.values.end()) {
    LoadedModel whole = load_test_model(path_, "reference");
    EXPECT_TRUE(close(run_tokens(whole, golden_.long_tokens).logits, want->second, kReferenceBound)) << golden_.name;
  }
}

TEST_P(GoldenTest, fast_isas_err_no_more_than_activation_quantization_explains) {
  const bool plain = golden_.type == "F32" || golden_.type == "F16" || golden_.type == "BF16";
  const std::vector<float>& want = golden_.values.at("short/logits");
  const std::size_t rows = golden_.short_tokens.size();
  const double scale = std::fabs(*std::ranges::max_element(want, {}, [](float x) { return std::fabs(x); }));
  LoadedModel exact = load_test_model(path_, "reference", 2, golden_.short_context);
  const ForwardRun reference = run_tokens(exact, golden_.short_tokens, 512, KvPrecision::kF32, true);
  for (const std::string& isa : fast_devices()) {
    if (kSanitized && isa == "scalar") {
      std::printf("golden %-14s %-9s not run under sanitizers: test_kernel runs it there\n", golden_.name.c_str(),
                  isa.c_str());
      continue;
    }
    const bool provided = isa == "accelerate";
    const double bound = provided ? kProvidedBound : plain ? kPlainBound : kBlockBound;
    LoadedModel model = load_test_model(path_, isa, 2, golden_.short_context);
    int flips = 0;
    impose_routing(model, reference, rows, flips);
    const ForwardRun run = run_tokens(model, golden_.short_tokens, 512, KvPrecision::kF32, true);
    Closeness c;
    ASSERT_TRUE(measure(run.logits, want, c)) << golden_.name << " " << isa;
    EXPECT_LE(plain || provided ? c.error : c.l2, bound) << golden_.name << " " << isa;
    check_argmax(run.logits, want, bound * scale, isa);
    std::printf(
        "golden %-14s %-9s max error %.1e, norm error %.1e (bound %.0e), NMSE %.1e over %zu rows, %d routings "
        "imposed\n",
        golden_.name.c_str(), isa.c_str(), c.error, c.l2, bound, c.l2 * c.l2, rows, flips);
  }
}

/// Attention does not know how weights are stored: those that add nothing of their own.
class GoldenOfPlainWeights : public GoldenTest {
 public:
  static std::vector<std::string> files() {
    std::vector<std::string> paths = Golden::files();
    std::erase_if(paths, [](const std::string& path) {
      return !path.ends_with("-F32.safetensors") && !path.ends_with("-F16.safetensors") &&
             !path.ends_with("-BF16.safetensors");
    });
    return paths;
  }
};

/// With the cache that people use. Both sides round keys and values alike, now and then to neighbours, because the
/// states before them differ a little: one in some hundreds, by 2^-11.
TEST_P(GoldenOfPlainWeights, fast_isas_agree_with_the_reference_over_an_f16_cache) {
  LoadedModel exact = load_test_model(path_, "reference", 2, golden_.short_context);
  const ForwardRun reference = run_tokens(exact, golden_.short_tokens, 512, KvPrecision::kF16, true);
  EXPECT_NE(reference.logits, run_tokens(exact, golden_.short_tokens, 512, KvPrecision::kF32).logits);
  for (const std::string& isa : fast_devices()) {
    if (kSanitized && isa == "scalar") {
      std::printf("golden %-14s %-9s F16 cache: not run under sanitizers: test_kernel runs it there\n",
                  golden_.name.c_str(), isa.c_str());
      continue;
    }
    LoadedModel model = load_test_model(path_, isa, 2, golden_.short_context);
    int flips = 0;
    impose_routing(model, reference, golden_.short_tokens.size(), flips);
    const ForwardRun run = run_tokens(model, golden_.short_tokens, 512, KvPrecision::kF16, true);
    Closeness c;
    ASSERT_TRUE(measure(run.logits, reference.logits, c)) << golden_.name << " " << isa;
    EXPECT_LE(c.error, kHalfCacheBound) << golden_.name << " " << isa;
    std::printf("golden %-14s %-9s F16 cache: max error %.1e, norm error %.1e (bound %.0e)\n", golden_.name.c_str(),
                isa.c_str(), c.error, c.l2, kHalfCacheBound);
  }
}

std::string name_of(const testing::TestParamInfo<std::string>& param) {
  std::string name = std::filesystem::path(param.param).stem();
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(all, GoldenTest, testing::ValuesIn(Golden::files()), name_of);
INSTANTIATE_TEST_SUITE_P(all, GoldenOfPlainWeights, testing::ValuesIn(GoldenOfPlainWeights::files()), name_of);

/// A format is the same code in every family: each is proven once. A family is proven as it is, and once through
/// blocks; or by a model of the zoo, which holds it to float64 truth too.
TEST(GoldenFiles, every_format_has_one_and_every_family_two_or_a_model_of_the_zoo) {
  const auto there = [](std::string_view family, std::string_view type) {
    return std::filesystem::exists(fmt::format("{}/tests/golden/{}-{}.safetensors", LLORCH_SOURCE_DIR, family, type));
  };
  for (const DTypeInfo& type : kDTypes)
    EXPECT_TRUE(!is_weight_type(type.type) || there("llama", type.name)) << type.name;
  for (const arch::Architecture* family : arch::all()) {
    if (std::ranges::find(kZoo, family->name, &ZooModel::family) != std::end(kZoo)) continue;
    for (const char* type : {"F32", "Q4_K"}) EXPECT_TRUE(there(family->name, type)) << family->name << " " << type;
  }
  EXPECT_TRUE(there("gpt-oss", "MXFP4")) << "what its files have";
}

}  // namespace
}  // namespace llorch
