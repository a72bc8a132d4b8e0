// llorch: what a person types. A thin client that wakes what it needs.
#include "command_line.h"

#define LLORCH_COMMAND(name) void add_command_##name(CLI::App& app, int& exit_code);
namespace llorch::keeper {
#include "keeper_commands.inc"
}
#undef LLORCH_COMMAND

int main(int argc, char** argv) {
  CLI::App app{"Private LLM inference on your own machines."};
  app.set_version_flag("--version", "llorch " LLORCH_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
#define LLORCH_COMMAND(name) llorch::keeper::add_command_##name(app, exit_code);
#include "keeper_commands.inc"
#undef LLORCH_COMMAND
  return llorch::cli::run(app, argc, argv, exit_code);
}
