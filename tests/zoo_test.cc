// The zoo of tiny models (test data, models/zoo): what loads computes its float64 truth, from GGUF and from Hugging
// Face files, on the reference and on every instruction set; what is not supported says so when it is opened.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "arch/hf_source.h"
#include "base/folder.h"
#include "device/cpu/cpu_device.h"
#include "kernel/kernels.h"
#include "quant/table.h"
#include "zoo.h"
#include "zoo_model.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;
/// A source with one key changed.
class Altered final : public WeightSource {
 public:
  Altered(const WeightSource& source, const std::string& key, MetaValue value) : source_(source) {
    metadata_ = source.metadata();
    metadata_.set(key, std::move(value));
    tensors_ = source.tensors();
  }
  Status read(std::span<const std::byte> part, std::byte* to) const override { return source_.read(part, to); }
  void set(const std::string& key, MetaValue value) { metadata_.set(key, std::move(value)); }
  /// A tensor once more, under another name.
  void repeat(std::string_view name, const std::string& as) {
    tensors_.push_back(*source_.find(name));
    tensors_.back().name = as;
  }
  /// What loading says, or "loaded".
  std::string error(Device& device) {
    auto graph = arch::read_graph(*this, 0);
    if (!graph) return graph.error().message;
    const auto model = Model::load(device, *this, std::move(*graph), {.rows_max = 1});
    return model ? "loaded" : model.error().message;
  }

 private:
  const WeightSource& source_;
};

class Zoo : public testing::TestWithParam<ZooModel> {
 protected:
  void SetUp() override {
    LLORCH_NEED_TEST_DATA(folder, fmt::format("models/zoo/{}", GetParam().folder));
    if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not there: not run";
    folder_ = folder;
    prompts_ = zoo_prompts(folder);
  }
  static ZooBody load(const std::string& path, const std::string& isa, int context) {
    return load_zoo_body(path, make_cpu_device(isa, 2).value(), context);
  }
  static std::vector<float> logits_of(ZooBody& model, const TokenIds& ids, int chunk) {
    std::vector<float> all;
    const Status done = forward_all(*model.model, ids, chunk, KvPrecision::kF32, [&](int, std::span<const float> row) {
      all.insert(all.end(), row.begin(), row.end());
    });
    EXPECT_TRUE(done) << done.error().message;
    return all;
  }
  std::string folder_;
  std::vector<ZooPrompt> prompts_;
};

