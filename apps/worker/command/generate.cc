// generate: text on stdout as it is sampled, a timing line on stderr.
#include <atomic>
#include <chrono>
#include <csignal>
#include <random>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "engine/engine.h"
#include "number_flags.h"
#include "worker/model_flags.h"
#include "worker/receipt.h"

namespace llorch::worker {
namespace {

std::atomic<bool> interrupted{false};
void on_interrupt(int) { interrupted = true; }

struct GenerateFlags {
  ModelFlags model;
  std::string prompt, prompt_file, kv_type = "f16", receipt;
  int max_tokens = 128, prefill_chunk = 512, batch = 1;
  bool ignore_eos = false;
  SamplingParams sampling;
  std::vector<std::string> stop;
};

double rate(int tokens, double ms) { return ms > 0 ? tokens * 1000.0 / ms : 0; }

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

struct Answer {
  std::string text;
  TokenIds ids;
  EndEvent end;
  std::optional<Error> error;
  Receipt receipt;
};

Status write_receipt(const GenerateFlags& f, const LoadedModel& model, Receipt receipt) {
  if (f.receipt.empty()) return {};
  if (!f.model.adapters.empty()) return fail(ErrorCode::kInvalidRequest, "--receipt: there is none with an adapter");
  LLORCH_TRY(receipt.model_sha256, model_manifest(f.model.options.path));
  receipt.model = f.model.options.path, receipt.build_id = LLORCH_VERSION, receipt.device = backend().device();
  receipt.isa = backend().isa(model.device->isa()), receipt.kv_type = f.kv_type;
  receipt.arithmetic = arithmetic_of(receipt.device, receipt.isa);
  return replace_with_text(f.receipt, boost::json::serialize(to_json(receipt)) + "\n");
}

void report(const GenerateFlags& f, const LoadedModel& model, const Answer& answer, double load_ms, double all_ms) {
  const EndEvent& e = answer.end;
  if (f.model.as_json) {
    cli::print({{"text", answer.text},
                {"tokens", boost::json::array(answer.ids.begin(), answer.ids.end())},
                {"tokens_in", e.tokens_in},
                {"tokens_out", e.tokens_out},
                {"stop_reason", name(e.reason)},
                {"seed", f.sampling.seed},
                {"isa", model.device->isa()},
                {"load_ms", load_ms},
                {"prefill_ms", e.prefill_ms},
                {"decode_ms", e.decode_ms},
                {"tok_s", rate(e.tokens_out * f.batch, all_ms)},
                {"undecoded_bytes", hex(e.undecoded)}});
  } else {
    show(stderr,
         "load %.0f ms | prefill %d tokens, %.1f ms, %.1f tok/s | decode %d tokens, %.1f ms, %.1f tok/s | %s, "
         "%s, seed %llu\n",
         load_ms, e.tokens_in, e.prefill_ms, rate(e.tokens_in, e.prefill_ms), e.tokens_out, e.decode_ms,
         rate(e.tokens_out - 1, e.decode_ms), std::string(name(e.reason)).c_str(),
         std::string(model.device->isa()).c_str(), static_cast<unsigned long long>(f.sampling.seed));
  }
}

Result<int> generate(const GenerateFlags& f) {
  LLORCH_TRY(const KvPrecision precision, kv_precision(f.kv_type));
  std::string text = f.prompt;
  if (!f.prompt_file.empty()) {
    LLORCH_TRY(text, read_text_file(f.prompt_file, limits::kTextBytesMax));
  }
  const auto start = std::chrono::steady_clock::now();
  LLORCH_TRY(const int adapter, f.model.one_adapter());
  LLORCH_TRY(LoadedModel model, f.model.load());
  const double load_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  EngineOptions options;
  options.kv = precision, options.max_batch = f.batch, options.prefill_chunk = f.prefill_chunk,
  options.model_id = model.reference;
  LLORCH_TRY(auto engine, Engine::make(*model.model, *model.tokenizer, options));
  GenerateRequest request;
  LLORCH_TRY(request.prompt, model.tokenizer->encode(text, {.add_special = true, .parse_special = true}));
  const int room = model.model->graph().context - static_cast<int>(request.prompt.size());
  request.max_tokens = std::max(1, std::min(f.max_tokens, room));
  request.sampling = f.sampling, request.adapter = adapter;
  request.stop = f.stop;
  request.ignore_eos = f.ignore_eos;
  if (!f.receipt.empty()) request.hash_every = kReceiptEvery;
  Answer answer;
  answer.receipt.request = request;
  ShownStream shown(stdout);
  request.sink = [&](const EngineEvent& event) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) {
      answer.text += token->text;
      answer.ids.push_back(token->token.id);
      add_token(answer.receipt, token->token);
      if (f.model.as_json) return;
      shown.add(token->text);
    } else if (const auto* end = std::get_if<EndEvent>(&event)) {
      answer.end = *end;
    } else if (const auto* error = std::get_if<Error>(&event)) {
      answer.error = *error;
    }
  };
  const auto submitted = std::chrono::steady_clock::now();
  for (int i = 1; i < f.batch; ++i) {
    GenerateRequest copy = request;
    copy.sampling.choice = static_cast<std::uint64_t>(i);
    copy.cache_salt = std::to_string(i);  // each computes its own prompt
    copy.sink = nullptr;
    LLORCH_OK(engine->submit(std::move(copy)));
  }
  LLORCH_TRY(const int id, engine->submit(std::move(request)));
  std::signal(SIGINT, on_interrupt);
  while (engine->step())
    if (interrupted) engine->cancel(id);
  const double all_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - submitted).count();
  shown.end();
  if (!f.model.as_json && !answer.text.ends_with('\n')) std::puts("");
  std::fflush(stdout);  // before the timing line
  if (interrupted) return 130;
  if (answer.error) return std::unexpected(*answer.error);
  LLORCH_OK(write_receipt(f, model, std::move(answer.receipt)));
  report(f, model, answer, load_ms, all_ms);
  return 0;
}

}  // namespace

