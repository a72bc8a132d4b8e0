#include "security_commands.h"

namespace llorch::keeper {

void add_command_key(CLI::App& app, int& exit_code) { cli::add_key_commands(app, exit_code); }

}  // namespace llorch::keeper
