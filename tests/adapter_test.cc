// Adapters from both kinds of file against the same model with B A merged into its weights, which the reference
// computes in double; and what is refused, by name.
#include "adapters.h"

#include "arch/synth.h"
#include "base/mapped_file.h"
#include "device/cpu/cpu_device.h"
#include "engine/adapters.h"
#include "kernel/kernels.h"
#include "zoo.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

/// A model without its tokenizer, and some adapters.
struct Body {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Device> device;
  std::unique_ptr<Model> model;

  Body(const std::string& path, const std::string& isa, int context, const std::vector<arch::AdapterRef>& refs = {}) {
    source = open_model(path).value(), device = make_cpu_device(isa, 2).value();
    Graph graph = arch::read_graph(*source, context).value();
    const auto adapters = read_adapters(refs, *source, graph);
    if (!adapters) throw std::runtime_error(adapters.error().message);  // gtest reports it as this test's failure
    model = Model::load(*device, *source, std::move(graph), {}).value();
    for (const Adapter& a : *adapters) EXPECT_TRUE(model->add_adapter(a));
  }

  /// Logits of every position, of an encoder its states.
  std::vector<float> values(const TokenIds& ids, int adapter, int chunk = 512) {
    std::vector<float> all;
    if (!model->graph().whole_prompts) {
      const Status done =
          forward_all({*model, adapter}, ids, chunk, KvPrecision::kF32,
                      [&](int, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
      EXPECT_TRUE(done) << done.error().message;
      return all;
    }
    const auto cache = device->make_cache(model->cache_shape(1, KvPrecision::kF32)).value();
    const std::vector<std::int32_t> pages{0};
    StepPlan plan;
    plan.add_sequence(pages).adapter = adapter;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      plan.state_rows.push_back(static_cast<std::int32_t>(i));
      plan.add_row(ids[i], static_cast<std::int32_t>(i));
    }
    const auto result = model->forward(plan, *cache);
    EXPECT_TRUE(result && result->finite_rows(0, ids.size()));
    return {result->states.begin(), result->states.end()};
  }
};

std::vector<std::string> isas() {
  if (kSanitized) return {kernel::best_kernels().name};  // all of them in the optimised build
  int count = 0;
  const auto* const* all = kernel::all_kernels(count);
  std::vector<std::string> names{"reference"};
  for (int i = 0; i < count; ++i) names.emplace_back(all[i]->name);
  return names;
}

class Adapters : public testing::TestWithParam<ZooModel> {
 protected:
  void SetUp() override {
    LLORCH_NEED_TEST_DATA(folder, fmt::format("models/zoo/{}", GetParam().folder));
    folder_ = folder;
    context_ = std::string_view(GetParam().folder) == "phi3" ? 1024 : 0;
    for (int i = 0; i < 24; ++i) ids_.push_back((i * 53 + 11) % 300);
  }
  [[nodiscard]] std::string gguf() const { return folder_ + "/model-f32.gguf"; }
  /// Which of these can be adapted; the others are refused by their names.
  template<class Write>
  std::vector<TestPair> accepted(const std::vector<TestPair>& all, const std::string& path, const Write& write) {
    const auto base = open_model(gguf()).value();
    const Graph graph = arch::read_graph(*base, context_).value();
    std::vector<TestPair> out;
    for (const TestPair& pair : all) {
      write(std::vector{pair});
      if (const auto one = arch::read_adapter({"one", path, 1}, *base, graph)) {
        out.push_back(pair);
      } else {
        EXPECT_EQ(one.error().code, ErrorCode::kModelLoadFailed);
        EXPECT_NE(one.error().message.find("'" + pair.name + "'"), std::string::npos) << one.error().message;
        EXPECT_NE(one.error().message.find("adapter 'one'"), std::string::npos) << one.error().message;
        refused_.push_back(pair.name);
      }
    }
    return out;
  }
  /// `truth`: a model with the pairs merged, times 1.5.
  void expect_merged(const std::string& truth, const std::string& adapter, const std::vector<std::string>& bases) {
    const std::vector<float> want = Body(truth, "reference", context_).values(ids_, -1);
    double worst = 0, worst_merged = 0;
    for (const std::string& base : bases)
      for (const std::string& isa : isas()) {
        Body body(base, isa, context_, {{"one", adapter, 1.5f}});
        const std::vector<float> got = body.values(ids_, 0);
        // No further off than the merged weights are themselves on these kernels.
        const double own = relative_error(Body(truth, isa, context_).values(ids_, -1), want);
        const double error = relative_error(got, want), bound = isa == "amx" ? 1e-3 : GetParam().bound;
        worst = std::max(worst, error), worst_merged = std::max(worst_merged, own);
        EXPECT_LT(error, std::max(bound, 2 * own)) << base << " " << isa << ", merged: " << own;
        EXPECT_GT(relative_error(body.values(ids_, -1), want), 100 * bound) << "the adapter changes too little";
        if (body.model->graph().whole_prompts) continue;
        EXPECT_EQ(body.values(ids_, 0, 3), got) << isa << ": the bits depend on the chunk";
      }
    std::string names;
    for (const std::string& name : refused_)
      if (name.find(".experts.") == name.npos && name.find("_exps") == name.npos) names += " " + name;
    std::printf("adapters %-22s error %.1e, of merged weights %.1e; not adapted:%s\n", GetParam().folder, worst,
                worst_merged, names.c_str());
  }

