// quantize: the same model with its matrices in another type.
#include <cstring>

#include "arch/hf_source.h"
#include "command_line.h"
#include "gguf_tool/rewrite.h"

namespace llorch::gguf_tool {
namespace {

Status quantize(const std::string& in, const std::string& out, const std::string& type) {
  if (type.empty()) return fail(ErrorCode::kInvalidRequest, "the type is empty");
  LLORCH_TRY(const auto source, GgufFile::open(in));
  return rewrite(*source, source->metadata(), type, out);
}

}  // namespace

void add_command_quantize(CLI::App& app, int& exit_code) {
  struct QuantizeFlags {
    std::string in, out, type;
  };
  auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* c = app.add_subcommand("quantize", "write a model with its matrices in another type");
  c->add_option("in", flags->in, "GGUF file")->required();
  c->add_option("out", flags->out, "GGUF file to write")->required();
  c->add_option("type", flags->type,
                "F32, F16, BF16, Q4_0, ..., Q6_K, IQ4_NL, IQ4_XS, IQ3_S, IQ3_XXS, TQ2_0, MXFP4, NVFP4, Q4_K_M, Q5_K_M")
      ->required();
  c->callback([flags, &exit_code] {
    if (const Status s = quantize(flags->in, flags->out, flags->type); !s) exit_code = cli::report(s.error());
  });
}

}  // namespace llorch::gguf_tool
