// synth: a model of a real shape with random weights.
#include "arch/synth.h"
#include "command_line.h"
#include "format/gguf.h"
#include "number_flags.h"

namespace llorch::gguf_tool {
namespace {

struct SynthFlags {
  std::string arch, vocab, out;
  arch::SynthRequest request;
};

Status synth(SynthFlags& f) {
  std::unique_ptr<GgufFile> vocab;
  if (!f.vocab.empty()) {
    LLORCH_TRY(vocab, GgufFile::open(f.vocab));
    f.request.vocab = &vocab->metadata();
  }
  LLORCH_TRY(const arch::Shape shape, arch::find_shape(f.request));
  if (!f.arch.empty() && f.arch != shape.family->name)
    return fail(ErrorCode::kInvalidRequest, "shape '{}' is of architecture '{}', not '{}'", f.request.shape,
                shape.family->name, f.arch);
  return arch::synthesize(f.request, f.out);
}

}  // namespace

void add_command_synth(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<SynthFlags>();
  CLI::App* c = app.add_subcommand("synth", "write a model of a real shape with random weights");
  flags->request.type = "F32";
  c->add_option("--arch", flags->arch, "checked against the shape's");
  c->add_option("--shape", flags->request.shape,
                fmt::format("the path of a config.json, or one of: {}", fmt::join(arch::shape_names(), ", ")))
      ->required();
  c->add_option("--set", flags->request.fields,
                "a JSON object over the config.json of a published shape: '{\"num_hidden_layers\": 2}'");
  c->add_option("--type", flags->request.type, "F32, F16, BF16, Q4_0, ..., MXFP4, NVFP4, Q4_K_M, Q5_K_M")
      ->capture_default_str();
  c->add_option("--seed", flags->request.seed, "of the weights")->check(cli::whole_number())->capture_default_str();
  c->add_option("--vocab", flags->vocab, "a GGUF file whose tokenizer is copied");
  c->add_flag("!--tied", flags->request.optional_tensors,
              "leave optional tensors out: the token embedding is the output head");
  c->add_flag("--quick", flags->request.quick,
              "quantize a matrix's first rows alone and draw the others from their blocks: as fast as the disk");
  c->add_option("out", flags->out, "GGUF file to write")->required();
  c->callback([flags, &exit_code] {
    if (const Status s = synth(*flags); !s) exit_code = cli::report(s.error());
  });
}

}  // namespace llorch::gguf_tool
