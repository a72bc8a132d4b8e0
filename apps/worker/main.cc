// llorch-worker-cpu: one model on the CPU.
#include "command_line.h"

#define LLORCH_COMMAND(name) void add_command_##name(CLI::App& app, int& exit_code);
namespace llorch::worker {
#include "worker_commands.inc"
}
#undef LLORCH_COMMAND

int main(int argc, char** argv) {
  CLI::App app{"Private LLM inference: one model, one process, on the CPU."};
  app.set_version_flag("--version", "llorch-worker-cpu " LLORCH_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
#define LLORCH_COMMAND(name) llorch::worker::add_command_##name(app, exit_code);
#include "worker_commands.inc"
#undef LLORCH_COMMAND
  return llorch::cli::run(app, argc, argv, exit_code);
}
