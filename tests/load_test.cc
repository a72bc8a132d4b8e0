// Loading: the same model from both formats gives the same bits; a model that lies, lacks or has too much is refused by
// name (E-03..06, E-08, S-52).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "arch/hf_source.h"
#include "close.h"
#include "device/cpu/cpu_device.h"
#include "engine/forward_all.h"
#include "format/gguf.h"
#include "golden.h"
#include "spoiled.h"

namespace llorch {
namespace {

struct Stored {
  std::string name;
  std::vector<std::uint64_t> shape;  // Hugging Face's order: the contiguous dimension last
  std::vector<float> values;
};

/// The tensors of a synthetic model as Hugging Face would store them, by the plain definition of each layout.
std::vector<Stored> to_hf(const WeightSource& source, const arch::Hyper& h, const arch::Architecture& family) {
  std::map<std::string, Stored> out;
  for (const arch::TensorSpec& spec : family.tensors(h)) {
    const TensorView* t = source.find(spec.name);
    if (!t || spec.hf.empty()) continue;
    const std::vector<std::byte> bytes = source.bytes_of(*t).value();
    const auto* v = reinterpret_cast<const float*>(bytes.data());
    const std::uint64_t c = t->dims[0], r = t->dims[1], e = t->dims[2];
    Stored& s = out[spec.hf];
    s.name = spec.hf;
    const bool even = spec.layout == arch::HfLayout::kGateOfPairs || spec.layout == arch::HfLayout::kGateBias;
    switch (spec.layout) {
      case arch::HfLayout::kGateOfPairs:
      case arch::HfLayout::kUpOfPairs:  // [expert][in][2 ffn]
        s.shape = {e, c, 2 * r}, s.values.resize(2 * t->values());
        for (std::uint64_t x = 0; x < e; ++x)
          for (std::uint64_t i = 0; i < c; ++i)
            for (std::uint64_t o = 0; o < r; ++o)
              s.values[(x * c + i) * 2 * r + 2 * o + !even] = v[(x * r + o) * c + i];
        break;
      case arch::HfLayout::kGateBias:
      case arch::HfLayout::kUpBias:
        s.shape = {r, 2 * c}, s.values.resize(2 * t->values());
        for (std::uint64_t i = 0; i < t->values(); ++i) s.values[2 * i + !even] = v[i];
        break;
      case arch::HfLayout::kTransposedEach:
        s.shape = {e, c, r}, s.values.resize(t->values());
        for (std::uint64_t x = 0; x < e; ++x)
          for (std::uint64_t i = 0; i < c; ++i)
            for (std::uint64_t o = 0; o < r; ++o) s.values[(x * c + i) * r + o] = v[(x * r + o) * c + i];
        break;
      case arch::HfLayout::kTransposed:
        s.values.resize(t->values());
        if (t->n_dims == 1)
          s.shape = {c};
        else
          s.shape = {c, r};
        for (std::uint64_t i = 0; i < c; ++i)
          for (std::uint64_t o = 0; o < r; ++o) s.values[t->n_dims == 1 ? i : i * r + o] = v[o * c + i];
        break;
      case arch::HfLayout::kRotaryPairs: {  // row (head, 2 i + j) of ours is row (head, j * half + i) of theirs
        s.shape = {r, c}, s.values.resize(t->values());
        const std::uint64_t dim = r / static_cast<std::uint64_t>(spec.heads);
        for (std::uint64_t head = 0; head < r / dim; ++head)
          for (std::uint64_t i = 0; i < dim / 2; ++i)
            for (std::uint64_t j = 0; j < 2; ++j)
              std::copy_n(v + (head * dim + 2 * i + j) * c, c,
                          s.values.begin() + static_cast<std::ptrdiff_t>((head * dim + j * dim / 2 + i) * c));
        break;
      }
      case arch::HfLayout::kEach:
      case arch::HfLayout::kRuns: ADD_FAILURE() << spec.name << ": the zoo has such families"; break;
      case arch::HfLayout::kSame:
        s.values.assign(v, v + t->values());
        for (int d = t->n_dims - 1; d >= 0; --d) s.shape.push_back(t->dims[static_cast<std::size_t>(d)]);
        break;
    }
  }
  std::vector<Stored> list;
  for (auto& [name, s] : out) list.push_back(std::move(s));
  return list;
}

void write_safetensors(const std::string& path, const std::vector<Stored>& tensors) {
  std::string header = "{";
  std::size_t at = 0;
  for (const Stored& t : tensors) {
    header += fmt::format(R"({}"{}":{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}})", at ? "," : "", t.name,
                          fmt::join(t.shape, ","), at, at + 4 * t.values.size());
    at += 4 * t.values.size();
  }
  header += "}";
  std::ofstream out(path, std::ios::binary);
  const std::uint64_t size = header.size();
  out.write(reinterpret_cast<const char*>(&size), 8);
  out << header;
  for (const Stored& t : tensors)
    out.write(reinterpret_cast<const char*>(t.values.data()), static_cast<std::streamsize>(4 * t.values.size()));
}

struct HfCase {
  const char* shape;
  const char* config;
};
constexpr HfCase kHfCases[] = {
    {"tiny-llama",
     R"({"model_type":"llama","vocab_size":320,"hidden_size":256,"intermediate_size":512,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,
      "head_dim":64,"max_position_embeddings":256,"rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":false})"},
    {"tiny-qwen2",
     R"({"model_type":"qwen2","vocab_size":320,"hidden_size":256,"intermediate_size":512,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,
      "max_position_embeddings":256,"rms_norm_eps":1e-6,"rope_theta":1000000.0,"tie_word_embeddings":false})"},
    {"tiny-gpt2",
     R"({"model_type":"gpt2","vocab_size":320,"n_embd":256,"n_inner":1024,"n_layer":2,"n_head":4,"n_positions":128,"layer_norm_epsilon":1e-5,
      "activation_function":"gelu_new","tie_word_embeddings":false})"},
    {"tiny-gpt-oss",
     R"({"model_type":"gpt_oss","vocab_size":320,"hidden_size":256,"intermediate_size":256,"num_hidden_layers":2,"num_attention_heads":8,"num_key_value_heads":2,
      "head_dim":64,"num_local_experts":6,"num_experts_per_tok":2,"sliding_window":7,"max_position_embeddings":256,"rms_norm_eps":1e-5,"tie_word_embeddings":false,
      "rope_parameters":{"rope_type":"yarn","rope_theta":150000.0,"factor":32.0,"original_max_position_embeddings":64}})"},
};

