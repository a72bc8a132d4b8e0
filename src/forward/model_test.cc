// One small model for each kind of part, with random weights, held to formulas written in double (test_formulas.h).
#include "forward/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "device/recording.h"
#include "devices.h"
#include "forward/test_formulas.h"

namespace llorch {
namespace {

struct Case {
  const char* name;
  void (*make)(Parts&);
};
SoftmaxAttention& attention(Parts& p, std::size_t block) {
  return std::get<SoftmaxAttention>(p.graph.blocks[block].mixer);
}
RopeSpec rope(int rotated, bool adjacent, double magnitude = 1) {
  return {rotated, adjacent, rope_frequencies(rotated, 10000), magnitude};
}

const Case kCases[] = {
    {"plain", [](Parts&) {}},
    {"post_norms",
     [](Parts& p) { p.graph.blocks[0].mixer_post_norm = p.rms(), p.graph.blocks[0].mlp_post_norm = p.layer(); }},
    {"norms_after_alone",
     [](Parts& p) {
       Block& b = p.graph.blocks[0];
       b.mixer_norm.reset(), b.mlp_norm.reset();
       b.mixer_post_norm = p.rms(), b.mlp_post_norm = p.rms();
     }},
    {"layer_norms", [](Parts& p) { p.graph.blocks[0].mixer_norm = p.layer(), p.graph.blocks[0].mlp_norm = p.layer(); }},
    {"scaled_branches", [](Parts& p) { p.graph.blocks[0].mixer_scale = 0.3f, p.graph.blocks[1].mlp_scale = 0.7f; }},
    {"parallel_with_one_norm", [](Parts& p) { p.graph.blocks[0].parallel = true, p.graph.blocks[0].mlp_norm.reset(); }},
    {"parallel_with_two_norms", [](Parts& p) { p.graph.blocks[1].parallel = true; }},
    {"rope_of_halves", [](Parts& p) { p.graph.ropes = {rope(16, false)}, attention(p, 0).rope = 0; }},
    {"rope_of_neighbours_and_a_part",
     [](Parts& p) {
       p.graph.ropes = {rope(16, true), rope(8, false, 1.2)}, attention(p, 0).rope = 0, attention(p, 1).rope = 1;
     }},
    {"window", [](Parts& p) { attention(p, 0).window = 9; }},
    {"sinks", [](Parts& p) { attention(p, 0).sinks = p.vector(kHeads, 0.5, 1); }},
    {"soft_cap", [](Parts& p) { attention(p, 0).softcap = 2; }},
    {"norms_of_heads",
     [](Parts& p) { attention(p, 0).query_norm = p.rms(kHeadDim), attention(p, 0).key_norm = p.rms(kHeadDim); }},
    {"norms_over_all_heads",
     [](Parts& p) {
       attention(p, 1).query_norm = p.rms(kHeads * kHeadDim), attention(p, 1).key_norm = p.rms(2 * kHeadDim);
     }},
    {"gate_of_values", [](Parts& p) { attention(p, 0).gate = p.linear(kDim, kHeads * kHeadDim); }},
    {"gate_between_the_queries", [](Parts& p) { p.query_with_gate(attention(p, 1)); }},
    {"norms_of_heads_after_rope",
     [](Parts& p) {
       p.graph.ropes = {rope(8, false)};
       attention(p, 0).rope = 0, attention(p, 0).norm_after_rope = true;
       attention(p, 0).query_norm = p.rms(kHeadDim), attention(p, 0).key_norm = p.rms(kHeadDim);
     }},
    {"norms_without_weights",
     [](Parts& p) {
       attention(p, 0).value_norm = Norm{p.constant(1, kHeadDim), {}, 1e-5f};
       p.graph.blocks[1].mixer_norm = Norm{p.vector(kDim, 1, 0.3), p.constant(0, kDim), 1e-5f};
     }},
    {"queries_that_grow",
     [](Parts& p) {
       RopeSpec grows = rope(16, true), stays{16, false, std::vector<double>(8, 0), 1};
       grows.growth = 0.3, grows.growth_every = 16;
       stays.growth = 0.2, stays.growth_every = 5, stays.growth_offset = 1;
       p.graph.ropes = {rope(16, true), grows, stays};
       attention(p, 0).rope = 0, attention(p, 0).query_rope = 1, attention(p, 1).query_rope = 2;
     }},
    {"blocks_of_one_part",
     [](Parts& p) {
       p.graph.blocks.push_back(p.block()), p.graph.blocks.push_back(p.block());
       p.graph.blocks[0].feed_forward = {}, p.graph.blocks[1].mixer = {};
       p.graph.blocks[2].mixer = p.mamba(2), p.graph.blocks[2].feed_forward = {};
     }},
    {"scaled_stream", [](Parts& p) { p.graph.blocks[0].output_scale = 0.4f; }},
    {"gate_of_heads", [](Parts& p) { attention(p, 0).gate = p.linear(kDim, kHeads, true); }},
    {"cache_of_an_earlier_layer",
     [](Parts& p) { attention(p, 1).cache_of = 0, attention(p, 1).key = attention(p, 1).value = {}; }},
    {"other_heads_in_each_layer", [](Parts& p) { p.graph.blocks[1].mixer = p.attention(1); }},
    {"latent_attention", [](Parts& p) { p.graph.ropes = {rope(8, true)}, p.graph.blocks[0].mixer = p.latent(false); }},
    {"latent_attention_with_short_queries",
     [](Parts& p) {
       p.graph.ropes = {rope(8, false, 1.1)}, p.graph.blocks[0].mixer = p.latent(true),
       p.graph.blocks[1].mixer = p.latent(true);
     }},
    {"delta_rule", [](Parts& p) { p.graph.blocks[0].mixer = p.delta_net(2, false, false); }},
    {"delta_rule_of_grouped_heads",
     [](Parts& p) {
       p.graph.blocks[0].mixer = p.delta_net(4, false, true), p.graph.blocks[1].mixer = p.delta_net(6, false, false);
     }},
    {"delta_rule_of_tiled_heads", [](Parts& p) { p.graph.blocks[1].mixer = p.delta_net(6, true, false); }},
    {"short_convolution", [](Parts& p) { p.graph.blocks[0].mixer = p.short_convolution(); }},
    {"mamba", [](Parts& p) { p.graph.blocks[0].mixer = p.mamba(1), p.graph.blocks[1].mixer = p.mamba(1); }},
    {"mamba_of_groups", [](Parts& p) { p.graph.blocks[0].mixer = p.mamba(2); }},
    {"all_that_remember",
     [](Parts& p) {
       p.graph.blocks.push_back(p.block()), p.graph.blocks.push_back(p.block());
       p.graph.blocks[0].mixer = p.mamba(2), p.graph.blocks[1].mixer = p.delta_net(4, true, false);
       p.graph.blocks[3].mixer = p.short_convolution();
     }},
    {"both_ways", [](Parts& p) { attention(p, 0).both_ways = attention(p, 1).both_ways = true; }},
    {"both_ways_in_windows",
     [](Parts& p) {
       attention(p, 0).both_ways = attention(p, 1).both_ways = true;
       attention(p, 0).window = 12, attention(p, 1).window = 90;
     }},
    {"norms_of_the_stream",
     [](Parts& p) { p.graph.blocks[0].mixer_stream_norm = p.layer(), p.graph.blocks[1].mlp_stream_norm = p.rms(); }},
    {"gelu_by_the_error_function",
     [](Parts& p) {
       p.graph.blocks[0].feed_forward = p.mlp(Activation::Kind::kGeluErf);
       p.graph.blocks[1].feed_forward = p.mlp(Activation::Kind::kGeluErfMul);
     }},
    {"gelu", [](Parts& p) { p.graph.blocks[0].feed_forward = p.mlp(Activation::Kind::kGelu); }},
    {"relu_squared", [](Parts& p) { p.graph.blocks[1].feed_forward = p.mlp(Activation::Kind::kReluSquared); }},
    {"gelu_mul", [](Parts& p) { p.graph.blocks[0].feed_forward = p.mlp(Activation::Kind::kGeluMul); }},
    {"softmax_of_the_chosen", [](Parts& p) { p.graph.blocks[0].feed_forward = p.moe({.active = 3}); }},
    {"softmax_of_all",
     [](Parts& p) {
       p.graph.blocks[0].feed_forward = p.moe({.score = Routing::Score::kSoftmaxOfAll, .active = 2, .scale = 1.5f});
     }},
    {"softmax_of_all_normalized",
     [](Parts& p) {
       p.graph.blocks[0].feed_forward = p.moe({.score = Routing::Score::kSoftmaxOfAll, .active = 2, .normalize = true});
     }},
    {"softmax_of_all_with_bias",
     [](Parts& p) {
       Moe m = p.moe({.score = Routing::Score::kSoftmaxOfAll, .active = 3, .normalize = true});
       m.choice_bias = p.vector(kExperts, 0, 0.2);
       p.graph.blocks[0].feed_forward = m;
     }},
    {"weights_of_what_experts_see",
     [](Parts& p) {
       p.graph.blocks[0].feed_forward = p.moe({.score = Routing::Score::kSigmoid, .active = 1, .of_input = true});
       p.graph.blocks[1].feed_forward = p.moe({.active = 3, .of_input = true});
     }},
    {"sigmoid_with_bias_and_groups",
     [](Parts& p) {
       Moe m = p.moe({.score = Routing::Score::kSigmoid,
                      .active = 3,
                      .normalize = true,
                      .scale = 2.5f,
                      .groups = 4,
                      .groups_active = 2});
       m.choice_bias = p.vector(kExperts, 0, 0.4);
       p.graph.blocks[0].feed_forward = m;
     }},
    {"sigmoid_with_an_epsilon",
     [](Parts& p) {
       p.graph.blocks[0].feed_forward =
           p.moe({.score = Routing::Score::kSigmoid, .active = 2, .normalize = true, .normalize_eps = 0.2f});
     }},
    {"sigmoid_of_one",
     [](Parts& p) { p.graph.blocks[0].feed_forward = p.moe({.score = Routing::Score::kSigmoid, .active = 1}); }},
    {"experts_with_biases_and_clamps",
     [](Parts& p) {
       Moe m = p.moe({.active = 2});
       m.gate = p.experts(kDim, kInside, true), m.up = p.experts(kDim, kInside, true);
       m.down = p.experts(kInside, kDim, true), m.router = p.linear(kDim, kExperts, true);
       m.activation = {Activation::Kind::kSwigluClamped, 1.5f, 1.702f};
       p.graph.blocks[0].feed_forward = m;
     }},
    {"experts_without_gates",
     [](Parts& p) {
       Moe m = p.moe({.active = 2});
       m.gate = {}, m.activation.kind = Activation::Kind::kGelu;
       p.graph.blocks[0].feed_forward = m;
       m.activation.kind = Activation::Kind::kReluSquared;
       p.graph.blocks[1].feed_forward = m;
     }},
    {"shared_expert",
     [](Parts& p) {
       Moe m = p.moe({.active = 2});
       m.shared = p.mlp();
       p.graph.blocks[0].feed_forward = m;
     }},
    {"shared_expert_with_a_gate",
     [](Parts& p) {
       Moe m = p.moe({.active = 2});
       m.shared = p.mlp(), m.shared_gate = p.linear(kDim, 1);
       p.graph.blocks[0].feed_forward = m;
     }},
    {"mixture_between_norms",
     [](Parts& p) { p.graph.blocks[0].mlp_norm.reset(), p.graph.blocks[0].feed_forward = p.mixture_of_norms(); }},
    {"inputs_of_layers", [](Parts& p) { p.layer_inputs(); }},
    {"ends",
     [](Parts& p) {
       p.graph.embedding_scale = 3, p.graph.logit_scale = 0.25f, p.graph.logit_cap = 2;
       p.graph.positions = p.table(256, kDim), p.graph.types = p.table(2, kDim), p.graph.embedding_norm = p.layer();
     }},
};

class OnePart : public testing::TestWithParam<Case> {
 protected:
  OnePart() {
    parts_.ends();
    parts_.graph.blocks.push_back(parts_.block());
    parts_.graph.blocks.push_back(parts_.block());
    GetParam().make(parts_);
    for (int i = 0; i < kTokens; ++i) tokens_.push_back(i * 7 % kVocab);
  }
  /// Logits of all tokens, computed `chunk` at a time beside a stranger.
  std::vector<float> run(const std::string& isa, std::size_t chunk) {
    const auto device = test_device(isa, 2);
    const auto model = Model::load(*device, parts_, parts_.graph, {}).value();
    const auto cache = device->make_cache(model->cache_shape(5, KvPrecision::kF32, 2)).value();
    const std::vector<std::int32_t> mine = {2, 0, 4}, stranger = {3};
    std::vector<float> all;
    for (std::size_t done = 0; done < tokens_.size(); done += chunk) {
      StepPlan plan;
      plan.logits_wanted = true;
      plan.add_sequence(stranger);
      for (int i = 0; i < 3; ++i) plan.add_row(39 - i, i);
      plan.add_sequence(mine, 1);
      for (std::size_t i = done; i < std::min(tokens_.size(), done + chunk); ++i) {
        plan.logit_rows.push_back(static_cast<std::int32_t>(plan.rows.size()));
        plan.add_row(tokens_[i], static_cast<std::int32_t>(i));
      }
      const auto result = model->forward(plan, *cache);
      EXPECT_TRUE(result && result->finite_rows(0, plan.rows.size()));
      all.insert(all.end(), result->logits.begin(), result->logits.end());
    }
    return all;
  }
  Parts parts_;
  std::vector<int> tokens_;
};

TEST_P(OnePart, is_what_its_formula_says_on_every_device) {
  const Rows want = Truth(parts_).logits(tokens_);
  double size = 0;
  for (const Row& row : want)
    for (const double v : row) size = std::max(size, std::fabs(v));
  const bool whole = std::string_view(GetParam().name).starts_with("both_ways");
  static std::size_t turn = 0;
  const std::vector<std::string> cut_on = in_turn(all_devices(), turn);
  std::vector<float> canonical;
  for (const std::string& isa : all_devices()) {
    const std::vector<float> got = run(isa, kTokens);
    double worst = 0;
    for (std::size_t r = 0; r < want.size(); ++r)
      for (std::size_t i = 0; i < kVocab; ++i)
        worst = std::max(worst, std::fabs(static_cast<double>(got[r * kVocab + i]) - want[r][i]));
    EXPECT_LT(worst / size, isa == "reference" ? 1e-6 : isa == "amx" ? 1e-4 : 5e-6) << isa;
    if (const auto* kernels = kernel::find_kernels(isa.c_str()); kernels && kernels->canonical) {
      if (canonical.empty()) canonical = got;
      EXPECT_EQ(got, canonical) << isa << ": other bits than another instruction set's";
    }
    if (whole || std::ranges::find(cut_on, isa) == cut_on.end()) continue;
    EXPECT_EQ(run(isa, 13), got) << isa << ": the bits depend on how the prompt is cut";
  }
}

/// From a checkpoint at a border on, in another slot, with wrong drafts that are taken back, and right ones that are
/// not: the bits of the whole prompt.
TEST_P(OnePart, goes_on_from_a_checkpoint_and_takes_drafts_back) {
  if (std::string_view(GetParam().name).starts_with("both_ways")) return;  // such a model computes whole prompts
  static std::size_t turn = 0;
  for (const std::string& isa : in_turn(all_devices(), turn)) {
    const std::vector<float> want = run(isa, kTokens);
    const auto device = test_device(isa, 2);
    const auto model = Model::load(*device, parts_, parts_.graph, {}).value();
    const auto cache = device->make_cache(model->cache_shape(3, KvPrecision::kF32, 3, 2)).value();
    const std::vector<std::int32_t> pages = {1, 0, 2};
    StepPlan plan;
    std::vector<StepPlan::Save> saves = {{64, 1}, {128, 0}};
    plan.add_sequence(pages, 2).saves = saves;
    for (int i = 0; i < 128; ++i) plan.add_row(tokens_[static_cast<std::size_t>(i)], i);
    ASSERT_TRUE(model->forward(plan, *cache));
    for (const int begin : {64, 128}) {
      int border = begin, accept = 0;
      for (int done = begin; done < kTokens;) {
        plan.clear();
        plan.logits_wanted = true;
        StepPlan::Sequence& s = plan.add_sequence(pages, 0);
        if (done == begin) s.restore = begin == 64 ? 1 : 0;
        const int block_end = (done / 64 + 1) * 64, drafts = std::min({5, block_end - done - 1, kTokens - done - 1});
        s.drafts = drafts, accept = drafts > 0 ? (accept + 1) % (drafts + 1) : 0;
        if (done + drafts + 1 == block_end) accept = drafts;  // a block that drafts complete
        for (int i = 0; i <= drafts; ++i) {
          const int token = tokens_[static_cast<std::size_t>(done + i)];
          plan.logit_rows.push_back(i);
          plan.add_row(i > accept ? (token + 1) % kVocab : token, done + i);
        }
        plan.sequences[0].border = border;
        const auto result = model->forward(plan, *cache);
        ASSERT_TRUE(result);
        for (int i = 0; i <= accept; ++i)
          for (int v = 0; v < kVocab; ++v)
            ASSERT_EQ(result->logits[static_cast<std::size_t>(i * kVocab + v)],
                      want[static_cast<std::size_t>((done + i) * kVocab + v)])
                << isa << ", from " << begin << ", position " << done + i;
        border = std::max(border, (done + 1) / 64 * 64);  // drafts complete no block
        done += 1 + accept;
      }
    }
  }
}

/// An embedding in the place of a token: the token's own gives the same bits.
TEST_P(OnePart, takes_embeddings_beside_token_ids) {
  if (parts_.graph.layer_inputs) return;  // which come from ids
  const auto device = make_cpu_device("", 2).value();
  const auto model = Model::load(*device, parts_, parts_.graph, {}).value();
  const auto& table = parts_.values(parts_.graph.embedding);
  const std::vector<std::int32_t> pages = {1, 0, 2};
  std::vector<std::vector<float>> logits;
  for (const bool embedded : {false, true}) {
    const auto cache = device->make_cache(model->cache_shape(3, KvPrecision::kF32)).value();
    StepPlan plan;
    plan.logits_wanted = true;
    plan.add_sequence(pages);
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      plan.logit_rows.push_back(static_cast<std::int32_t>(i));
      if (embedded && i % 3 == 1) {
        const auto row = static_cast<std::int32_t>(plan.embeddings.size() / kDim);
        plan.embeddings.insert(plan.embeddings.end(), table.begin() + tokens_[i] * kDim,
                               table.begin() + (tokens_[i] + 1) * kDim);
        plan.add_row(-1 - row, static_cast<std::int32_t>(i));
      } else {
        plan.add_row(tokens_[i], static_cast<std::int32_t>(i));
      }
    }
    const auto result = model->forward(plan, *cache);
    ASSERT_TRUE(result);
    logits.emplace_back(result->logits.begin(), result->logits.end());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

/// Operations of a step that were kept, for another sequence: the bits of a walk.
TEST_P(OnePart, can_be_recorded) {
  RecordingDevice device(make_cpu_device("", 2).value());
  const auto model = Model::load(device, parts_, parts_.graph, {}).value();
  const std::vector<std::int32_t> pages = {1, 0, 2};
  const auto plan_of = [&](int shift) {
    StepPlan plan;
    plan.logits_wanted = true;
    plan.add_sequence(pages);
    for (int i = 0; i < kTokens; ++i) {
      plan.logit_rows.push_back(i);
      plan.add_row((tokens_[static_cast<std::size_t>(i)] + shift) % kVocab, i);
    }
    return plan;
  };
  std::vector<std::vector<float>> logits;
  for (const int replay : {0, 1}) {
    const auto cache = device.make_cache(model->cache_shape(3, KvPrecision::kF32)).value(),
               other = device.make_cache(model->cache_shape(3, KvPrecision::kF32)).value();
    if (replay) {
      device.record();
      ASSERT_TRUE(model->forward(plan_of(1), *other));
    }
    const auto result = replay ? device.run_again(plan_of(0), *cache) : model->forward(plan_of(0), *cache);
    ASSERT_TRUE(result);
    logits.emplace_back(result->logits.begin(), result->logits.end());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

INSTANTIATE_TEST_SUITE_P(all, OnePart, testing::ValuesIn(kCases), [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace llorch