  std::string folder_;
  int context_ = 0;
  TokenIds ids_;
  ScratchDirectory scratch_;
  std::vector<std::string> refused_;
};

TEST_P(Adapters, of_gguf_equal_merged_weights) {
  const auto base = open_model(gguf()).value();
  std::vector<TestPair> all;
  for (const TensorView& t : base->tensors())
    if (t.n_dims >= 2) all.push_back(random_pair(t.name, t.rows(), t.columns(), 4, 1));
  const std::string path = scratch_ / "adapter.gguf";
  const auto write = [&](const std::vector<TestPair>& pairs) {
    write_gguf_adapter(path, pairs, adapter_metadata(GetParam().family, 6));
  };
  const std::vector<TestPair> pairs = accepted(all, path, write);
  ASSERT_GE(pairs.size(), 6u);
  write(pairs);
  write_merged_gguf(*base, pairs, 6.0 / 4 * 1.5, scratch_ / "merged.gguf");
  expect_merged(scratch_ / "merged.gguf", path, {gguf()});
}

/// Of both forms of the base: their tensors are the same.
TEST_P(Adapters, of_peft_equal_merged_weights) {
  const std::string hf = folder_ + "/hf", path = scratch_ / "adapter";
  std::vector<TestPair> all;
  const SafetensorsDirectory source = SafetensorsDirectory::open(hf).value();
  for (const TensorView& t : source.tensors())
    if (t.n_dims == 2 && t.name.ends_with(".weight"))
      all.push_back(random_pair(t.name.substr(0, t.name.size() - 7), t.rows(), t.columns(), 3, 2));
  json::object config = peft_config(3, 4);
  config["use_rslora"] = true;
  const auto write = [&](const std::vector<TestPair>& pairs) { write_peft(path, halves_of(pairs), config); };
  const std::vector<TestPair> pairs = accepted(all, path, write);
  ASSERT_GE(pairs.size(), 6u);
  write(pairs);
  write_merged_hf(hf, pairs, 4 / std::sqrt(3.0) * 1.5, scratch_ / "merged");
  expect_merged(scratch_ / "merged", path, {gguf(), hf});
}

INSTANTIATE_TEST_SUITE_P(zoo, Adapters, testing::ValuesIn(kZoo), [](const auto& p) { return p.param.folder; });

/// What PEFT itself computes with its LoRA layers, in double (tools/parity/export_adapter_golden.py). The numbers of
/// the adapters are made again; what PEFT wrote beside them is in the golden.
class PeftGolden : public testing::TestWithParam<const char*> {};

TEST_P(PeftGolden, is_what_is_computed_here) {
  const std::string path = LLORCH_SOURCE_DIR "/tests/golden/adapters/peft.safetensors", arch = GetParam();
  const MappedFile file = MappedFile::open(path).value();
  std::vector<float> want;
  const std::vector<TensorView> results = parse_safetensors(file.bytes(), path).value();
  for (const TensorView& t : results)
    if (t.name == arch) {
      want.resize(t.values());
      std::memcpy(want.data(), t.data.data(), t.data.size());
    }
  std::uint64_t length = 0;
  std::memcpy(&length, file.bytes().data(), 8);
  const json::value header =
      json::parse({reinterpret_cast<const char*>(file.bytes().data()) + 8, length}, path).value();
  const json::value meta = json::parse(header.at("__metadata__").at("adapters").as_string(), path).value();
  const json::object& adapter = meta.at("adapters").at(arch).as_object();

  const ScratchDirectory scratch;
  TestTensors tensors;
  for (const auto& [key, shape] : adapter.at("tensors").as_object()) {
    const std::string name(key);
    const auto rows = static_cast<std::size_t>(shape.at(0).as_int64()),
               columns = static_cast<std::size_t>(shape.at(1).as_int64());
    TestTensor& t = tensors[name] = {{rows, columns}, std::vector<float>(rows * columns)};
    arch::synth_values(meta.at("seed").to_number<std::uint64_t>(), {name, {columns, rows}, ""}, 0, t.values);
  }
  write_peft(scratch / "adapter", tensors, adapter.at("config").as_object());
  arch::SynthRequest request;
  request.shape = "tiny-" + arch, request.type = "F32", request.seed = meta.at("model_seed").to_number<std::uint64_t>();
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  TokenIds ids;
  for (const json::value& id : meta.at("tokens").as_array()) ids.push_back(id.to_number<TokenId>());
  for (const std::string& isa : isas()) {
    std::vector<float> got = Body(scratch / "m.gguf", isa, 0, {{"peft", scratch / "adapter", 1}}).values(ids, 0);
    got.erase(got.begin(), got.end() - static_cast<std::ptrdiff_t>(want.size()));
    const double error = relative_error(got, want), bound = isa == "reference" ? 1e-5 : 1e-4;  // as in golden_test.cc
    EXPECT_LT(error, bound) << isa;
    std::printf("adapters, PEFT's own result, %s on %s: error %.1e\n", arch.c_str(), isa.c_str(), error);
  }
}

INSTANTIATE_TEST_SUITE_P(all, PeftGolden, testing::Values("llama", "gpt2"), [](const auto& p) { return p.param; });

/// A small model of Llama's shape, and what is said of an adapter for it.
class AdapterFiles : public testing::Test {
 protected:
  void SetUp() override {
    arch::SynthRequest request;
    request.shape = "tiny-llama", request.type = "F32", request.seed = 3;
    ASSERT_TRUE(arch::synthesize(request, scratch_ / "m.gguf"));
    base_ = open_model(scratch_ / "m.gguf").value();
    graph_ = arch::read_graph(*base_, 0).value();
  }
  [[nodiscard]] TestPair pair(const std::string& tensor, const std::string& as, std::size_t rank = 2) const {
    const TensorView* t = base_->find(tensor);
    return random_pair(as, t->rows(), t->columns(), rank, 5);
  }
  [[nodiscard]] TestPair value_projection() const { return pair("blk.0.attn_v.weight", "blk.0.attn_v.weight"); }
  [[nodiscard]] std::string error_of(const std::string& path) const {
    const auto adapter = arch::read_adapter({"one", path, 1}, *base_, graph_);
    return adapter ? "read" : adapter.error().message;
  }
  /// Of a GGUF adapter.
  [[nodiscard]] std::string gguf(const std::vector<TestPair>& pairs, const Metadata& metadata) const {
    write_gguf_adapter(scratch_ / "a.gguf", pairs, metadata);
    return error_of(scratch_ / "a.gguf");
  }
  [[nodiscard]] std::string peft(const TestTensors& tensors, const json::object& config) const {
    write_peft(scratch_ / "a", tensors, config);
    return error_of(scratch_ / "a");
  }
  static void expect_says(const std::string& message, std::string_view what) {
    EXPECT_NE(message.find(what), std::string::npos) << message << "\nshould say: " << what;
  }

