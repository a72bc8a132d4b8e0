// llorch-worker-<kind>: one model, with the backend that the program was linked with (worker/backend.h).
#include "command_line.h"
#include "kernel/kernels.h"
#include "worker/backend.h"

#define LLORCH_COMMAND(name) void add_command_##name(CLI::App& app, int& exit_code);
namespace llorch::worker {
#include "worker_commands.inc"
}
#undef LLORCH_COMMAND

int main(int argc, char** argv) {
  const llorch::worker::Backend& own = llorch::worker::backend();
  CLI::App app{own.summary};
  app.set_version_flag("--version", own.program() + " " LLORCH_VERSION);
  app.add_flag_callback(
      "--build-info",
      [&own] {
        int count = 0;
        const auto* const* isas = llorch::kernel::all_kernels(count);  // those that this machine can run, best first
        llorch::cli::print({{"version", LLORCH_VERSION},
                            {"compiler", "g++ " __VERSION__},
                            {"backend", own.kind},
                            {"isa", own.isa(count > 0 ? isas[0]->name : "reference")},
                            {"build_id", LLORCH_VERSION}});
        throw CLI::Success();
      },
      "version, compiler, backend and ISA as JSON");
  app.require_subcommand(1);
  int exit_code = 0;
#define LLORCH_COMMAND(name) llorch::worker::add_command_##name(app, exit_code);
#include "worker_commands.inc"
#undef LLORCH_COMMAND
  return llorch::cli::run(app, argc, argv, exit_code);
}
