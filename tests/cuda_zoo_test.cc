// The zoo of tiny models (test data, models/zoo) on a CUDA device, from GGUF: float64 truth within ten times what the
// CPU's kernels are held to, and the same bits for every chunk and under every order of threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda_devices.h"
#include "zoo.h"
#include "zoo_model.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

std::vector<float> values_of(Model& model, const TokenIds& ids, int chunk) {
  std::vector<float> all;
  const Status done = forward_all(model, ids, chunk, KvPrecision::kF32, [&](int, std::span<const float> row) {
    all.insert(all.end(), row.begin(), row.end());
  });
  EXPECT_TRUE(done) << done.error().message;
  return all;
}

class CudaZoo : public testing::TestWithParam<ZooModel> {};

TEST_P(CudaZoo, is_exact_and_its_bits_depend_on_no_chunk_and_no_order) {
  LLORCH_NEED_CUDA();
  LLORCH_NEED_TEST_DATA(folder, fmt::format("models/zoo/{}", GetParam().folder));
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not there: not run";
  // Within the original context, so that the short factors hold, as in its truth.
  const int context = std::string_view(GetParam().folder) == "phi3" ? 1024 : 0;
  double worst = 0;
  ZooBody body = load_zoo_body(std::string(folder) + "/model-f32.gguf", cuda_test_device(), context);
  for (const ZooPrompt& p : zoo_prompts(std::string(folder))) {
    const std::vector<float> got = values_of(*body.model, p.ids, 512);
    worst = std::max(worst, error_of(got, p.logits));
    if (p.ids.size() > 10 && kSanitized) continue;  // the short ones show what sanitizers look for
    EXPECT_EQ(got, values_of(*body.model, p.ids, 3)) << "the bits depend on the chunk";
    if (p.ids.size() > 10) continue;
    for (const char* order : {"reverse", "random:7"}) {
      set_cuda_order(order);
      EXPECT_EQ(got, values_of(*body.model, p.ids, 512)) << "the bits depend on the order of threads: " << order;
    }
    set_cuda_order("forward");
  }
  EXPECT_LT(worst, 10 * GetParam().bound);
  std::printf("zoo %-22s error %.1e on CUDA\n", GetParam().folder, worst);
}

INSTANTIATE_TEST_SUITE_P(all, CudaZoo, testing::ValuesIn(kZoo), [](const auto& p) { return p.param.folder; });

}  // namespace
}  // namespace llorch