  ScratchDirectory scratch_;
  std::unique_ptr<WeightSource> base_;
  Graph graph_;
};

TEST_F(AdapterFiles, of_gguf_that_do_not_fit_are_refused_by_name) {
  const Metadata good = adapter_metadata("llama", 4);
  EXPECT_EQ(gguf({value_projection()}, good), "read");
  const auto with = [&](const std::string& key, MetaValue value) {
    Metadata m = good;
    m.set(key, std::move(value));
    return gguf({value_projection()}, m);
  };
  expect_says(with("general.architecture", MetaValue::text("qwen3")),
              "is for architecture 'qwen3', the model is 'llama'");
  expect_says(with("general.type", MetaValue::text("model")), "'general.type' is 'model'");
  expect_says(with("adapter.type", MetaValue::text("ia3")), "'adapter.type' is 'ia3'");
  expect_says(with("adapter.lora.alpha", MetaValue::f32(NAN)), "'adapter.lora.alpha' is not finite");
  expect_says(with("adapter.alora.invocation_tokens", MetaValue::i32s({1})), "'adapter.alora.invocation_tokens'");
  expect_says(gguf({}, good), "holds no pair");
  expect_says(gguf({pair("blk.0.attn_v.weight", "blk.9.attn_v.weight")}, good), "'blk.9.attn_v.weight' is not in");
  expect_says(gguf({pair("token_embd.weight", "token_embd.weight")}, good), "'token_embd.weight' cannot be adapted");
  expect_says(gguf({pair("blk.0.ffn_up.weight", "blk.0.attn_v.weight")}, good),
              "'blk.0.attn_v.weight' is for a matrix of");
  TestPair one = value_projection();
  one.a[3] = INFINITY;
  expect_says(gguf({one}, good), "blk.0.attn_v.weight.lora_a");
  one = value_projection();
  ASSERT_TRUE(write_gguf(scratch_ / "h.gguf", good, {plan_of(one.name + ".lora_b", {2, one.outputs}, one.b)}));
  expect_says(error_of(scratch_ / "h.gguf"), "'blk.0.attn_v.weight' has B alone");
  ASSERT_TRUE(write_gguf(scratch_ / "c.gguf", good, {plan_of("blk.0.attn_norm.weight", {4}, {1, 2, 3, 4})}));
  expect_says(error_of(scratch_ / "c.gguf"), "tensor 'blk.0.attn_norm.weight' is no half");
  one = value_projection();
  ASSERT_TRUE(write_gguf(scratch_ / "r.gguf", good,
                         {plan_of(one.name + ".lora_a", {one.inputs, 2}, one.a),
                          plan_of(one.name + ".lora_b", {1, 2 * one.outputs}, one.b)}));
  expect_says(error_of(scratch_ / "r.gguf"), "an A of rank 2 and a B of rank 1");
  expect_says(error_of(scratch_ / "m.gguf"), "general.type");
  expect_says(error_of(scratch_ / "none.gguf"), "none.gguf");
}

TEST_F(AdapterFiles, of_peft_that_are_more_than_pairs_are_refused_by_name) {
  const std::string module = "model.layers.1.self_attn.v_proj";
  const TestTensors good = halves_of({pair("blk.1.attn_v.weight", module)});
  EXPECT_EQ(peft(good, peft_config(2, 4)), "read");
  const auto with = [&](const char* key, json::value value) {
    json::object config = peft_config(2, 4);
    config[key] = std::move(value);
    return peft(good, config);
  };
  EXPECT_EQ(with("target_modules", json::array{"v_proj"}), "read");
  EXPECT_EQ(with("init_lora_weights", "gaussian"), "read");
  EXPECT_EQ(with("modules_to_save", nullptr), "read");
  EXPECT_EQ(with("rank_pattern", {{"v_proj", 2}, {"q_proj", 7}}), "read");
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, json::value>>{{"use_dora", true},
                                                        {"modules_to_save", json::array{"lm_head"}},
                                                        {"lora_bias", true},
                                                        {"layer_replication", json::array{json::array{0, 1}}},
                                                        {"trainable_token_indices", json::array{1}},
                                                        {"alora_invocation_tokens", json::array{1}},
                                                        {"target_parameters", json::array{"x"}},
                                                        {"a_field_of_next_year", 3}})
    expect_says(with(key, value), fmt::format("'{}' is not supported", key));
  expect_says(with("bias", "lora_only"), "bias 'lora_only'");
  expect_says(with("peft_type", "LOHA"), "peft_type is 'LOHA'");
  for (const char* how : {"pissa_niter_4", "OLoRA", "loftq", "something_new"})
    expect_says(with("init_lora_weights", how), "may have changed the base model's weights");
  expect_says(with("r", 3), "has rank 2, adapter_config.json says 3");
  expect_says(with("r", nullptr), "has no r");
  expect_says(with("lora_alpha", nullptr), "has no lora_alpha");
  expect_says(with("alpha_pattern", {{"model\\.layers\\.(0|1)\\..*", 2}}), "that is no plain name");
  const auto plus = [&](const std::string& name) {
    TestTensors more = good;
    more["base_model.model." + name] = {{2, 2}, {1, 2, 3, 4}};
    return peft(more, peft_config(2, 4));
  };
  expect_says(plus(module + ".lora_magnitude_vector"), "DoRA is not supported");
  expect_says(plus("model.embed_tokens.lora_embedding_A"), "adapters of embeddings are not supported");
  expect_says(plus(module + ".lora_B.bias"), "is no half of a low-rank pair");
  expect_says(plus("lm_head.weight"), "is no half of a low-rank pair");
  expect_says(plus("lm_head.base_layer.weight"), "is a weight of the base model");
  expect_says(plus("model.layers.1.self_attn.o_proj.lora_A.weight"), "has A alone");
  expect_says(peft(halves_of({pair("blk.1.attn_v.weight", "model.layers.1.self_attn.w_proj")}), peft_config(2, 4)),
              "'model.layers.1.self_attn.w_proj' is no matrix of this model");
  expect_says(peft(halves_of({pair("blk.1.ffn_up.weight", module)}), peft_config(2, 4)), "has a pair for");
  expect_says(peft(halves_of({pair("blk.1.attn_v.weight", module), pair("blk.1.attn_v.weight", module.substr(6))}),
                   peft_config(2, 4)),
              "more than one pair");
  fs::remove(scratch_ / "a" + "/adapter_model.safetensors");
  write_text(scratch_ / "a" + "/adapter_model.bin", "pickle");
  expect_says(error_of(scratch_ / "a"), "can run code");
}

