// Conformance of a CUDA device's operations on rows: norms, activations, tables, rotary embedding, products, adapters,
// mixtures, faults.
#include "cuda_conformance.h"

namespace llorch {
namespace {

constexpr Guard kGuard{Place::kInsideMlp, 3, RowSet::kAll, 0};
constexpr int kWidths[] = {1, 7, 64, 257, 300, 1030, 2049};

class CudaRows : public testing::Test {
 protected:
  void SetUp() override { LLORCH_NEED_CUDA(); }
};

/// body(device) between begin() and finish() of a plan.
template<class Body>
std::vector<RowFault> run_step(On& on, const StepPlan& plan, const Body& body) {
  const auto cache = on.device().make_cache({}).value();
  on.device().begin(plan, *cache);
  body(on.device());
  const auto result = on.device().finish();
  EXPECT_TRUE(result) << result.error().message;
  return result ? std::vector<RowFault>(result->faults.begin(), result->faults.end()) : std::vector<RowFault>();
}

TEST_F(CudaRows, norms) {
  for (const int width : kWidths)
    expect_conforms(fmt::format("norms of width {}", width), [&](On& on) {
      constexpr int kRows = 6, kHeads = 3;
      const FloatSpan x = on.put(kRows, width, 1, 5), weight = on.put(1, width, 2), heads = on.put(kHeads, width, 3),
                      bias = on.put(1, width, 4), a = on.room(kRows, width), b = on.room(kRows, width),
                      c = on.put(kRows, width, 1, 5), d = on.room(kRows, width);
      const auto faults = run_step(on, plain_plan(kRows), [&](Device& device) {
        device.rms_norm(x, weight, 1e-5f, a, &kGuard);
        device.rms_norm(x, heads, 1e-3f, b, nullptr);
        device.rms_norm(c, weight, 1e-5f, c, nullptr);  // in place
        device.layer_norm(x, weight, bias, 1e-5f, d, &kGuard);
      });
      for (const RowFault& f : faults) EXPECT_FALSE(f.found);
      return Outputs{on.get(a), on.get(b), on.get(c), on.get(d)};
    });
}

TEST_F(CudaRows, activations_of_all_kinds) {
  using Kind = Activation::Kind;
  for (const Kind kind : {Kind::kSiluMul, Kind::kGelu, Kind::kGeluMul, Kind::kGeluErf, Kind::kGeluErfMul,
                          Kind::kReluSquared, Kind::kSwigluClamped})
    for (const int width : {5, 300})
      expect_conforms(fmt::format("activation {} of width {}", static_cast<int>(kind), width), [&](On& on) {
        const FloatSpan gate = on.put(4, width, 1, 9), up = on.put(4, width, 2, 9), out = on.room(4, width);
        run_step(on, plain_plan(4), [&](Device& device) {
          device.activate({kind, 7, 1.702f}, gate, up, out, kGuard);
          device.activate({kind, 7, 1.702f}, gate, up, gate, kGuard);  // in place
        });
        return Outputs{on.get(out), on.get(gate)};
      });
}

TEST_F(CudaRows, values_and_columns) {
  for (const int width : {1, 5, 300, 1030})
    expect_conforms(fmt::format("values of width {}", width), [&](On& on) {
      constexpr int kRows = 5;
      const auto x = [&](std::uint64_t which) { return on.put(kRows, width, which, 3); };
      const FloatSpan added = x(1), scaled = x(2), gated = x(3), row_gated = x(4), capped = x(5), product = x(6),
                      cleared = x(7), wide = on.put(kRows, width + 9, 8), picked = on.room(kRows, width);
      run_step(on, plain_plan(kRows), [&](Device& device) {
        device.add(x(11), 1, added), device.add(x(12), 0.37f, added);
        device.scale(scaled, -1.3f);
        device.gate(x(13), gated), device.gate(on.put(kRows, 1, 14, 4), row_gated);
        device.soft_cap(capped, 1.5f);
        device.multiply(x(15), product);
        device.clear(cleared);
        device.copy_columns(product, 0, width, wide, 4);
        device.copy_columns(wide, 2, width, picked, 0);
      });
      for (const float v : on.get(cleared)) EXPECT_EQ(v, 0);
      return Outputs{on.get(added),  on.get(scaled),  on.get(gated), on.get(row_gated),
                     on.get(capped), on.get(product), on.get(wide),  on.get(picked)};
    });
}

TEST_F(CudaRows, selected_rows_and_what_the_host_gets) {
  expect_conforms("select", [&](On& on) {
    StepPlan plan = plain_plan(9);
    plan.logit_rows = {0, 3, 8}, plan.state_rows = {2, 7}, plan.logits_wanted = true;
    const FloatSpan x = on.put(9, 40, 1), logits = on.room(3, 40), states = on.room(2, 40);
    const auto cache = on.device().make_cache({}).value();
    on.device().begin(plan, *cache);
    on.device().select(x, RowSet::kLogits, logits);
    on.device().select(x, RowSet::kStates, states);
    on.device().give_logits(logits);
    on.device().give_states(states);
    const auto result = on.device().finish();
    EXPECT_TRUE(result);
    return Outputs{{result->logits.begin(), result->logits.end()}, {result->states.begin(), result->states.end()}};
  });
}

TEST_F(CudaRows, tables_of_tokens_positions_and_types) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kQ8_0})
    expect_conforms(fmt::format("tables of {}", info(type).name), [&](On& on) {
      constexpr int kWidth = 64;
      StepPlan plan;
      const std::vector<std::int32_t> pages(4, 0);
      plan.add_sequence(pages);
      plan.embeddings = random_values(2 * kWidth, 5);
      for (int i = 0; i < 37; ++i) plan.add_row(i % 5 == 4 ? -1 - i % 2 : i * 3 % 20, i, i % 2);
      const FloatSpan a = on.room(37, kWidth), b = on.room(37, kWidth);
      const Weight &tokens = on.table(20, kWidth, 1, type), &positions = on.table(40, kWidth, 2, type),
                   &types = on.table(2, kWidth, 3, type);
      for (int step = 0; step < 2; ++step)
        run_step(on, plan, [&](Device& device) {
          device.embed_tokens(tokens, a);
          device.look_up_tokens(tokens, b);
          device.add_positions(positions, a);
          device.add_types(types, a);
        });
      return Outputs{on.get(a), on.get(b)};
    });
}

