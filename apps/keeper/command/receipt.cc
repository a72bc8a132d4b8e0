// receipt: an answer that somebody got is computed again, by the worker of this machine.
#include "keeper/parts.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

struct ReceiptFlags {
  Common common;
  std::string file, model, isa, kind = "cpu";
};

int verify(const ReceiptFlags& f) {
  std::vector<std::string> command = {service::own_folder() + "/llorch-worker-" + f.kind, "receipt", f.file};
  if (!f.model.empty()) command.insert(command.end(), {"-m", f.model});
  if (!f.isa.empty()) command.insert(command.end(), {"--isa", f.isa});
  if (f.common.json) command.emplace_back("--json");
  const auto ran = service::run_program(std::move(command));
  if (!ran) return complain(f.common, ran.error());
  show_text(stdout, ran->output);
  return ran->exit_code;
}

}  // namespace

void add_command_receipt(CLI::App& app, int& exit_code) {
  CLI::App* receipt = app.add_subcommand("receipt", "was an answer computed as it says?");
  receipt->require_subcommand(1);
  const auto f = std::make_shared<ReceiptFlags>();
  CLI::App* c = command(*receipt, "verify", "compute a receipt's answer again, bit for bit; exit 3 where it is another",
                        std::shared_ptr<Common>(f, &f->common));
  c->add_option("file", f->file)->required();
  c->add_option("-m,--model", f->model, "where the model is now (default: where it was)");
  c->add_option("--isa", f->isa, "kernels to use (default: the best that give the same bits)");
  c->add_option("--kind", f->kind, "of the worker: cpu, accelerate, cuda")
      ->check(CLI::IsMember({"cpu", "accelerate", "cuda"}))
      ->capture_default_str();
  c->callback([f, &exit_code] { exit_code = verify(*f); });
}

}  // namespace llorch::keeper
