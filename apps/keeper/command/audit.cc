#include "security_commands.h"

namespace llorch::keeper {

void add_command_audit(CLI::App& app, int& exit_code) { cli::add_audit_commands(app, exit_code); }

}  // namespace llorch::keeper