/// GPT-2's matrices are stored transposed; the halves of a pair are not.
TEST(AdapterGpt2, of_peft_equal_merged_weights) {
  const ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = "tiny-gpt2", request.type = "F32", request.seed = 4;
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  const auto base = open_model(scratch / "m.gguf").value();
  std::vector<TestPair> modules, tensors;
  for (const auto& [tensor, module] : {std::pair{"blk.0.attn_qkv", "attn.c_attn"},
                                       {"blk.0.attn_output", "attn.c_proj"},
                                       {"blk.0.ffn_up", "mlp.c_fc"},
                                       {"blk.0.ffn_down", "mlp.c_proj"}}) {
    const TensorView* t = base->find(std::string(tensor) + ".weight");
    modules.push_back(random_pair(std::string("transformer.h.0.") + module, t->rows(), t->columns(), 3, 9));
    tensors.push_back(modules.back());
    tensors.back().name = t->name;
  }
  json::object config = peft_config(3, 3);
  config["fan_in_fan_out"] = true;
  write_peft(scratch / "a", halves_of(modules), config);
  write_merged_gguf(*base, tensors, 1, scratch / "merged.gguf");
  TokenIds ids;
  for (int i = 0; i < 30; ++i) ids.push_back((i * 53 + 11) % 300);
  const std::vector<float> want = Body(scratch / "merged.gguf", "reference", 0).values(ids, -1);
  for (const std::string& isa : isas()) {
    Body body(scratch / "m.gguf", isa, 0, {{"one", scratch / "a", 1}});
    EXPECT_LT(relative_error(body.values(ids, 0), want), isa == "amx" ? 1e-3 : 1e-5) << isa;
    EXPECT_GT(relative_error(body.values(ids, -1), want), 1e-2) << isa;
  }
}