class BothFormats : public testing::TestWithParam<HfCase> {};

TEST_P(BothFormats, give_the_same_bits) {
  ScratchDirectory d;
  arch::SynthRequest request;
  request.shape = GetParam().shape, request.type = "F32", request.optional_tensors = false;
  ASSERT_TRUE(arch::synthesize(request, d / "model.gguf"));
  const auto gguf = open_model(d / "model.gguf").value();
  const arch::Architecture* family = arch::find(gguf->metadata().text("general.architecture").value()).value();
  const arch::Hyper h = arch::read(*family, gguf->metadata(), 320).value();
  std::vector<Stored> tensors = to_hf(*gguf, h, *family);
  if (std::string_view(GetParam().shape) != "tiny-gpt2" &&
      std::ranges::find(tensors, "lm_head.weight", &Stored::name) == tensors.end()) {
    Stored head = *std::ranges::find(tensors, "model.embed_tokens.weight", &Stored::name);
    head.name = "lm_head.weight";
    tensors.push_back(head);
  }
  std::string config = GetParam().config;
  if (std::string_view(GetParam().shape) == "tiny-gpt2")
    config.replace(config.find("\"tie_word_embeddings\":false"), 27, "\"tie_word_embeddings\":true ");
  std::ofstream(d / "config.json") << config;
  write_safetensors(d / "model.safetensors", tensors);

  const auto device = make_cpu_device("", 2).value();
  const auto logits_of = [&device](WeightSource& source) {
    auto graph = arch::read_graph(source, 0);
    EXPECT_TRUE(graph) << graph.error().message;
    const auto model = Model::load(*device, source, std::move(*graph), {});
    EXPECT_TRUE(model) << model.error().message;
    std::vector<float> all;
    const TokenIds tokens{3, 141, 59, 265, 35, 89, 79, 32, 38};
    EXPECT_TRUE(forward_all(**model, tokens, 512, KvPrecision::kF16,
                            [&](int, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }));
    return all;
  };
  const auto hf = arch::open_hf(d.path());
  ASSERT_TRUE(hf) << hf.error().message;
  const std::vector<float> a = logits_of(*gguf), b = logits_of(**hf);
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);

  // One tensor less, one more, one of another shape: each is refused with its name.
  const auto refused = [&](const std::vector<Stored>& list, const std::string& reason) {
    write_safetensors(d / "model.safetensors", list);
    const auto source = arch::open_hf(d.path());
    ASSERT_FALSE(source) << reason;
    EXPECT_NE(source.error().message.find(reason), std::string::npos) << source.error().message;
  };
  std::vector<Stored> spoiled = tensors;
  const std::string gone = spoiled[1].name;
  spoiled.erase(spoiled.begin() + 1);
  refused(spoiled, gone);
  spoiled = tensors;
  spoiled.push_back({"stranger.weight", {2}, {1, 2}});
  refused(spoiled, "stranger.weight");
  spoiled = tensors;
  spoiled[0].shape.back() += 1;
  spoiled[0].values.resize(spoiled[0].values.size() / (spoiled[0].shape.back() - 1) * spoiled[0].shape.back());
  refused(spoiled, spoiled[0].name);
}

