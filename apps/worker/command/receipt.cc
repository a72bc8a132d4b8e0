// receipt: computes the answer of a receipt again, and compares every bit that the receipt tells of.
#include "worker/receipt.h"

#include <filesystem>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

constexpr int kOther = 3;

struct ReceiptFlags {
  ModelFlags model;
  std::string file;
};

/// Kernels that give the receipt's bits. Errors: kModelIncompatible where this program has none.
Status choose_kernels(ModelOptions& options, const Receipt& receipt) {
  if (receipt.device != backend().device())
    return fail(ErrorCode::kModelIncompatible, "the answer was computed on a device of kind '{}': replay it there",
                receipt.device);
  if (backend().cuda || !options.isa.empty()) return {};
  options.isa = receipt.arithmetic == "canonical" ? "canonical" : receipt.isa;
  return {};
}

Result<Receipt> replay(LoadedModel& model, const Receipt& given) {
  EngineOptions options;
  LLORCH_TRY(options.kv, kv_precision(given.kv_type));
  options.max_batch = 1, options.model_id = model.reference;
  LLORCH_TRY(auto engine, Engine::make(*model.model, *model.tokenizer, options));
  Receipt again;
  std::optional<Error> problem;
  GenerateRequest request = given.request;
  request.hash_every = kReceiptEvery;
  request.sink = [&](const EngineEvent& event) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) add_token(again, token->token);
    if (const auto* error = std::get_if<Error>(&event)) problem = *error;
  };
  LLORCH_OK(engine->submit(std::move(request)));
  while (engine->step()) {
  }
  if (problem) return std::unexpected(*problem);
  return again;
}

/// Where the model of a receipt is, by the name that it has there. Errors: kModelNotFound.
Result<std::string> place_of(const Receipt& receipt) {
  constexpr std::string_view kFile = "file:";
  const std::string path = receipt.model.starts_with(kFile) ? receipt.model.substr(kFile.size()) : receipt.model;
  std::error_code problem;
  if (path.starts_with("builtin:") || std::filesystem::exists(path, problem)) return path;
  return fail(ErrorCode::kModelNotFound, "the receipt's model is '{}', which is no file here: say with -m where it is",
              receipt.model);
}

Result<int> verify(ReceiptFlags f) {
  LLORCH_TRY(const std::string text, read_text_file(f.file, limits::kTextBytesMax));
  LLORCH_TRY(const Receipt given, read_receipt(text, f.file));
  if (f.model.options.path.empty()) {
    LLORCH_TRY(f.model.options.path, place_of(given));
  }
  LLORCH_TRY(const std::string manifest, model_manifest(f.model.options.path));
  if (manifest != given.model_sha256)
    return fail(ErrorCode::kModelIncompatible, "{} is another model: its manifest is {}, the receipt's {}",
                f.model.options.path, manifest, given.model_sha256);
  LLORCH_OK(choose_kernels(f.model.options, given));
  LLORCH_TRY(LoadedModel model, f.model.load());
  const std::string isa = backend().isa(model.device->isa()), arithmetic = arithmetic_of(backend().device(), isa);
  if (arithmetic != given.arithmetic)
    return fail(ErrorCode::kModelIncompatible, "the receipt's arithmetic is '{}', and this is '{}'", given.arithmetic,
                arithmetic);
  LLORCH_TRY(const Receipt again, replay(model, given));
  const std::string other = difference(given, again);
  if (f.model.as_json)
    cli::print({{"same", other.empty()},
                {"difference", other},
                {"tokens", again.ids.size()},
                {"hashes", again.logits.size()},
                {"isa", isa},
                {"build_id", LLORCH_VERSION},
                {"receipt_isa", given.isa},
                {"receipt_build_id", given.build_id}});
  else if (other.empty())
    show(stdout, "the same: %zu tokens, and the logits of %zu of them bit for bit (computed on %s by %s, now on %s)\n",
         again.ids.size(), again.logits.size(), given.isa.c_str(), given.build_id.c_str(), isa.c_str());
  else
    show(stdout, "not the same: %s\n", other.c_str());
  return other.empty() ? 0 : kOther;
}

}  // namespace

void add_command_receipt(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ReceiptFlags>();
  CLI::App* c = app.add_subcommand("receipt", "compute a receipt's answer again; exit 3 where a bit differs");
  flags->model.add(*c);
  c->get_option("--model")->required(false)->description("where the model is now (default: where it was)");
  c->add_option("file", flags->file, "written by `generate --receipt`, or the receipt of a request's answer")
      ->required();
  c->callback([flags, &exit_code] {
    const Result<int> result = verify(*flags);
    exit_code = result ? *result : cli::report(result.error(), flags->model.as_json);
  });
}

}  // namespace llorch::worker
