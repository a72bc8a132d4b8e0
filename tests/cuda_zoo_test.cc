// The zoo of tiny models (test data, models/zoo) on a CUDA device, from GGUF: float64 truth within ten times what the
// CPU's kernels are held to, and the same bits for every chunk and under every order of threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda_devices.h"
#include "golden.h"
#include "zoo.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

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
  std::vector<float> want;
};

std::vector<Prompt> prompts_of(const std::string& folder) {
  const json::value ids = json::parse(read_text_file(folder + "/ids.json", limits::kJsonBytesMax).value(), "ids").value();
  std::vector<Prompt> prompts;
  for (const char* name : {"5", "40"}) {
    Prompt& p = prompts.emplace_back();
    for (const json::value& v : *json::find_array(ids.get_object(), name))
      p.ids.push_back(static_cast<TokenId>(*json::as_unsigned(v)));
    p.want = read_npy(fmt::format("{}/logits-{}.npy", folder, name));
  }
  return prompts;
}

/// A model without its tokenizer.
struct Body {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Device> device;
  std::unique_ptr<Model> model;
};
Body load(const std::string& path, int context) {
  Body body{open_model(path).value(), cuda_test_device(), nullptr};
  auto graph = arch::read_graph(*body.source, context);
  if (!graph) throw std::runtime_error(graph.error().message);  // gtest reports it as this test's failure
  auto model = Model::load(*body.device, *body.source, std::move(*graph), {});
  if (!model) throw std::runtime_error(model.error().message);
  body.model = std::move(*model);
  return body;
}

std::vector<float> values_of(Model& model, const TokenIds& ids, int chunk) {
  if (model.graph().whole_prompts) return states_of(model, ids);
  std::vector<float> all;
  const Status done = forward_all(model, ids, chunk, KvPrecision::kF32, [&](int, std::span<const float> row) {
    all.insert(all.end(), row.begin(), row.end());
  });
  EXPECT_TRUE(done) << done.error().message;
  return all;
}

double error_of(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return HUGE_VAL;
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return HUGE_VAL;
    worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
    size = std::max(size, std::fabs(static_cast<double>(want[i])));
  }
  return size > 0 ? worst / size : HUGE_VAL;
}

class CudaZoo : public testing::TestWithParam<ZooModel> {};

TEST_P(CudaZoo, is_exact_and_its_bits_depend_on_no_chunk_and_no_order) {
  LLORCH_NEED_CUDA();
  LLORCH_NEED_TEST_DATA(folder, fmt::format("models/zoo/{}", GetParam().folder));
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not there: not run";
  // Within the original context, so that the short factors hold, as in its truth.
  const int context = std::string_view(GetParam().folder) == "phi3" ? 1024 : 0;
  double worst = 0;
  Body body = load(std::string(folder) + "/model-f32.gguf", context);
  for (const Prompt& p : prompts_of(std::string(folder))) {
    const std::vector<float> got = values_of(*body.model, p.ids, 512);
    worst = std::max(worst, error_of(got, p.want));
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