INSTANTIATE_TEST_SUITE_P(all, BothFormats, testing::ValuesIn(kHfCases), [](const auto& p) {
  std::string name = p.param.shape;
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST(Loading, the_good_file_loads) { EXPECT_EQ(Spoiled().error(), "loaded"); }

TEST(Loading, missing_extra_and_misshapen_tensors_are_named) {
  for (std::size_t i = 0; i < Spoiled().tensors.size(); ++i) {
    Spoiled s;
    const std::string name = s.tensors[i].name;
    if (name == "output.weight" || name == "rope_freqs.weight") continue;  // optional
    s.tensors.erase(s.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_NE(s.error().find(name), std::string::npos) << name;
  }
  Spoiled extra;
  extra.tensors.push_back(extra.tensors[1]);
  extra.tensors.back().name = "blk.0.attn_extra.weight";
  EXPECT_NE(extra.error().find("'blk.0.attn_extra.weight' is not used"), std::string::npos);
  Spoiled shape;
  for (TensorView& t : shape.tensors)
    if (t.name == "blk.1.ffn_up.weight") t.dims[1] -= 1;
  EXPECT_NE(shape.error().find("'blk.1.ffn_up.weight' has shape [256, 511], expected [256, 512]"), std::string::npos);
}

TEST(Loading, hyper_parameters_are_bounded_and_unknown_ones_refused) {
  const auto with = [](const std::string& key, MetaValue value) {
    Spoiled s;
    s.metadata.set(key, std::move(value));
    return s.error();
  };
  for (const char* key :
       {"block_count", "attention.head_count", "embedding_length", "context_length", "feed_forward_length"})
    for (const std::uint32_t v : {0u, 0x80000000u, 0xffffffffu})
      EXPECT_NE(with(std::string("llama.") + key, MetaValue::u32(v)).find("MODEL_LOAD_FAILED"), std::string::npos)
          << key << " " << v;
  EXPECT_NE(with("llama.attention.head_count_kv", MetaValue::u32(3)).find("cannot share"), std::string::npos);
  EXPECT_NE(with("llama.attention.head_count", MetaValue::text("four")).find("not an unsigned integer"),
            std::string::npos);
  EXPECT_NE(with("llama.attention.layer_norm_rms_epsilon", MetaValue::f32(0)).find("epsilon"), std::string::npos);
  EXPECT_NE(with("llama.attention.clamp_kqv", MetaValue::f32(8)).find("'llama.attention.clamp_kqv' is not understood"),
            std::string::npos);
  EXPECT_NE(with("llama.rope.scaling.type", MetaValue::text("spiral")).find("'spiral'"), std::string::npos);
  EXPECT_NE(with("llama.expert_count", MetaValue::u32(8)).find("'llama.expert_used_count'"), std::string::npos);
  EXPECT_NE(with("general.architecture", MetaValue::text("mamba")).find("'mamba'"), std::string::npos);
  EXPECT_NE(with("tokenizer.ggml.pre", MetaValue::text("guess-me")).find("'guess-me'"), std::string::npos);
  EXPECT_NE(with("tokenizer.ggml.model", MetaValue::text("rwkv")).find("'rwkv'"), std::string::npos);
  EXPECT_NE(with("tokenizer.ggml.eos_token_id", MetaValue::u32(320)).find("eos_token_id"), std::string::npos);
}

TEST(Loading, an_mxfp4_scale_of_ff_is_refused) {  // in whatever tensor it is: a matrix, an embedding, a norm
  for (const std::string name : {"blk.1.attn_v.weight", "token_embd.weight", "blk.1.attn_norm.weight"}) {
    Spoiled s("tiny-llama", "MXFP4");
    TensorView& t = s.tensor(name);
    std::vector<std::byte> bytes(t.values() / 32 * 17);
    t.type = DType::kMXFP4, t.data = bytes;
    EXPECT_EQ(s.error().find("is NaN"), std::string::npos) << name;
    bytes[17] = std::byte{0xff};
    EXPECT_NE(s.error().find(fmt::format("'{}': the scale of MXFP4 block 1 is NaN", name)), std::string::npos)
        << s.error();
  }
}

TEST(Loading, a_context_beyond_the_models_is_refused) {
  ScratchDirectory d;
  arch::SynthRequest request;
  request.shape = "tiny-llama", request.type = "Q8_0";
  ASSERT_TRUE(arch::synthesize(request, d / "m.gguf"));
  ModelOptions options;
  options.path = d / "m.gguf", options.context = 257;
  const auto model = LoadedModel::load(options);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kContextLengthExceeded);
}

/// Loads with packed weights in a folder, computes a few positions, and waits until a file was written if one will be.
struct CachedRun {
  bool from_cache = false;
  std::vector<float> logits;
  std::optional<Result<std::string>> written;
};
/// `isa`: a name of devices.h.
CachedRun run_with_cache(const std::string& model, const std::string& folder, const std::string& isa = "") {
  CachedRun run;
  std::promise<Result<std::string>> promise;
  auto told = promise.get_future();
  ModelOptions options;
  options.path = model, options.isa = isa_of(isa), options.products = products_of(isa), options.packed_cache = folder;
  options.cache_written = [&](const Result<std::string>& r) { promise.set_value(r); };
  auto loaded = LoadedModel::load(options);
  EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error().message);
  if (!loaded) return run;
  run.from_cache = loaded->from_cache;
  const TokenIds tokens{1, 5, 9, 13, 2, 77};
  EXPECT_TRUE(forward_all(*loaded->model, tokens, 512, KvPrecision::kF16, [&](int, std::span<const float> logits) {
    run.logits.insert(run.logits.end(), logits.begin(), logits.end());
  }));
  if (!run.from_cache && !folder.empty()) run.written = told.get();
  return run;
}

TEST(Loading, packed_weights_of_a_second_start_are_the_same) {
  std::vector<std::tuple<std::string, std::string, std::string>> cases;  // type, device, one of another layout
  for (const char* type : {"Q4_K_M", "Q8_0", "F16"}) {
    cases.emplace_back(type, "", "scalar");
    if (test_products()) cases.emplace_back(type, "accelerate", "");
  }
  for (const auto& [type, device, other] : cases) {
    ScratchDirectory d;
    arch::SynthRequest request;
    request.shape = "tiny-gpt-oss", request.type = type;
    ASSERT_TRUE(arch::synthesize(request, d / "m.gguf"));
    const CachedRun plain = run_with_cache(d / "m.gguf", "", device),
                    first = run_with_cache(d / "m.gguf", d / "packed", device),
                    second = run_with_cache(d / "m.gguf", d / "packed", device);
    EXPECT_FALSE(first.from_cache);
    ASSERT_TRUE(first.written && *first.written) << first.written->error().message;
    EXPECT_TRUE(second.from_cache);
    EXPECT_EQ(first.logits, plain.logits);
    EXPECT_EQ(second.logits, plain.logits);
    EXPECT_FALSE(run_with_cache(d / "m.gguf", d / "packed", other).from_cache) << "another layout";
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(d / "packed"), {}), 2) << "nothing half written";
  }
}