/// Whatever bytes a file has: it is read, or refused with a message.
TEST_F(AdapterFiles, that_are_damaged_are_read_or_refused) {
  const std::string path = scratch_ / "a.gguf", folder = scratch_ / "a";
  write_gguf_adapter(path, {value_projection()}, adapter_metadata("llama", 4));
  write_peft(folder, halves_of({pair("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj")}), peft_config(2, 4));
  int refused = 0, tried = 0;
  for (const std::string& file : {path, folder + "/adapter_config.json", folder + "/adapter_model.safetensors"}) {
    const std::string whole = read_text_file(file, 1 << 20).value();
    const std::string& adapter = file == path ? path : folder;
    const auto attempt = [&](const std::string& bytes) {
      write_text(file, bytes);
      const std::string message = error_of(adapter);
      EXPECT_GT(message.size(), 3u);
      refused += message != "read", ++tried;
    };
    const std::size_t header = std::min<std::size_t>(whole.size(), 480);
    for (std::size_t at = 0; at < header; at += 4)
      for (const int change : {1, 0xff}) {
        std::string bytes = whole;
        bytes[at] = static_cast<char>(bytes[at] ^ change);
        attempt(bytes);
      }
    for (std::size_t size = 0; size < whole.size(); size += size < header ? 7 : 501) attempt(whole.substr(0, size));
    write_text(file, whole);
    EXPECT_EQ(error_of(adapter), "read");
  }
  EXPECT_GT(refused, tried / 2);
  for (const json::value& odd :
       {json::value(-1), json::value(1e300), json::value(0), json::value("2"), json::value(2.5),
        json::value(UINT64_MAX), json::value(json::array{1}), json::value(true)})
    for (const char* key : {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "peft_type"}) {
      json::object config = peft_config(2, 4);
      config[key] = odd;
      const std::string message =
          peft(halves_of({pair("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj")}), config);
      const bool fits = (key == std::string_view("lora_alpha") && (odd.is_int64() || odd.is_uint64() || odd == 2.5)) ||
                        (key == std::string_view("use_rslora") && odd.is_bool());
      EXPECT_EQ(message == "read", fits) << key << " " << odd << ": " << message;
    }
}

