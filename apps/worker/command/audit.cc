// audit verify FILE: walks the chain of an audit log and names the first broken record.
#include "security/audit.h"
#include "command_line.h"

namespace llorch::worker {

void add_command_audit(CLI::App& app, int& exit_code) {
  CLI::App* audit = app.add_subcommand("audit", "audit logs");
  audit->require_subcommand(1);
  CLI::App* verify = audit->add_subcommand("verify", "check that no record was changed, taken out or cut off");
  auto path = std::make_shared<std::string>();
  verify->add_option("file", *path)->required();
  verify->callback([path, &exit_code] {
    const auto state = security::verify_audit(*path);
    if (!state) {
      cli::report(state.error());
      exit_code = 1;
      return;
    }
    std::printf("%s: %llu records, unbroken\n", path->c_str(), static_cast<unsigned long long>(state->count));
  });
}

}  // namespace llorch::worker