TEST_F(CudaRows, rotary_embedding) {
  for (const bool adjacent : {false, true})
    for (const int rotated : {16, 10, 2})
      expect_conforms(fmt::format("rope {} {}", adjacent, rotated), [&](On& on) {
        RopeSpec spec{rotated, adjacent, rope_frequencies(rotated, 10000), 1.1};
        spec.growth = 0.1, spec.growth_every = 100, spec.growth_offset = 1;
        const auto rope = on.device().make_rope(spec).value();
        StepPlan plan;
        const std::vector<std::int32_t> pages(2000, 0);
        plan.add_sequence(pages);
        for (const int p : {0, 1, 63, 100, 4095, 100000}) plan.add_row(0, p);
        const FloatSpan x = on.put(6, 3 * 16, 1), y = on.put(6, 16, 2);
        run_step(on, plan, [&](Device& device) {
          device.fill_rope(*rope);
          device.rope(x, 3, *rope), device.rope(y, 1, *rope);
        });
        return Outputs{on.get(x), on.get(y)};
      });
}

TEST_F(CudaRows, products_of_all_formats) {
  for (const DTypeInfo& type : kDTypes) {
    if (!quant::find_row_ops(type.type)) continue;
    const bool plain = type.block == 1;
    // Activations of block formats may have 8 bits, and those of 16-bit floats as many.
    const double bound = type.type == DType::kF32 ? kFloatBound : plain ? 1e-2 : 2e-2;
    expect_conforms(
        fmt::format("products of {}", type.name),
        [&](On& on) {
          const std::int64_t columns = std::max<std::int64_t>(64, type.block);
          const FloatSpan x = on.put(5, columns, 1), bias = on.put(1, 35, 2), a = on.room(5, 35), b = on.room(5, 16),
                          heads = on.room(6, 24);
          const FloatSpan in_heads = on.put(6, columns, 3);
          const Weight *first = on.matrix(35, columns, 4, type.type), *second = on.matrix(16, columns, 5, type.type),
                       *of_heads = on.matrix(24, columns, 6, type.type, 3);
          run_step(on, plain_plan(5), [&](Device& device) {
            const LinearPart parts[] = {{first, bias, a}, {second, {}, b}};
            device.linear(parts, x);
            device.linear_heads(*of_heads, in_heads, heads);
          });
          return Outputs{on.get(a), on.get(b), on.get(heads)};
        },
        bound);
  }
}

