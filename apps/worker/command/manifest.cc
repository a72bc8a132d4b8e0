// manifest: one hash over all that a model is made of, as `--manifest` asks for it.
#include "worker/manifest.h"
#include "command_line.h"

namespace llorch::worker {

void add_command_manifest(CLI::App& app, int& exit_code) {
  auto model = std::make_shared<std::string>();
  CLI::App* c = app.add_subcommand("manifest", "print one SHA-256 over a model's weights, tokenizer and configuration");
  c->add_option("-m,--model", *model, "GGUF file, SafeTensors directory, or builtin:haiku")->required();
  c->callback([model, &exit_code] {
    const auto hash = model_manifest(*model);
    if (!hash) exit_code = cli::report(hash.error());
    if (hash) std::puts(hash->c_str());
  });
}

}  // namespace llorch::worker
