// perplexity: how well the model predicts a text. The text is cut into windows of the context; the first token of a
// window is not scored.
#include <cmath>

#include "base/open_file.h"
#include "engine/forward_all.h"
#include "gives_no_text.h"
#include "sample/sampler.h"
#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

struct PerplexityFlags {
  ModelFlags model;
  std::string file;
};

Status perplexity(const PerplexityFlags& f) {
  LLORCH_TRY(const std::string text, read_text_file(f.file, limits::kTextBytesMax));
  LLORCH_TRY(const int adapter, f.model.one_adapter());
  LLORCH_TRY(LoadedModel model, f.model.load());
  if (!gives_logits(*model.model))
    return fail(ErrorCode::kInvalidRequest, "this model {}: it has no perplexity", kGivesNoText);
  LLORCH_TRY(const TokenIds ids, model.tokenizer->encode(text, {}));
  const TokenIds& prefix = model.tokenizer->prefix();
  const int window = model.model->graph().context - static_cast<int>(prefix.size());
  if (ids.size() < 2 || window < 2)
    return fail(ErrorCode::kInvalidRequest, "perplexity needs at least two tokens of text and of context");
  double loss = 0;
  std::int64_t scored = 0;
  std::optional<Error> problem;
  for (std::size_t begin = 0; begin < ids.size(); begin += static_cast<std::size_t>(window)) {
    TokenIds tokens = prefix;
    tokens.insert(
        tokens.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
        ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), begin + static_cast<std::size_t>(window))));
    LLORCH_OK(forward_all({*model.model, adapter}, tokens, model.model->rows_max(), KvPrecision::kF16,
                          [&](int position, std::span<const float> logits) {
                            const auto next = static_cast<std::size_t>(position) + 1;
                            if (next >= tokens.size() || next < prefix.size()) return;
                            const auto p = softmax(logits);
                            if (!p) {
                              problem = p.error();
                              return;
                            }
                            loss -= std::log((*p)[static_cast<std::size_t>(tokens[next])]);
                            ++scored;
                          }));
    if (problem) return std::unexpected(*problem);
  }
  const double mean = loss / static_cast<double>(scored);
  if (f.model.as_json)
    cli::print({{"perplexity", std::exp(mean)}, {"loss", mean}, {"tokens", scored}, {"isa", model.device->isa()}});
  else
    std::printf("perplexity %.4f over %lld tokens (mean loss %.6f, %s)\n", std::exp(mean),
                static_cast<long long>(scored), mean, std::string(model.device->isa()).c_str());
  return {};
}

}  // namespace

void add_command_perplexity(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<PerplexityFlags>();
  CLI::App* c = app.add_subcommand("perplexity", "measure how well the model predicts a text");
  flags->model.add(*c);
  c->add_option("--file", flags->file, "the text")->required();
  c->callback([flags, &exit_code] {
    if (const Status s = perplexity(*flags); !s) exit_code = cli::report(s.error(), flags->model.as_json);
  });
}

}  // namespace llorch::worker
