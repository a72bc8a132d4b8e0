// Values that are not finite never become text: weights are refused when they are loaded, and what overflows while it
// is computed ends its own request, with layer and place, on every ISA; its neighbours keep every bit.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "devices.h"
#include "engine/engine.h"
#include "quant/table.h"
#include "spoiled.h"

namespace llorch {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
constexpr int kVocab = 319;

/// Tokens and logits of requests that run together, or the error that each ended with.
struct Outcome {
  TokenIds tokens;
  std::vector<std::vector<float>> logits;
  std::string error;
};
/// `guess`: a token that is guessed to come next, three times, with every step; below 0: nothing is guessed.
std::vector<Outcome> run(LoadedModel& model, const std::vector<TokenIds>& prompts, KvPrecision kv, TokenId guess = -1) {
  std::vector<Outcome> out(prompts.size());
  EngineOptions options;
  options.max_batch = 4, options.pages = 16, options.kv = kv;
  options.speculation = guess < 0 ? Speculation::kOff : Speculation::kNgram;
  const auto engine = Engine::make(*model.model, *model.tokenizer, options).value();
  if (guess >= 0)
    engine->guess_probe = [=](int, std::span<const TokenId>, int most) {
      return TokenIds(static_cast<std::size_t>(std::min(most, 3)), guess);
    };
  engine->logits_probe = [&](int id, int, std::span<const float> logits) {
    out[static_cast<std::size_t>(id - 1)].logits.emplace_back(logits.begin(), logits.end());
  };
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    GenerateRequest r;
    r.prompt = prompts[i], r.max_tokens = 6, r.ignore_eos = true, r.sampling.temperature = 0;
    r.sink = [&, i](const EngineEvent& e) {
      if (const auto* token = std::get_if<TokenEvent>(&e)) out[i].tokens.push_back(token->token.id);
      if (const auto* error = std::get_if<Error>(&e))
        out[i].error = fmt::format("{}: {}", name(error->code), error->message);
    };
    EXPECT_TRUE(engine->submit(std::move(r)));
  }
  engine->run_until_idle();
  EXPECT_EQ(engine->pages().total(), engine->pages().available());
  EXPECT_EQ(engine->drafted() > 0, guess >= 0);
  return out;
}

TokenIds prompt_without(int avoided, int count, int salt) {
  TokenIds ids;
  for (int i = 0; static_cast<int>(ids.size()) < count; ++i)
    if (const int id = (i * 37 + salt) % kVocab; id != avoided) ids.push_back(id);
  return ids;
}

/// Writes `bits` over a factor of the middle block of a tensor: what makes it not finite in its format.
void poison(std::vector<std::byte>& bytes, DType type, float value) {
  const std::size_t step = info(type).bytes, at = bytes.size() / step / 2 * step;
  const std::uint16_t half = std::isnan(value) ? 0x7e00 : 0x7c00;
  const std::uint16_t bfloat = std::isnan(value) ? 0x7fc0 : 0x7f80;
  switch (type) {
    case DType::kF32: std::memcpy(bytes.data() + at, &value, 4); return;
    case DType::kBF16: std::memcpy(bytes.data() + at, &bfloat, 2); return;
    case DType::kMXFP4: bytes[at] = std::byte{0xff}; return;
    case DType::kNVFP4: bytes[at + 2] = std::byte{0x7f}; return;
    case DType::kQ2_K: std::memcpy(bytes.data() + at + 80, &half, 2); return;
    case DType::kQ3_K:
    case DType::kTQ2_0:
    case DType::kQ6_K: std::memcpy(bytes.data() + at + step - 2, &half, 2); return;
    default: std::memcpy(bytes.data() + at, &half, 2);
  }
}

