// llorch: what a person types. A thin client that wakes what it needs.
#include <fmt/format.h>

#include <span>

#include "base/nearest.h"
#include "command_line.h"
#include "config_file.h"
#include "keeper/session.h"

#define LLORCH_COMMAND(name) void add_command_##name(CLI::App& app, int& exit_code);
namespace llorch::keeper {
#include "keeper_commands.inc"
}
#undef LLORCH_COMMAND

namespace {

/// What stands where a command should: says so, with the nearest one. False: every word there is a command.
bool unknown_command(CLI::App& app, std::span<char*> words) {
  CLI::App* at = &app;
  for (const char* word : words.subspan(1)) {
    if (at->get_require_subcommand_min() == 0 || *word == '-') return false;
    CLI::App* next = nullptr;
    std::vector<std::string> known;
    for (CLI::App* sub : at->get_subcommands([](const CLI::App*) { return true; })) {
      if (sub->get_name() == word) next = sub;
      known.push_back(sub->get_name());
    }
    if (next) {
      at = next;
      continue;
    }
    llorch::cli::report({llorch::ErrorCode::kInvalidRequest,
                         fmt::format("there is no command '{}'{}", word, llorch::did_you_mean(word, known))});
    return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Private LLM inference on your own machines."};
  app.set_version_flag("--version", "llorch " LLORCH_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
  app.fallthrough();  // --config may stand behind a command, too
#define LLORCH_COMMAND(name) llorch::keeper::add_command_##name(app, exit_code);
#include "keeper_commands.inc"
#undef LLORCH_COMMAND
  llorch::cli::add_config(app, {"keeper",
                                [&app] {
                                  CLI::App* chosen = &app;
                                  while (!chosen->get_subcommands().empty()) chosen = chosen->get_subcommands().front();
                                  return chosen;
                                },
                                &llorch::keeper::take_queen_settings});
  if (argc > 0 && unknown_command(app, {argv, static_cast<std::size_t>(argc)})) return 2;
  return llorch::cli::run(app, argc, argv, exit_code);
}