void add_command_generate(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<GenerateFlags>();
  flags->sampling.temperature = 0;
  CLI::App* c = app.add_subcommand("generate", "continue a text");
  flags->model.add(*c);
  auto* text =
      c->add_option("-p,--prompt", flags->prompt, "the text to continue; spellings of special tokens are parsed");
  c->add_option("-f,--prompt-file", flags->prompt_file, "read the prompt from a file")->excludes(text);
  c->add_option("-n,--max-tokens", flags->max_tokens, "most tokens to generate")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  c->add_option("--temperature", flags->sampling.temperature, "0: always the most likely token")
      ->check(cli::number_between(0, 2))
      ->capture_default_str();
  c->add_option("--top-k", flags->sampling.top_k, "0: off")->check(CLI::Range(0, 1 << 21))->capture_default_str();
  c->add_option("--top-p", flags->sampling.top_p, "1: off")->check(cli::number_between(0, 1))->capture_default_str();
  c->add_option("--min-p", flags->sampling.min_p, "0: off")->check(cli::number_between(0, 1))->capture_default_str();
  c->add_option("--repetition-penalty", flags->sampling.repetition_penalty, "1: off")
      ->check(cli::number_between(1e-3, 2))
      ->capture_default_str();
  c->add_option("--presence-penalty", flags->sampling.presence_penalty)
      ->check(cli::number_between(-2, 2))
      ->capture_default_str();
  c->add_option("--frequency-penalty", flags->sampling.frequency_penalty)
      ->check(cli::number_between(-2, 2))
      ->capture_default_str();
  c->add_option("--stop", flags->stop, "end before this text (up to four times)");
  auto* seed =
      c->add_option("--seed", flags->sampling.seed, "default: random, and printed")->check(cli::whole_number());
  c->add_option("--prefill-chunk", flags->prefill_chunk, "prompt tokens of one forward pass")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  c->add_option("--kv-type", flags->kv_type, "f32, f16, q8_0")
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}))
      ->capture_default_str();
  c->add_option("--batch", flags->batch, "run so many copies at once (the first one's text is printed)")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  c->add_option("--receipt", flags->receipt,
                "write what the answer depends on, with hashes of its logits: `receipt FILE` computes it again");
  c->add_flag("--ignore-eos", flags->ignore_eos, "go on after the end-of-text token");
  c->callback([flags, seed, &exit_code] {
    if (seed->count() == 0)
      flags->sampling.seed = std::random_device{}() | static_cast<std::uint64_t>(std::random_device{}()) << 32;
    const Result<int> result = generate(*flags);
    exit_code = result ? *result : cli::report(result.error(), flags->model.as_json);
  });
}

}  // namespace llorch::worker
