// What the files of sentence-transformers may say (arch/hf_sentence.h): modes and lengths are read, whatever else is
// refused by its name.
#include "arch/hf_sentence.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "arch/architecture.h"
#include "test_data.h"

namespace llorch {
namespace {

constexpr const char* kModules = R"([{"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])";

struct Folder {
  ScratchDirectory scratch;
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(scratch / name).parent_path());
    std::ofstream(scratch / name) << text;
  }
  Folder(const std::string& pooling, const std::string& length = "", const std::string& modules = kModules) {
    write("modules.json", modules);
    if (!pooling.empty()) write("1_Pooling/config.json", pooling);
    if (!length.empty()) write("sentence_bert_config.json", length);
  }
  /// "<pooling type> <tokens>", each "-" where it is not stated; or the error, whose paths are as in the folder.
  [[nodiscard]] std::string outcome() const {
    Metadata m;
    if (const Status s = arch::hf_read_sentence(scratch.path(), "bert", m); !s) {
      std::string message = s.error().message;
      if (const auto at = message.find(scratch.path() + "/"); at != std::string::npos)
        message.erase(at, scratch.path().size() + 1);
      return message;
    }
    const auto shown = [&](std::string_view key) {
      const auto number = m.unsigned_integer(key);
      return number ? std::to_string(*number) : "-";
    };
    return shown("bert.pooling_type") + " " + shown(arch::kTextTokensKey);
  }
};

TEST(HfSentence, modes_of_both_forms) {
  const std::string mean = R"({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})";
  EXPECT_EQ(Folder(mean).outcome(), "1 -");
  EXPECT_EQ(Folder(R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})").outcome(), "2 -");
  EXPECT_EQ(Folder(R"({"pooling_mode_lasttoken": true})").outcome(), "3 -");
  EXPECT_EQ(Folder(R"({"pooling_mode": "cls", "embedding_dimension": 384})").outcome(), "2 -");
  EXPECT_EQ(Folder("{}").outcome(), "1 -");
  EXPECT_EQ(Folder(mean, R"({"max_seq_length": 256, "do_lower_case": false})").outcome(), "1 256");
  EXPECT_EQ(Folder(mean, R"({"max_seq_length": null})").outcome(), "1 -");
  const Folder none("", "", "[]");
  EXPECT_EQ(none.outcome(), "- -");
  std::filesystem::remove(none.scratch / "modules.json");
  EXPECT_EQ(none.outcome(), "- -");
}

TEST(HfSentence, what_is_not_computed_is_refused_by_its_name) {
  for (const auto& [pooling, error] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"({"pooling_mode_max_tokens": true})",
            "1_Pooling/config.json: pooling mode 'max' is not supported (mean, cls and lasttoken are)"},
           {R"({"pooling_mode": "first"})",
            "1_Pooling/config.json: pooling mode 'first' is not supported (mean, cls and lasttoken are)"},
           {R"({"pooling_mode": ["cls", "mean"]})",
            "1_Pooling/config.json: several modes in 'pooling_mode' are not supported"},
           {R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})",
            "1_Pooling/config.json: 'pooling_mode_cls_token' beside another mode is not supported"},
           {R"({"pooling_mode_cls_token": 1})",
            "1_Pooling/config.json: 'pooling_mode_cls_token' is neither true nor false"},
           {"[]", "1_Pooling/config.json is no object"},
           {"", "1_Pooling/config.json is missing, which modules.json names"}})
    EXPECT_EQ(Folder(pooling).outcome(), error);
  for (const auto& [length, error] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"({"max_seq_length": 0})",
            "sentence_bert_config.json: 'max_seq_length' is no whole number within 1..16777216"},
           {R"({"max_seq_length": "256"})",
            "sentence_bert_config.json: 'max_seq_length' is no whole number within 1..16777216"},
           {R"({"max_seq_length": 16777217})",
            "sentence_bert_config.json: 'max_seq_length' is no whole number within 1..16777216"},
           {R"({"do_lower_case": true})",
            "sentence_bert_config.json: 'do_lower_case' is not supported beside the tokenizer's own"}})
    EXPECT_EQ(Folder("{}", length).outcome(), error);
  for (const auto& [modules, error] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}])",
            "modules.json: module 'sentence_transformers.models.Dense' in '2_Dense' is not supported"},
           {R"([{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}])",
            "modules.json: module 'sentence_transformers.models.Transformer' in '0_Transformer' is not supported"},
           {R"([{"path": "../1_Pooling", "type": "Pooling"}])",
            "modules.json: the path of 'Pooling' leaves its folder"},
           {R"([{"path": ".1_Pooling", "type": "Pooling"}])", "modules.json: the path of 'Pooling' is hidden"},
           {R"([{"path": "", "type": "Pooling"}])", "modules.json: the path of 'Pooling' is empty"},
           {R"([{"type": "Pooling"}])", "modules.json: a module lacks type or path"},
           {R"([7])", "modules.json: a module lacks type or path"},
           {R"({})", "modules.json is no list"}})
    EXPECT_EQ(Folder("{}", "", modules).outcome(), error);
}

TEST(HfSentence, texts_that_end_sooner_than_the_model_bound_its_context) {
  Metadata m;
  m.set("general.architecture", MetaValue::text("bert"));
  m.set("bert.context_length", MetaValue::u32(512));
  EXPECT_EQ(arch::default_context(m).value(), 512);
  m.set(std::string(arch::kTextTokensKey), MetaValue::u32(256));
  EXPECT_EQ(arch::default_context(m).value(), 256);
  m.set(std::string(arch::kTextTokensKey), MetaValue::u32(1024));
  EXPECT_EQ(arch::default_context(m).value(), 512) << "there are no more positions";
  m.set("bert.context_length", MetaValue::u32(1u << 20)),
      m.set(std::string(arch::kTextTokensKey), MetaValue::u32(8192));
  EXPECT_EQ(arch::default_context(m).value(), arch::kContextDefault);
  m.set(std::string(arch::kTextTokensKey), MetaValue::u32(0));
  EXPECT_FALSE(arch::default_context(m));
  m.set("general.architecture", MetaValue::text("nobody"));
  EXPECT_EQ(arch::default_context(m).error().message, "architecture 'nobody' is not supported");
}

}  // namespace
}  // namespace llorch