/// Scales by module, and by the root of the rank.
TEST_F(AdapterFiles, of_peft_have_the_scales_of_their_configuration) {
  const TestTensors tensors = halves_of({pair("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj", 4),
                                         pair("blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj", 9),
                                         pair("blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj", 4)});
  json::object config = peft_config(4, 6);
  config["rank_pattern"] = {{"layers.1.self_attn.v_proj", 9}},
  config["alpha_pattern"] = {{"^model.layers.1.mlp.up_proj", 8}};
  const auto scales = [&](bool rooted) {
    config["use_rslora"] = rooted;
    write_peft(scratch_ / "a", tensors, config);
    std::map<std::string, float> out;
    const Adapter adapter = arch::read_adapter({"one", scratch_ / "a", 0.5f}, *base_, graph_).value();
    for (const LowRankPair& p : adapter.pairs)
      out[graph_.tensors[static_cast<std::size_t>(p.weight.index)].tensor] = p.scale;
    return out;
  };
  using Scales = std::map<std::string, float>;
  EXPECT_EQ(scales(false), (Scales{{"blk.0.attn_v.weight", 0.75f},
                                   {"blk.1.attn_v.weight", static_cast<float>(6.0 / 9 / 2)},
                                   {"blk.1.ffn_up.weight", 1}}));
  EXPECT_EQ(scales(true),
            (Scales{{"blk.0.attn_v.weight", 1.5f}, {"blk.1.attn_v.weight", 1}, {"blk.1.ffn_up.weight", 2}}));
}

/// What is the same has the same identity in both forms; another scale or another number is another adapter.
TEST_F(AdapterFiles, identities_are_those_of_their_numbers) {
  TestPair one = value_projection();
  const auto identity = [&](const std::string& path, float scale) {
    return read_adapters(std::vector<arch::AdapterRef>{{"x", path, scale}}, *base_, graph_).value().front().identity;
  };
  write_gguf_adapter(scratch_ / "a.gguf", {one}, adapter_metadata("llama", 4));
  TestPair module = one;
  module.name = "model.layers.0.self_attn.v_proj";
  write_peft(scratch_ / "a", halves_of({module}), peft_config(2, 4));
  const std::string first = identity(scratch_ / "a.gguf", 1);
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(identity(scratch_ / "a", 1), first);
  EXPECT_NE(identity(scratch_ / "a", 2), first);
  one.b[5] = std::nextafter(one.b[5], 1.0f);
  write_gguf_adapter(scratch_ / "a.gguf", {one}, adapter_metadata("llama", 4));
  EXPECT_NE(identity(scratch_ / "a.gguf", 1), first);
}

TEST(AdapterRefs, are_name_path_and_scale) {
  const auto read = [](const std::string& text) {
    const auto ref = arch::parse_adapter_ref(text);
    return ref ? fmt::format("{} {} {}", ref->name, ref->path, ref->scale) : ref.error().message;
  };
  EXPECT_EQ(read("a=/x/y.gguf"), "a /x/y.gguf 1");
  EXPECT_EQ(read("a.b-c_1=/x=y:0.5"), "a.b-c_1 /x=y 0.5");
  EXPECT_EQ(read("a=/x:y"), "a /x:y 1");
  EXPECT_EQ(read("a=x:-2e1"), "a x -20");
  for (const char* bad : {"", "a", "=x", "a=", "a b=x", "a/b=x", "a:b=x", "a=x:nan", "a=x:inf", "a=x:1e99", "a=:1"})
    EXPECT_NE(read(bad).find("must be NAME=PATH"), std::string::npos) << bad << ": " << read(bad);
}

}  // namespace
}  // namespace llorch