TEST(Loading, packed_weights_that_are_not_this_models_are_packed_again) {
  ScratchDirectory d;
  const auto make = [&](std::uint64_t seed) {
    arch::SynthRequest request;
    request.shape = "tiny-llama", request.type = "Q8_0", request.seed = seed;
    EXPECT_TRUE(arch::synthesize(request, d / "new.gguf"));
    std::filesystem::rename(d / "new.gguf", d / "m.gguf");
  };
  make(1);
  const CachedRun one = run_with_cache(d / "m.gguf", d / "packed");
  ASSERT_TRUE(one.written && *one.written);
  const std::string file = **one.written;
  make(2);  // another model of the same shape in its place
  const CachedRun other = run_with_cache(d / "m.gguf", d / "packed");
  EXPECT_FALSE(other.from_cache);
  EXPECT_NE(other.logits, one.logits);
  EXPECT_EQ(other.logits, run_with_cache(d / "m.gguf", "").logits);
  std::string good;
  {
    std::ifstream in(file, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  ASSERT_GT(good.size(), 2u << 20);
  const auto spoil = [&](const std::string& what, std::string bytes) {
    std::ofstream(file, std::ios::binary) << bytes;
    const CachedRun r = run_with_cache(d / "m.gguf", d / "packed");
    EXPECT_FALSE(r.from_cache) << what;
    EXPECT_EQ(r.logits, other.logits) << what;
    ASSERT_TRUE(r.written && *r.written) << what;
    EXPECT_TRUE(run_with_cache(d / "m.gguf", d / "packed").from_cache) << what << ": replaced";
  };
  spoil("empty", "");
  spoil("cut", good.substr(0, good.size() - 1));
  spoil("cut in the head", good.substr(0, 300));
  std::string bytes = good;
  bytes[2u << 20] ^= 1;
  spoil("a first panel's byte", bytes);
  bytes = good, bytes.back() ^= 1;
  spoil("a last panel's byte", bytes);
  const auto line = good.find('\n') + 1;
  for (const char* lie : {"9 ", "x ", "-1 ", "99999999999999999999 "})
    spoil(lie, good.substr(0, line) + lie + good.substr(good.find(' ', line) + 1));
  std::filesystem::permissions(file, std::filesystem::perms::others_write, std::filesystem::perm_options::add);
  EXPECT_FALSE(run_with_cache(d / "m.gguf", d / "packed").from_cache) << "anybody may have written it";
  std::ofstream(d / "file") << "x";
  ModelOptions options;
  options.path = d / "m.gguf", options.packed_cache = d / "file";
  const auto refused = LoadedModel::load(options);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(d / "file"), std::string::npos);
}

TEST(Loading, every_shape_has_consistent_quantized_types) {
  for (const std::string_view name : arch::shape_names()) {
    const auto shape = arch::find_shape({.shape = std::string(name)});
    ASSERT_TRUE(shape) << name << ": " << shape.error().message;
    const arch::Hyper& h = shape->hyper;
    for (const char* type : {"Q4_K_M", "Q5_K_M", "Q6_K", "MXFP4", "NVFP4", "Q8_0", "Q2_K"})
      for (const arch::TensorSpec& spec : shape->family->tensors(h)) {
        const auto chosen = arch::choose_type(type, spec.name, spec.dims, {h.layers, false, h.experts > 0});
        ASSERT_TRUE(chosen);
        EXPECT_EQ(spec.dims[0] % info(*chosen).block, 0u) << name << " " << type << " " << spec.name;
      }
  }
}

/// Small tensors are those that `synth` writes into a file; of large ones, rows repeat.
TEST(Loading, a_random_model_needs_no_file) {
  ScratchDirectory d;
  arch::SynthRequest request;
  request.shape = "tiny-qwen3moe", request.type = "Q4_K_M";
  ASSERT_TRUE(arch::synthesize(request, d / "m.gguf"));
  const auto file = open_model(d / "m.gguf").value(), random = open_model("random:tiny-qwen3moe:Q4_K_M").value();
  ASSERT_EQ(random->tensors().size(), file->tensors().size());
  for (const TensorView& t : file->tensors()) {
    const TensorView* made = random->find(t.name);
    ASSERT_TRUE(made) << t.name;
    EXPECT_EQ(std::tuple(made->type, made->n_dims, made->dims), std::tuple(t.type, t.n_dims, t.dims)) << t.name;
    EXPECT_TRUE(random->bytes_of(*made).value() == file->bytes_of(t).value()) << t.name;
  }
  const auto large = open_model("random:qwen3-0.6b:Q8_0").value();
  const TensorView& embedding = *large->find("token_embd.weight");
  ASSERT_EQ(embedding.rows(), 151936u);
  const auto row = [&](std::uint64_t r) {
    std::vector<std::byte> bytes(row_bytes(embedding.type, embedding.columns()));
    EXPECT_TRUE(large->read(embedding.slice(r, 1).data, bytes.data()));
    return bytes;
  };
  EXPECT_TRUE(row(151935) == row(63));
  EXPECT_FALSE(row(1) == row(0));
  for (const auto& [reference, told] : {std::pair{"random:qwen3-0.6b", "names no type"},
                                        {"random:qwen3:Q8_0", "'qwen3' is not known"},
                                        {"random:qwen3-0.6b:Q9", "'Q9' is not known"}}) {
    const auto refused = open_model(reference);
    ASSERT_FALSE(refused) << reference;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidRequest);
    EXPECT_NE(refused.error().message.find(told), std::string::npos) << refused.error().message;
  }
}

}  // namespace
}  // namespace llorch
