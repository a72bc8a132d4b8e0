// logits: float32 [n_tokens, n_vocab] of every position as .npy, and every named checkpoint where asked. A model that
// gives embeddings has its normalised last states there, [n_tokens, dim].
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "engine/forward_all.h"
#include "format/npy.h"
#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

struct LogitsFlags {
  ModelFlags model;
  TokenIds tokens;
  std::string out, checkpoints, kv_type = "f32";
  int prefill_chunk = 512;
};

struct Checkpoint {
  std::vector<float> values;
  std::int64_t rows = 0, columns = 0;
};

/// VALIDATE=1: every checkpoint as `.bin` (int32 dimension count, int64 each, float32 values) in LLORCH_CHECKPOINT_DIR
/// (P-40).
Status write_bin(const std::string& directory, const std::string& name, const Checkpoint& c) {
  std::ofstream out(directory + "/" + name + ".bin", std::ios::binary | std::ios::trunc);
  const std::int32_t n_dims = 2;
  const std::int64_t shape[2] = {c.rows, c.columns};
  out.write(reinterpret_cast<const char*>(&n_dims), sizeof n_dims);
  out.write(reinterpret_cast<const char*>(shape), sizeof shape);
  out.write(reinterpret_cast<const char*>(c.values.data()),
            static_cast<std::streamsize>(c.values.size() * sizeof(float)));
  out.close();
  if (!out) return fail(ErrorCode::kIo, "cannot write {} in {}", name, directory);
  return {};
}

std::string validate_directory() {
  const char* on = std::getenv("VALIDATE");
  if (!on || std::string_view(on) != "1") return {};
  const char* directory = std::getenv("LLORCH_CHECKPOINT_DIR");
  if (directory) return directory;
  std::error_code problem;
  const auto temporary = std::filesystem::temp_directory_path(problem);
  return ((problem ? std::filesystem::path("/tmp") : temporary) / "llorch_checkpoints").string();
}

Status logits(const LogitsFlags& f) {
  const std::string dumps = validate_directory();
  LLORCH_TRY(const int adapter, f.model.one_adapter());
  LLORCH_TRY(LoadedModel model, f.model.load());
  const int vocab = model.model->graph().vocab, context = model.model->graph().context;
  if (static_cast<int>(f.tokens.size()) > context)
    return fail(ErrorCode::kContextLengthExceeded, "{} tokens exceed the context of {}", f.tokens.size(), context);
  for (const TokenId id : f.tokens)
    if (id < 0 || id >= vocab)
      return fail(ErrorCode::kInvalidRequest, "token id {} is outside the vocabulary of {}", id, vocab);
  std::map<std::string, Checkpoint> checkpoints;
  const Observer observer = [&](const std::string& name, std::span<const float> values, std::int64_t rows,
                                std::int64_t columns) {
    Checkpoint& c = checkpoints[name];
    c.values.insert(c.values.end(), values.begin(), values.end());
    c.rows += rows, c.columns = columns;
  };
  std::vector<float> all;
  const KvPrecision precision = f.kv_type == "f16"    ? KvPrecision::kF16
                                : f.kv_type == "q8_0" ? KvPrecision::kQ8_0
                                                      : KvPrecision::kF32;
  LLORCH_OK(forward_all(
      {*model.model, adapter}, f.tokens, f.prefill_chunk, precision,
      [&](int, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); },
      f.checkpoints.empty() && dumps.empty() ? nullptr : &observer));
  const int width = row_width(*model.model);
  LLORCH_OK(write_npy(f.out, all, {static_cast<std::int64_t>(f.tokens.size()), width}));
  if (!f.checkpoints.empty()) {
    std::error_code problem;
    std::filesystem::create_directories(f.checkpoints, problem);
    for (const auto& [name, c] : checkpoints)
      LLORCH_OK(write_npy(f.checkpoints + "/" + name + ".npy", c.values, {c.rows, c.columns}));
  }
  if (!dumps.empty()) {
    std::error_code problem;
    std::filesystem::create_directories(dumps, problem);
    for (const auto& [name, c] : checkpoints) LLORCH_OK(write_bin(dumps, name, c));
  }
  if (f.model.as_json)
    cli::print({{"tokens", f.tokens.size()},
                {"vocab", vocab},
                {"values", gives_logits(*model.model) ? "logits" : "states"},
                {"isa", model.device->isa()},
                {"out", f.out},
                {"checkpoints", checkpoints.size()}});
  return {};
}

}  // namespace

void add_command_logits(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<LogitsFlags>();
  CLI::App* c = app.add_subcommand("logits", "write the logits of every position, for parity checks");
  flags->model.add(*c);
  c->add_option("--tokens", flags->tokens, "token ids, separated by commas")->required()->delimiter(',');
  c->add_option("--out", flags->out, "the .npy file to write")->required();
  c->add_option("--checkpoints", flags->checkpoints, "directory for every named intermediate value");
  c->add_option("--prefill-chunk", flags->prefill_chunk, "tokens of one forward pass")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  c->add_option("--kv-type", flags->kv_type, "f32, f16, q8_0")
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}))
      ->capture_default_str();
  c->callback([flags, &exit_code] {
    if (const Status s = logits(*flags); !s) exit_code = cli::report(s.error(), flags->model.as_json);
  });
}

}  // namespace llorch::worker