TEST_F(CudaRows, a_products_row_does_not_depend_on_other_rows) {
  On on(cuda_test_device());
  const Weight* w = on.matrix(40, 256, 1, DType::kQ4_K);
  const FloatSpan x = on.put(33, 256, 2), together = on.room(33, 40), alone = on.room(33, 40);
  run_step(on, plain_plan(33), [&](Device& device) {
    const LinearPart all[] = {{w, {}, together}};
    device.linear(all, x);
    for (int r = 0; r < 33; ++r) {
      const LinearPart one[] = {{w, {}, alone.part(r, 1)}};
      device.linear(one, x.part(r, 1));
    }
  });
  EXPECT_EQ(on.get(together), on.get(alone));
}

TEST_F(CudaRows, adapters_change_their_sequences_alone) {
  expect_conforms("adapters", [&](On& on) {
    StepPlan plan;
    const std::vector<std::int32_t> pages(1, 0);
    for (const int adapter : {1, -1, 0, 1}) {
      plan.add_sequence(pages).adapter = adapter;
      for (int i = 0; i < 3; ++i) plan.add_row(0, i);
    }
    plan.logit_rows = {2, 5, 8, 11};
    const FloatSpan x = on.put(12, 70, 1), out = on.put(12, 150, 2), few = on.put(2, 150, 3);
    const LowRank first{0, on.put(4, 70, 4), on.put(4, 150, 5), 0.5f}, second{1, on.put(9, 70, 6), on.put(9, 150, 7), 2};
    const LowRank adapters[] = {first, second};
    run_step(on, plan, [&](Device& device) {
      const LowRankPart all[] = {{adapters, out}}, last[] = {{adapters, few}};
      device.add_low_rank(all, x, RowSet::kAll, 0);
      device.add_low_rank(last, x.part(0, 2), RowSet::kLogits, 2);
    });
    return Outputs{on.get(out), on.get(few)};
  });
}

/// Experts of a mixture with so many dimensions inside.
Outputs mixture(On& on, const Routing& routing, const Activation& activation, bool with_biases, DType type) {
  constexpr int kRows = 7, kDim = 64, kInside = 32, kExperts = 12;
  MoeCall c;
  c.routing = routing, c.activation = activation, c.guard = {Place::kInsideExpert, 1, RowSet::kAll, 0};
  c.logits = on.put(kRows, kExperts, 1, 4);
  if (with_biases) {
    c.expert_scale = on.put(1, kExperts, 2), c.choice_bias = on.put(1, kExperts, 3, 0.3);
    c.gate_bias = on.put(kExperts, kInside, 4), c.up_bias = on.put(kExperts, kInside, 5);
    c.down_bias = on.put(kExperts, kDim, 6);
  }
  c.gate = activation.gated() ? on.matrix(kInside, kDim, 7, type, kExperts) : nullptr;
  c.up = on.matrix(kInside, kDim, 8, type, kExperts), c.down = on.matrix(kDim, kInside, 9, type, kExperts);
  c.x = on.put(kRows, kDim, 10), c.out = on.room(kRows, kDim);
  c.inside_gate = on.room(kRows, kInside), c.inside_up = on.room(kRows, kInside);
  c.picked = on.room(kRows, kDim), c.results = on.room(kRows * std::int64_t{routing.active}, kDim);
  run_step(on, plain_plan(kRows), [&](Device& device) { device.moe(c); });
  return {on.get(c.out)};
}

