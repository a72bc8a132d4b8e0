// convert: a Hugging Face directory as one GGUF file, values unchanged; vectors become F32.
#include <cstring>
#include <filesystem>

#include "arch/hf_source.h"
#include "base/limits.h"
#include "command_line.h"
#include "format/json.h"
#include "gguf_tool/rewrite.h"
#include "text/tokenizer.h"

namespace llorch::gguf_tool {
namespace {

Status convert(const std::string& directory, const std::string& out, const std::string& type) {
  LLORCH_TRY(const auto source, arch::open_hf(directory));
  Metadata metadata = source->metadata();
  metadata.set("general.name", MetaValue::text(std::filesystem::path(directory).filename().string()));
  LLORCH_OK(hf_tokenizer_to_metadata(directory, metadata));
  const std::filesystem::path config = std::filesystem::path(directory) / "tokenizer_config.json";
  std::error_code problem;
  if (std::filesystem::exists(config, problem)) {
    LLORCH_TRY(const json::value root, json::parse_file(config));
    if (root.is_object())
      if (const auto chat = json::find_text(root.get_object(), "chat_template"))
        metadata.set("tokenizer.chat_template", MetaValue::text(*chat));
  }
  cli::ProgressBar bar("converting");
  LLORCH_TRY([[maybe_unused]] const Rewritten done, rewrite(*source, std::move(metadata), type, out, bar));
  return {};
}

}  // namespace

void add_command_convert(CLI::App& app, int& exit_code) {
  struct ConvertFlags {
    std::string in, out, type;
  };
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* c = app.add_subcommand("convert", "write a Hugging Face directory as GGUF");
  c->add_option("directory", flags->in, "directory with config.json, *.safetensors, tokenizer.json")->required();
  c->add_option("out", flags->out, "GGUF file to write")->required();
  c->add_option("--type", flags->type, "also change the type of the matrices");
  c->callback([flags, &exit_code] {
    if (const Status s = convert(flags->in, flags->out, flags->type); !s) exit_code = cli::report(s.error());
  });
}

}  // namespace llorch::gguf_tool
