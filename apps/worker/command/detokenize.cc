// detokenize: the text of ids.
#include "text/utf8.h"
#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

struct DetokenizeFlags {
  std::string model;
  TokenIds ids;
  bool special = false, as_json = false;
};

Status detokenize(const DetokenizeFlags& f) {
  LLORCH_TRY(const auto source, open_model(f.model));
  LLORCH_TRY(const auto tokenizer, open_tokenizer(f.model, *source));
  for (const TokenId id : f.ids)
    if (id < 0 || static_cast<std::size_t>(id) >= tokenizer->size())
      return fail(ErrorCode::kInvalidRequest, "token id {} is outside the vocabulary of {}", id, tokenizer->size());
  const std::string bytes = tokenizer->decode(f.ids, f.special);
  if (f.as_json) {
    Utf8Stream stream;
    const std::string text = stream.push(bytes);
    stream.finish();
    cli::print({{"text", text}, {"undecoded_byte_count", stream.undecoded().size()}});
  } else {
    show_text(stdout, bytes);
    std::puts("");
  }
  return {};
}

}  // namespace

void add_command_detokenize(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<DetokenizeFlags>();
  CLI::App* c = app.add_subcommand("detokenize", "print the text of token ids");
  c->add_option("-m,--model", flags->model, "GGUF file, SafeTensors directory, or builtin:haiku")->required();
  c->add_option("--ids", flags->ids, "token ids, separated by commas")->required()->delimiter(',');
  c->add_flag("--special", flags->special, "render control tokens too");
  c->add_flag("--json", flags->as_json, "text as JSON");
  c->callback([flags, &exit_code] {
    if (const Status s = detokenize(*flags); !s) exit_code = cli::report(s.error(), flags->as_json);
  });
}

}  // namespace llorch::worker