TEST(NotFinite, weights_of_every_format_are_refused_by_name_when_they_are_loaded) {
  for (const DTypeInfo& format : kDTypes) {
    const quant::RowOps* ops = quant::find_row_ops(format.type);
    if (!ops || format.type == DType::kI8) continue;
    for (const float value : {kNan, kInf}) {
      std::vector<float> x(256);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) / 16 - 0.5f;
      TensorView t;
      t.name = "w", t.type = format.type, t.n_dims = 2, t.dims = {256, 3, 1, 1};
      std::vector<std::byte> bytes;
      for (int r = 0; r < 3; ++r) {
        std::vector<std::byte> row(row_bytes(format.type, 256));
        if (ops->quantize) ops->quantize(x.data(), x.size(), row.data());
        bytes.insert(bytes.end(), row.begin(), row.end());
      }
      t.data = bytes;
      ASSERT_TRUE(quant::check_finite(t, bytes, 0)) << format.name;
      poison(bytes, format.type, value);
      const Status found = quant::check_finite(t, bytes, 0);
      ASSERT_FALSE(found) << format.name;
      EXPECT_NE(found.error().message.find("tensor 'w'"), std::string::npos);
      for (const std::string& isa : all_devices()) {
        const auto device = test_device(isa, 2);
        EXPECT_FALSE(device->matrix(t, 1, {})) << format.name << " " << isa;
      }
    }
  }
}

TEST(NotFinite, every_kind_of_tensor_with_a_nan_is_an_error_and_never_text) {
  const std::vector<std::string> devices{"reference", fast_devices().front(), fast_devices().back()};
  std::size_t turn = 0;
  for (const char* shape : {"tiny-qwen2", "tiny-gpt2", "tiny-gpt-oss", "tiny-qwen3"})
    for (const char* type : {"F32", "Q8_0"}) {
      Spoiled s(shape, type);
      for (TensorView& t : s.tensors) {
        if (t.name.starts_with("blk.") && !t.name.starts_with("blk.1.")) continue;
        const TensorView good = t;
        s.spoil(t.name, [&](std::vector<std::byte>& bytes) { poison(bytes, t.type, kNan); });
        const std::string path = s.write();
        const bool is_read = t.name == "token_embd.weight" || t.name == "position_embd.weight";
        for (const std::string& isa : is_read ? devices : in_turn(devices, turn)) {
          ModelOptions options;
          options.path = path, options.isa = isa_of(isa), options.products = products_of(isa), options.threads = 1;
          auto model = LoadedModel::load(options);
          if (!model) {
            EXPECT_EQ(model.error().code, ErrorCode::kModelLoadFailed);
            continue;
          }
          // Rows of embeddings are read as they come: the poisoned one is asked for.
          const auto columns = static_cast<int>(t.columns());
          ASSERT_TRUE(is_read) << t.name << " " << isa;
          const auto row = static_cast<std::int32_t>(t.values() / 2 / static_cast<std::uint64_t>(columns));
          TokenIds prompt = prompt_without(-1, 70, 3);
          if (t.name == "token_embd.weight") prompt[20] = row;
          for (const Outcome& o : run(*model, {prompt}, KvPrecision::kF16)) {
            EXPECT_TRUE(o.tokens.empty()) << t.name << " " << isa;
            EXPECT_NE(o.error.find("INFERENCE_FAILED"), std::string::npos) << t.name << " " << isa << ": " << o.error;
          }
        }
        t = good;
      }
    }
}