TEST_F(CudaRows, mixtures_of_all_kinds) {
  using Score = Routing::Score;
  using Kind = Activation::Kind;
  for (const Score score : {Score::kSoftmaxOfChosen, Score::kSoftmaxOfAll, Score::kSigmoid})
    for (const bool normalize : {false, true})
      for (const bool grouped : {false, true})
        for (const bool biases : {false, true}) {
          Routing r;
          r.score = score, r.active = grouped ? 4 : 3, r.normalize = normalize, r.normalize_eps = 0.01f, r.scale = 1.5f;
          r.of_input = grouped && biases;
          if (grouped) r.groups = 4, r.groups_active = 2;
          const std::string what = fmt::format("mixture {} {} {} {}", static_cast<int>(score), normalize, grouped, biases);
          expect_conforms(what, [&](On& on) {
            return mixture(on, r, {normalize ? Kind::kSiluMul : Kind::kReluSquared}, biases, DType::kF32);
          });
        }
}

/// Where equal experts stand, the lower index is taken.
TEST_F(CudaRows, equal_experts_are_chosen_by_index) {
  expect_conforms("equal experts", [&](On& on) {
    Routing r;
    r.active = 5;
    MoeCall c;
    const std::vector<float> equal(4 * 40, 0.25f);
    c.routing = r, c.activation.kind = Activation::Kind::kGelu, c.logits = on.put(4, 40, equal);
    c.up = on.matrix(16, 32, 1, DType::kF32, 40), c.down = on.matrix(32, 16, 2, DType::kF32, 40);
    c.x = on.put(4, 32, 3), c.out = on.room(4, 32), c.inside_gate = on.room(4, 16), c.inside_up = on.room(4, 16);
    c.picked = on.room(4, 32), c.results = on.room(20, 32);
    run_step(on, plain_plan(4), [&](Device& device) { device.moe(c); });
    return Outputs{on.get(c.out)};
  });
}

/// Rows that are not finite become zeros, are told by place and layer, and leave their neighbours alone.
TEST_F(CudaRows, faults_are_the_references) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const auto compute = [&](On& on) {
    StepPlan plan = plain_plan(6);
    plan.logit_rows = {1, 4};
    std::vector<float> x = random_values(6 * 70, 1), up = random_values(6 * 70, 2), few = random_values(2 * 70, 3);
    x[1 * 70 + 69] = NAN, x[3 * 70] = kInf, up[4 * 70 + 33] = -kInf, few[1 * 70 + 5] = NAN, x[5 * 70 + 7] = 2000;
    const FloatSpan in = on.put(6, 70, x), ups = on.put(6, 70, up), last = on.put(2, 70, few),
                    weight = on.put(1, 70, 4), normed = on.room(6, 70), out = on.room(6, 70);
    const auto faults = run_step(on, plan, [&](Device& device) {
      const Guard norm{Place::kMlpInput, 2, RowSet::kAll, 0}, inside{Place::kInsideMlp, 2, RowSet::kAll, 0},
          limit{Place::kRouter, 9, RowSet::kAll, 0}, end{Place::kLastNorm, 7, RowSet::kLogits, 0};
      device.rms_norm(in, weight, 1e-5f, normed, &norm);
      device.activate({Activation::Kind::kSwigluClamped, 7, 1}, normed, ups, out, inside);
      device.check(in, 1000, limit);
      device.rms_norm(last, weight, 1e-5f, last, &end);
    });
    std::vector<float> told;
    for (const RowFault& f : faults)
      told.insert(told.end(), {f.found ? 1.0f : 0.0f, static_cast<float>(f.place), static_cast<float>(f.layer)});
    return Outputs{on.get(normed), on.get(out), on.get(in), on.get(last), told};
  };
  expect_conforms("faults", compute);
  On on(make_cpu_device("reference", 1).value());
  EXPECT_GT(compute(on).back()[3], 0) << "the test plants faults";
}

}  // namespace
}  // namespace llorch