TEST_P(Zoo, is_exact_from_both_forms_on_every_instruction_set) {
  int count = 0;
  const auto* const* all = kernel::all_kernels(count);
  std::vector<std::string> isas{"reference"};
  for (int i = 0; i < count; ++i) isas.emplace_back(all[i]->name);
  double of_reference = 0, of_others = 0;
  static std::size_t turn = 0;
  for (const std::string form : {"model-f32.gguf", "hf"})
    // Both forms have the same tensors, as another test shows: under sanitizers one device reads the second form.
    for (const std::string& isa : form == "hf" ? in_turn(isas, turn) : isas) {
      // Within the original context, so that the short factors hold, as in its truth.
      ZooBody model = load(folder_ + "/" + form, isa, std::string_view(GetParam().folder) == "phi3" ? 1024 : 0);
      for (const ZooPrompt& p : prompts_) {
        const double bound = isa == "amx" ? 1e-3 : GetParam().bound;  // multiplies halves of floats
        const bool encodes = model.model->graph().whole_prompts;
        const std::vector<float> got = logits_of(model, p.ids, 512);
        const double error = error_of(got, p.logits);
        (isa == "reference" ? of_reference : of_others) =
            std::max(isa == "reference" ? of_reference : of_others, error);
        EXPECT_LT(error, bound) << form << " " << isa << ", " << p.ids.size() << " tokens";
        if (encodes) continue;
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
  std::printf("zoo %-22s error %.1e on the reference, %.1e on others\n", GetParam().folder, of_reference, of_others);
}

TEST_P(Zoo, cuts_text_as_the_reference_does_from_both_forms) {
  const json::value ids = read_json(folder_ + "/ids.json");
  const std::string text = json::find_text(ids.get_object(), "text").value();
  const TokenIds want = token_ids(*json::find_array(ids.get_object(), "text_ids"));
  for (const char* form : {"model-f32.gguf", "hf"}) {
    ModelOptions options;
    options.path = folder_ + "/" + form, options.threads = 1;
    const auto model = LoadedModel::load(options);
    ASSERT_TRUE(model) << form << ": " << model.error().message;
    EXPECT_EQ(model->tokenizer->encode(text, {.add_special = true}).value(), want) << form;
  }
}

/// Also what the converter computes (norms + 1, decays), to the last bit but one.
TEST_P(Zoo, has_the_same_tensors_in_both_forms) {
  const auto gguf = open_model(folder_ + "/model-f32.gguf").value(), hf = open_model(folder_ + "/hf").value();
  const auto values = [](const WeightSource& source, const TensorView& t) {
    const std::vector<std::byte> bytes = source.bytes_of(t).value();
    std::vector<float> all(t.values());
    quant::row_ops(t.type).dequantize(bytes.data(), all.size(), all.data());
    return all;
  };
  for (const TensorView& t : gguf->tensors()) {
    const TensorView* other = hf->find(t.name);
    ASSERT_TRUE(other) << t.name;
    ASSERT_EQ(t.values(), other->values()) << t.name;
    const std::vector<float> a = values(*gguf, t), b = values(*hf, *other);
    const float bits = t.name == "rope_freqs.weight" ? 1e-6f : 1.2e-7f;  // which come from powers in float32 there
    for (std::size_t i = 0; i < a.size(); ++i)
      ASSERT_LE(std::fabs(a[i] - b[i]), std::fabs(a[i]) * bits) << t.name << " value " << i;
  }
  EXPECT_EQ(gguf->tensors().size(), hf->tensors().size());
}

TEST_P(Zoo, refuses_what_its_numbers_cannot_be) {
  const auto gguf = open_model(folder_ + "/model-f32.gguf").value();
  const auto device = make_cpu_device("scalar", 1).value();
  const std::string prefix = fmt::format("{}.", GetParam().family);
  for (const Metadata::Entry& e : gguf->metadata().entries()) {
    if (!e.key.starts_with(prefix) || e.key.ends_with(".vocab_size")) continue;
    const auto with = [&](MetaValue value) { return Altered(*gguf, e.key, std::move(value)).error(*device); };
    if (std::holds_alternative<std::uint64_t>(e.value.value)) {
      EXPECT_NE(with(MetaValue::u32(0xffffffffu)), "loaded") << e.key;
      for (const std::uint32_t v : {0u, 1u, 3u, 7u, 1000u, 0x10000u})
        (void)with(MetaValue::u32(v));  // whatever it says
    } else if (std::holds_alternative<double>(e.value.value)) {
      EXPECT_NE(with(MetaValue::f32(NAN)), "loaded") << e.key;
      EXPECT_NE(with(MetaValue::f32(-1e30f)), "loaded") << e.key;
      (void)with(MetaValue::f32(0));
    } else if (const auto* list = std::get_if<MetaValue::Integers>(&e.value.value)) {
      MetaValue::Integers shorter(list->begin(), list->end() - 1), longer = *list, large = *list;
      longer.push_back(1), large.front() = INT64_MAX;
      for (const auto& v : {shorter, longer, large})
        EXPECT_NE(with({MetaType::kArray, e.value.item, v}).find(e.key), std::string::npos) << e.key;
      for (const std::int64_t v : {-1, 0, 1, 2, 3, 5})
        (void)with({MetaType::kArray, e.value.item, MetaValue::Integers(list->size(), v)});
    } else if (std::holds_alternative<bool>(e.value.value)) {
      (void)with(MetaValue::boolean(!std::get<bool>(e.value.value)));
    }
    for (const MetaValue& other : {MetaValue::strings({"no"}), MetaValue::text("0"), MetaValue::f32s({1, 2})}) {
      if (other.type == e.value.type && other.item == e.value.item) continue;
      if (std::holds_alternative<MetaValue::Floats>(other.value) && e.value.type == MetaType::kArray) continue;
      const std::string error = with(other);
      EXPECT_NE(error.find(e.key), std::string::npos) << e.key << ": " << error;
    }
  }
  Altered unknown(*gguf, prefix + "attention.unheard_of", MetaValue::u32(1));
  EXPECT_NE(unknown.error(*device).find("attention.unheard_of' is not understood"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(all, Zoo, testing::ValuesIn(kZoo), [](const auto& p) { return p.param.folder; });

TEST(ZooOfOthers, layers_for_drafts_are_left_out) {
  LLORCH_NEED_TEST_DATA(folder, "models/zoo/glm4_moe");
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not there: not run";
  const auto gguf = open_model(fmt::format("{}/model-f32.gguf", folder)).value();
  const auto device = make_cpu_device("scalar", 1).value();
  Altered longer(*gguf, "glm4moe.block_count", MetaValue::u32(3));
  longer.repeat("blk.1.attn_norm.weight", "blk.2.nextn.enorm.weight");
  EXPECT_NE(longer.error(*device), "loaded");
  longer.set("glm4moe.nextn_predict_layers", MetaValue::u32(1));
  EXPECT_EQ(longer.error(*device), "loaded");
  EXPECT_EQ(arch::read_graph(longer, 0)->blocks.size(), 2u);
  longer.repeat("blk.1.attn_norm.weight", "blk.3.attn_norm.weight");
  EXPECT_NE(longer.error(*device).find("'blk.3.attn_norm.weight' is not used"), std::string::npos);
  for (const std::uint32_t all : {3u, 4u}) {
    Altered none(*gguf, "glm4moe.nextn_predict_layers", MetaValue::u32(all));
    EXPECT_NE(none.error(*device).find("nextn_predict_layers"), std::string::npos);
  }
}

TEST(ZooOfOthers, the_table_of_models_names_every_family) {
  const std::string table = read_text_file(LLORCH_SOURCE_DIR "/docs/models.md", limits::kJsonBytesMax).value();
  for (const arch::Architecture* family : arch::all()) {
    const std::string name(family->name);
    EXPECT_TRUE(table.find("| " + name + " |") != table.npos || table.find("| " + name + ", ") != table.npos ||
                table.find(", " + name + " |") != table.npos || table.find(", " + name + ", ") != table.npos)
        << name;
    for (const std::string_view type : family->hf_types)
      EXPECT_NE(table.find(type), table.npos) << name << ": model_type " << type;
  }
}

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
