// The zoo of tiny models (test data, models/zoo): what loads computes its float64 truth, from GGUF and from Hugging
// Face files, on the reference and on every instruction set; what is not supported says so when it is opened.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/folder.h"
#include "golden.h"
#include "kernel/kernels.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;
/// Of the largest true value: what float activations may add (the zoo's README measures 3e-6 for other float32 code).
constexpr double kBound = 1e-5;

/// The float32 values of a .npy file, version 1.
std::vector<float> read_npy(const std::string& path) {
  const MappedFile file = MappedFile::open(path).value();
  std::uint16_t header = 0;
  std::memcpy(&header, file.bytes().data() + 8, 2);
  const auto data = file.bytes().subspan(10u + header);
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), values.size() * sizeof(float));
  return values;
}

struct Prompt {
  TokenIds ids;
  std::vector<float> logits;
  TokenIds greedy;
};

class Zoo : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    LLORCH_NEED_TEST_DATA(folder, "models/zoo/" + GetParam());
    if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not there: not run";
    folder_ = folder;
    const json::value ids = read(folder + "/ids.json"), greedy = read(folder + "/greedy.json");
    for (const char* name : {"5", "40"}) {
      Prompt p;
      p.ids = list(*json::find_array(ids.get_object(), name));
      p.logits = read_npy(fmt::format("{}/logits-{}.npy", folder, name));
      p.greedy = list(*json::find_array(*json::find_object(greedy.get_object(), name), "ids"));
      prompts_.push_back(std::move(p));
    }
  }
  static json::value read(const std::string& path) {
    return json::parse(read_text_file(path, limits::kJsonBytesMax).value(), path).value();
  }
  static TokenIds list(const json::array& array) {
    TokenIds ids;
    for (const json::value& v : array) ids.push_back(static_cast<TokenId>(*json::as_unsigned(v)));
    return ids;
  }
  static std::vector<float> logits_of(LoadedModel& model, const TokenIds& ids, int chunk) {
    std::vector<float> all;
    const Status done = forward_all(*model.model, ids, chunk, KvPrecision::kF32, [&](int, std::span<const float> row) {
      all.insert(all.end(), row.begin(), row.end());
    });
    EXPECT_TRUE(done) << done.error().message;
    return all;
  }
  static double error_of(const std::vector<float>& got, const std::vector<float>& want) {
    EXPECT_EQ(got.size(), want.size());
    double worst = 0, size = 0;
    for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
      size = std::max(size, std::fabs(static_cast<double>(want[i])));
    }
    return std::isfinite(worst) && size > 0 ? worst / size : HUGE_VAL;
  }
  std::string folder_;
  std::vector<Prompt> prompts_;
};

TEST_P(Zoo, is_exact_from_both_forms_on_every_instruction_set) {
  int count = 0;
  const auto* const* all = kernel::all_kernels(count);
  std::vector<std::string> isas{"reference"};
  for (int i = 0; i < count; ++i) isas.emplace_back(all[i]->name);
  for (const char* form : {"model-f32.gguf", "hf"})
    for (const std::string& isa : isas) {
      // Within the original context, so that the short factors hold, as in its truth.
      LoadedModel model = load_test_model(folder_ + "/" + form, isa, 2, GetParam() == "phi3" ? 1024 : 0);
      for (const Prompt& p : prompts_) {
        const double bound = isa == "amx" ? 1e-3 : kBound;  // multiplies halves of floats
        const std::vector<float> got = logits_of(model, p.ids, 512);
        EXPECT_LT(error_of(got, p.logits), bound) << form << " " << isa << ", " << p.ids.size() << " tokens";
        EXPECT_EQ(got, logits_of(model, p.ids, 3)) << form << " " << isa << ": the bits depend on the chunk";
        if (isa != isas.back()) continue;
        TokenIds so_far = p.ids;
        for (const TokenId want : p.greedy) {
          const std::vector<float> next = logits_of(model, so_far, 512);
          const auto last = next.end() - model.model->graph().vocab;
          ASSERT_EQ(std::max_element(last, next.end()) - last, want) << form << ", token " << so_far.size();
          so_far.push_back(want);
        }
      }
    }
}

INSTANTIATE_TEST_SUITE_P(all, Zoo, testing::Values("mistral", "phi3", "phi3_long", "qwen3", "qwen3_moe"),
                         [](const auto& p) { return p.param; });

TEST(ZooOfOthers, families_that_are_not_supported_are_refused_by_name) {
  LLORCH_NEED_TEST_DATA(zoo, "models/zoo");
  if (!fs::exists(zoo)) GTEST_SKIP() << zoo << " is not there: not run";
  int refused = 0, loaded = 0;
  const auto entries = entries_of(zoo).value();
  for (const auto& entry : entries) {
    if (!entry.is_directory()) continue;
    for (const char* form : {"model-f32.gguf", "hf"}) {
      ModelOptions options;
      options.path = (entry.path() / form).string(), options.threads = 1;
      const auto model = LoadedModel::load(options);
      if (model) {
        ++loaded;
        continue;
      }
      EXPECT_EQ(model.error().code, ErrorCode::kModelLoadFailed) << entry.path() << ": " << model.error().message;
      EXPECT_GT(model.error().message.size(), 10u);
      ++refused;
    }
  }
  std::printf("zoo: %d files load, %d are refused\n", loaded, refused);
  EXPECT_GE(loaded, 10);
}

}  // namespace
}  // namespace llorch
