// multi_backend (T-33): the backend that a worker program was linked with opens, is verified, and computes what the
// reference does: products, norms, rotary embedding, the projections of attention, a whole model. Run for each kind of
// worker that is built.
#include <gtest/gtest.h>

#include <cmath>

#include "device/cpu/cpu_device.h"
#include "device/open.h"
#include "engine/forward_all.h"
#include "engine/loaded_model.h"
#include "kernel/kernels.h"
#include "on_device.h"
#include "worker/backend.h"

namespace llorch::worker {
namespace {

Result<OpenDevice> open_own(std::string_view isa = {}) {
  return backend().products ? init_accelerate_device(backend().products, isa, 2) : init_cpu_device(isa, 2);
}

/// Nothing that is not finite, and no value further from the reference than `bound` of the largest.
void expect_near(const std::vector<float>& got, const std::vector<float>& want, double bound, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  ASSERT_FALSE(want.empty()) << what;
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i]) && std::isfinite(want[i])) << what << " " << i;
    worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
    size = std::max(size, std::fabs(static_cast<double>(want[i])));
  }
  EXPECT_GT(size, 0) << what;
  EXPECT_LE(worst / size, bound) << what;
}

TEST(MultiBackend, the_backend_opens_as_device_cpu_and_is_verified) {
  const auto own = open_own();
  ASSERT_TRUE(own) << own.error().message;
  EXPECT_EQ(own->id, "cpu");
  EXPECT_TRUE(verify_device(*own->device));
  EXPECT_EQ(backend().kind == "cpu", backend().products == nullptr) << backend().kind << " is what the kernels are not";
  EXPECT_EQ(own->device->isa(), backend().isa(kernel::best_kernels().name));
  const auto wrong = open_own("mmx");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kDeviceNotFound);
}

/// Norm, then queries, keys and values of one input, then rotary embedding of queries: (rows of 5 positions).
std::vector<std::vector<float>> project(std::unique_ptr<Device> device, DType type) {
  constexpr int kTokens = 5, kDim = 288, kHeads = 4, kHeadDim = 16;
  On on(std::move(device));
  Device& d = on.device();
  const FloatSpan x = on.put(kTokens, kDim, 1);
  const FloatSpan normed = on.room(kTokens, kDim), weight = on.put(1, kDim, 2);
  const FloatSpan q = on.room(kTokens, std::int64_t{kHeads} * kHeadDim), k = on.room(kTokens, kHeadDim),
                  v = on.room(kTokens, kHeadDim + 1);
  const FloatSpan bias = on.put(1, kHeadDim, 3);
  const LinearPart parts[] = {{on.matrix(std::int64_t{kHeads} * kHeadDim, kDim, 4, type), {}, q},
                              {on.matrix(kHeadDim, kDim, 5, type), bias, k},
                              {on.matrix(kHeadDim + 1, kDim, 6), {}, v}};
  const auto rope = d.make_rope({kHeadDim, false, rope_frequencies(kHeadDim, 10000), 1}).value();
  const auto cache = d.make_cache({}).value();
  StepPlan plan;
  const std::vector<std::int32_t> pages{0};
  plan.add_sequence(pages);
  for (int i = 0; i < kTokens; ++i) plan.add_row(0, i);
  d.begin(plan, *cache);
  d.rms_norm(x, weight, 1e-5f, normed, nullptr);
  d.linear(parts, normed);
  d.fill_rope(*rope);
  std::vector<std::vector<float>> out{on.get(normed), on.get(q)};
  d.rope(q, kHeads, *rope);
  EXPECT_TRUE(d.finish());
  out.insert(out.end(), {on.get(q), on.get(k), on.get(v)});
  EXPECT_NE(out[1], out[2]) << "positions turn queries";
  return out;
}

TEST(MultiBackend, products_norms_and_rotary_embedding_are_the_references) {
  // Activations of block formats are 8 bits in our kernels: 0.5 % (tests/golden_test.cc). A library gets floats.
  const bool provided = backend().products != nullptr;
  for (const auto& [type, bound] :
       {std::pair{DType::kF32, 1e-5}, {DType::kF16, 1e-4}, {DType::kQ8_0, provided ? 1e-5 : 2e-2}}) {
    const auto got = project(open_own().value().device, type),
               want = project(make_cpu_device("reference", 1).value(), type);
    const char* names[] = {"norm", "queries", "turned queries", "keys", "values"};
    for (std::size_t i = 0; i < want.size(); ++i)
      expect_near(got[i], want[i], bound, fmt::format("{}: {}", info(type).name, names[i]));
  }
}

TEST(MultiBackend, a_whole_model_gives_the_references_logits) {
  const TokenIds tokens{1, 9, 30, 7, 7, 41, 3, 12, 5, 28, 60};
  std::vector<float> logits[2];
  for (const bool own : {true, false}) {
    ModelOptions options;
    options.path = "builtin:haiku", options.threads = 2;
    if (own)
      options.products = backend().products;
    else
      options.isa = "reference";
    const auto model = LoadedModel::load(options);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_TRUE(forward_all(*model->model, tokens, 4, KvPrecision::kF32, [&](int, std::span<const float> row) {
      logits[own].insert(logits[own].end(), row.begin(), row.end());
    }));
  }
  expect_near(logits[1], logits[0], backend().products ? 1e-5 : 3e-2, "logits of builtin:haiku");
}

}  // namespace
}  // namespace llorch::worker
