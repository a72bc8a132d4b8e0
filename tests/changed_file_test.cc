// A model's file that is cut, overwritten or replaced while it is loaded or used: an error in order or the same text,
// never a signal, never other text. And loading that is cancelled.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>

#include "engine/engine.h"
#include "golden.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

enum class Change { kCut, kOverwritten, kReplaced };
constexpr Change kChanges[] = {Change::kCut, Change::kOverwritten, Change::kReplaced};

/// Changes the file, for all that can be seen from outside.
void change(const std::string& path, Change how) {
  const auto before = FileIdentity::of(path).value();
  if (how == Change::kReplaced) {
    std::ofstream(path + ".new") << "another file";
    fs::rename(path + ".new", path);
    return;
  }
  do {  // until the clock of the file system has moved on
    if (how == Change::kCut) fs::resize_file(path, static_cast<std::uintmax_t>(before.size / 2));
    if (how == Change::kOverwritten) {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file << std::string(static_cast<std::size_t>(before.size), '\x55');
    }
  } while (FileIdentity::of(path).value().modified_ns == before.modified_ns);
}

std::string synth(const ScratchDirectory& d, const std::string& type, const std::string& name = "m.gguf") {
  arch::SynthRequest request;
  request.shape = "tiny-llama", request.type = type, request.seed = 4;
  EXPECT_TRUE(arch::synthesize(request, d / name));
  return d / name;
}

struct Text {
  TokenIds tokens;
  std::string error;
};
/// Generates; `after` is called when so many tokens were there.
Text generate(LoadedModel& model, Engine& engine, int after = -1, const std::function<void()>& then = {}) {
  Text out;
  GenerateRequest r;
  r.prompt = {3, 1, 4, 1, 5, 9, 2, 6}, r.max_tokens = 60, r.ignore_eos = true;
  r.sink = [&](const EngineEvent& e) {
    if (const auto* token = std::get_if<TokenEvent>(&e)) out.tokens.push_back(token->token.id);
    if (const auto* error = std::get_if<Error>(&e)) out.error = name(error->code);
    if (static_cast<int>(out.tokens.size()) == after && std::holds_alternative<TokenEvent>(e)) then();
  };
  (void)model;
  if (const auto id = engine.submit(std::move(r)); !id) out.error = name(id.error().code);
  engine.run_until_idle();
  return out;
}

Result<LoadedModel> load(const std::string& path, const std::string& isa, const std::string& cache = "",
                         ProgressSink progress = {}, CancelFlag cancelled = nullptr) {
  ModelOptions options;
  options.path = path, options.isa = isa, options.threads = 2, options.packed_cache = cache;
  options.progress = std::move(progress), options.cancelled = std::move(cancelled);
  return LoadedModel::load(options);
}

std::unique_ptr<Engine> engine_of(LoadedModel& m) { return Engine::make(*m.model, *m.tokenizer, {}).value(); }

void expect_in_order(const Text& text, const Text& right, Engine& engine, Change how) {
  ASSERT_LE(text.tokens.size(), right.tokens.size());
  EXPECT_TRUE(std::equal(text.tokens.begin(), text.tokens.end(), right.tokens.begin())) << "other text";
  if (how == Change::kReplaced) {  // the open file keeps its bytes
    EXPECT_EQ(text.error, "");
    EXPECT_EQ(text.tokens.size(), right.tokens.size());
    EXPECT_FALSE(engine.broken());
  } else {
    EXPECT_EQ(text.error, "MODEL_CHANGED");
    EXPECT_LE(text.tokens.size(), 11u) << "went on for more than a step";
    ASSERT_TRUE(engine.broken());
    EXPECT_EQ(engine.broken()->code, ErrorCode::kModelChanged);
  }
  EXPECT_EQ(engine.pages().available(), engine.pages().total()) << "pages were lost";
}

TEST(ChangedFile, while_text_is_generated) {
  for (const char* type : {"F32", "F16", "Q8_0", "Q4_K_M", "MXFP4"})
    for (const Change how : kChanges)
      for (const char* isa : {"", "reference"}) {
        const ScratchDirectory d;
        const std::string path = synth(d, type);
        auto model = load(path, isa).value();
        const auto engine = engine_of(model);
        const Text right = generate(model, *engine);
        ASSERT_EQ(right.tokens.size(), 60u);
        engine->evict_cache();
        const Text text = generate(model, *engine, 10, [&] { change(path, how); });
        expect_in_order(text, right, *engine, how);
        const std::string later = generate(model, *engine).error;
        EXPECT_EQ(later, how == Change::kReplaced ? "" : "MODEL_CHANGED") << "what comes later is refused, too";
      }
}

TEST(ChangedFile, of_packed_weights_while_text_is_generated) {
  for (const Change how : kChanges) {
    const ScratchDirectory d;
    const std::string path = synth(d, "Q8_0"), cache = d / "cache";
    {
      std::promise<bool> written;
      ModelOptions options;
      options.path = path, options.threads = 2, options.packed_cache = cache;
      options.cache_written = [&](const Result<std::string>& r) { written.set_value(r.has_value()); };
      const auto first = LoadedModel::load(options);
      ASSERT_TRUE(first && written.get_future().get());
    }
    auto model = load(path, "", cache).value();
    ASSERT_TRUE(model.from_cache);
    const std::string file = fs::directory_iterator(cache)->path();
    const auto engine = engine_of(model);
    const Text right = generate(model, *engine);
    engine->evict_cache();
    const Text text = generate(model, *engine, 10, [&] { change(file, how); });
    expect_in_order(text, right, *engine, how);
  }
}

TEST(ChangedFile, while_it_is_loaded) {
  for (const char* type : {"F16", "Q8_0", "Q4_K_M"})
    for (const Change how : kChanges)
      for (const std::size_t at : {std::size_t{1}, std::size_t{7}})
        for (const char* isa : {"", "reference"}) {
          const ScratchDirectory d;
          const std::string path = synth(d, type);
          const auto model = load(path, isa, "", [&](const LoadProgress& p) {
            if (p.tensors_loaded == at) change(path, how);
          });
          if (how == Change::kReplaced)
            EXPECT_TRUE(model) << model.error().message;
          else
            EXPECT_TRUE(!model && model.error().code == ErrorCode::kModelChanged) << type << " " << isa;
        }
}

TEST(ChangedFile, loading_is_cancelled_at_any_tensor) {
  const ScratchDirectory d;
  const std::string path = synth(d, "Q8_0");
  for (const std::size_t at : {std::size_t{1}, std::size_t{9}})
    for (const char* isa : {"", "reference"}) {
      const auto flag = std::make_shared<std::atomic<bool>>(false);
      const auto model = load(
          path, isa, "",
          [&](const LoadProgress& p) {
            if (p.tensors_loaded == at) *flag = true;
            EXPECT_LE(p.tensors_loaded, at + 1);
          },
          flag);
      ASSERT_FALSE(model);
      EXPECT_EQ(model.error().code, ErrorCode::kCancelled);
    }
}

}  // namespace
}  // namespace llorch
