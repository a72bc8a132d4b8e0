// key create --scope infer: a new API key, and the line for --keys-file that admits it.
#include "base/ids.h"
#include "command_line.h"
#include "security/auth.h"
#include "security/digest.h"

namespace llorch::worker {

void add_command_key(CLI::App& app, int& exit_code) {
  CLI::App* key = app.add_subcommand("key", "API keys");
  key->require_subcommand(1);
  CLI::App* create = key->add_subcommand("create", "print a new key, and its line for --keys-file");
  auto scope = std::make_shared<std::string>("infer");
  create->add_option("--scope", *scope, "infer, metrics, node or admin")
      ->check(CLI::IsMember({"infer", "metrics", "node", "admin"}))
      ->capture_default_str();
  create->callback([scope, &exit_code] {
    const std::string token = "llorch-" + random_hex(24);
    std::printf("key (shown once):    %s\nline for --keys-file: %s %s\n", token.c_str(), scope->c_str(),
                security::sha256_hex(token).c_str());
    exit_code = 0;
  });
}

}  // namespace llorch::worker
