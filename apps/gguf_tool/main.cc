// llorch-gguf: looks into model files, quantizes, converts and synthesises them.
#include "command_line.h"

#define LLORCH_COMMAND(name) void add_command_##name(CLI::App& app, int& exit_code);
namespace llorch::gguf_tool {
#include "gguf_tool_commands.inc"
}
#undef LLORCH_COMMAND

int main(int argc, char** argv) {
  CLI::App app{"Model files: inspect, quantize, convert, synthesise."};
  app.set_version_flag("--version", "llorch-gguf " LLORCH_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
#define LLORCH_COMMAND(name) llorch::gguf_tool::add_command_##name(app, exit_code);
#include "gguf_tool_commands.inc"
#undef LLORCH_COMMAND
  return llorch::cli::run(app, argc, argv, exit_code);
}