/// A model in which one token's embedding makes values overflow: everything else is as it was.
TEST(NotFinite, only_the_sequence_that_overflows_ends_and_its_neighbours_keep_every_bit) {
  constexpr int kBad = 77;
  std::size_t turn = 0;
  for (const char* type : {"F32", "F16", "Q8_0", "Q4_K_M"}) {
    ++turn;  // another value for each device
    for (const float value : {kNan, kInf, 3e38f, 2e19f}) {
      Spoiled s("tiny-llama", "F32");
      s.alter("token_embd.weight", [&](std::span<float> all) {
        const std::size_t columns = s.tensor("token_embd.weight").columns();
        all[kBad * columns + 5] = value;
      });
      const std::string path = s.write_as(type, "token_embd.weight");
      const bool with_reference = !kSanitized || std::string_view(type) == "F32";
      for (const std::string& isa : in_turn(with_reference ? all_devices() : fast_devices(), turn))
        for (const KvPrecision kv : {KvPrecision::kF16, KvPrecision::kF32, KvPrecision::kQ8_0}) {
          if (kv != KvPrecision::kF16 && std::string_view(type) != "Q8_0") continue;
          // The reference computes in double, whatever the format: one is enough, as slow as it is.
          if (isa == "reference" && (kv != KvPrecision::kF16 || std::string_view(type) != "F32")) continue;
          LoadedModel model = load_test_model(path, isa, 2);
          const TokenIds good = prompt_without(kBad, 40, 1), other = prompt_without(kBad, 3, 9);
          const auto alone = run(model, {good, other}, kv);
          ASSERT_EQ(alone[0].tokens.size(), 6u) << alone[0].error;
          TokenIds bad = prompt_without(kBad, 30, 5), late = bad;
          bad[12] = kBad;
          const auto together = run(model, {good, bad, other}, kv);
          const bool computable = isa == "reference" && std::isfinite(value);  // in double
          if (!computable) {
            EXPECT_TRUE(together[1].tokens.empty()) << type << " " << value << " " << isa;
            EXPECT_TRUE(together[1].error.starts_with("INFERENCE_FAILED: request 2: layer 0: ")) << together[1].error;
          }
          // Guessed and not drawn, it is no fault.
          const auto guessed = run(model, {good, bad, other}, kv, kBad);
          EXPECT_EQ(guessed[1].error, together[1].error);
          for (const auto& [a, b] :
               {std::pair{0, &together[0]}, {1, &together[2]}, {0, &guessed[0]}, {1, &guessed[2]}}) {
            const Outcome &before = alone[static_cast<std::size_t>(a)], &after = *b;
            EXPECT_EQ(before.tokens, after.tokens) << type << " " << value << " " << isa;
            ASSERT_EQ(before.logits.size(), after.logits.size());
            for (std::size_t i = 0; i < before.logits.size(); ++i)
              EXPECT_EQ(std::memcmp(before.logits[i].data(), after.logits[i].data(), before.logits[i].size() * 4), 0);
          }
        }
    }
  }
}

/// Weights that are finite and so large that a product of theirs is not.
TEST(NotFinite, what_overflows_inside_a_layer_is_found_in_that_layer_or_the_next) {
  struct Case {
    const char *shape, *tensor, *place;
  };
  std::size_t turn = 0;
  for (const Case& c : {Case{"tiny-llama", "blk.1.attn_norm.weight", "layer 1: "},
                        {"tiny-llama", "blk.1.attn_q.weight", "layer 1: queries are"},
                        {"tiny-llama", "blk.1.attn_k.weight", "layer 1: keys are"},
                        {"tiny-llama", "blk.1.attn_v.weight", "layer 1: values are"},
                        {"tiny-llama", "blk.0.attn_output.weight", "layer 0: the MLP's input is"},
                        {"tiny-llama", "blk.0.ffn_norm.weight", "layer 0: "},
                        {"tiny-llama", "blk.0.ffn_gate.weight", "layer 0: values inside the MLP are"},
                        {"tiny-llama", "blk.0.ffn_up.weight", "layer 0: values inside the MLP are"},
                        {"tiny-llama", "blk.0.ffn_down.weight", "layer 1: the attention's input is"},
                        {"tiny-llama", "output_norm.weight", "after the last layer: the last norm's output is"},
                        {"tiny-qwen2", "blk.1.attn_k.bias", "layer 1: keys are"},
                        {"tiny-gpt2", "blk.1.ffn_up.weight", "layer 1: values inside the MLP are"},
                        {"tiny-gpt-oss", "blk.1.ffn_gate_inp.weight", "layer 1: the router's logits are"},
                        {"tiny-gpt-oss", "blk.1.ffn_up_exps.weight", "layer 1: values inside an expert are"}}) {
    Spoiled s(c.shape, "F32");
    s.alter(c.tensor, [](std::span<float> all) {
      for (float& v : all) v = v < 0 ? -3.4e38f : 3.4e38f;
    });
    const std::string path = s.write();
    for (const std::string& isa : in_turn(all_devices(), turn)) {
      LoadedModel model = load_test_model(path, isa, 1);
      for (const int length : {1, 40}) {
        const auto outcome = run(model, {prompt_without(-1, length, 2)}, KvPrecision::kF16);
        EXPECT_TRUE(outcome[0].tokens.empty()) << c.tensor << " " << isa;
        EXPECT_NE(outcome[0].error.find("INFERENCE_FAILED"), std::string::npos) << c.tensor << " " << isa;
        const std::string& error = outcome[0].error;
        EXPECT_TRUE(isa == "reference" || error.contains(c.place)) << c.tensor << " " << isa << ": " << error;
      }
    }
  }
}

}  // namespace
}  // namespace llorch
