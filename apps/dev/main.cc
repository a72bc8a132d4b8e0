// llorch-dev: scenarios that developers and CI run against real processes. Not installed.
#include "command_line.h"

#define LLORCH_COMMAND(name) void add_command_##name(CLI::App& app, int& exit_code);
namespace llorch::dev {
#include "dev_commands.inc"
}
#undef LLORCH_COMMAND

int main(int argc, char** argv) {
  CLI::App app{"Scenarios against real llama-orch processes."};
  app.require_subcommand(1);
  int exit_code = 0;
#define LLORCH_COMMAND(name) llorch::dev::add_command_##name(app, exit_code);
#include "dev_commands.inc"
#undef LLORCH_COMMAND
  return llorch::cli::run(app, argc, argv, exit_code);
}
