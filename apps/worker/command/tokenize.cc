// tokenize: a text's ids on one line. detokenize stands in its own file.
#include <algorithm>

#include "arch/architecture.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

struct TokenizeFlags {
  std::string model, text, file;
  bool add_bos = false, prefix = false, parse_special = false, cut = false, as_json = false;
};

Status tokenize(const TokenizeFlags& f) {
  std::string text = f.text;
  if (!f.file.empty()) {
    LLORCH_TRY(text, read_text_file(f.file, limits::kTextBytesMax));
  }
  LLORCH_TRY(const auto source, open_model(f.model));
  LLORCH_TRY(const auto tokenizer, open_tokenizer(f.model, *source));
  LLORCH_TRY(TokenIds ids, tokenizer->encode(text, {.add_special = false, .parse_special = f.parse_special}));
  if (f.prefix) ids.insert(ids.begin(), tokenizer->prefix().begin(), tokenizer->prefix().end());
  if (f.add_bos && tokenizer->bos() >= 0) ids.insert(ids.begin(), tokenizer->bos());
  if (f.cut) {
    LLORCH_TRY(const int context, arch::default_context(source->metadata()));
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(context)));
  }
  if (f.as_json) {
    boost::json::array pieces;
    for (const TokenId id : ids) pieces.push_back(boost::json::string(tokenizer->token(id).text));
    cli::print({{"ids", boost::json::array(ids.begin(), ids.end())}, {"pieces", pieces}, {"count", ids.size()}});
  } else {
    std::puts(fmt::format("{}", fmt::join(ids, " ")).c_str());
  }
  return {};
}

}  // namespace

void add_command_tokenize(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* c = app.add_subcommand("tokenize", "print the token ids of a text on one line");
  c->add_option("-m,--model", flags->model, "GGUF file, SafeTensors directory, or builtin:haiku")->required();
  auto* text = c->add_option("--text", flags->text, "the text");
  auto* file = c->add_option("--file", flags->file, "a file that holds the text")->excludes(text);
  c->add_flag("--prefix", flags->prefix, "put in front what the model's files put before every text");
  c->add_flag("--add-bos", flags->add_bos, "put the beginning-of-text token in front");
  c->add_flag("--parse-special", flags->parse_special, "spellings of special tokens become those tokens");
  c->add_flag("--cut", flags->cut, "no more ids than the model's context");
  c->add_flag("--json", flags->as_json, "ids and pieces as JSON");
  c->callback([flags, text, file, &exit_code] {
    if (text->count() + file->count() == 0) {
      exit_code = cli::report({ErrorCode::kInvalidRequest, "--text or --file is required"}, flags->as_json);
      return;
    }
    if (const Status s = tokenize(*flags); !s) exit_code = cli::report(s.error(), flags->as_json);
  });
}

}  // namespace llorch::worker
