// queen: started, stopped, made a service of this user's, built anew.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/ids.h"
#include "base/state_lock.h"
#include "daemon_flags.h"
#include "format/json.h"
#include "keeper/host.h"
#include "keeper/parts.h"
#include "security/auth.h"
#include "security/keys.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

constexpr const char* kPrograms[] = {"llorch", "llorch-queen", "llorch-hive", "llorch-worker-cpu"};

std::string home(std::string_view below) { return cli::variable("HOME").append(below); }
std::string unit_file() {
  const std::string config = cli::variable("XDG_CONFIG_HOME");
  return (config.empty() ? home("/.config") : config) + "/systemd/user/llorch-queen.service";
}

/// systemd's answer for this user; false where there is none.
bool systemctl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"systemctl", "--user"});
  const auto ran = service::run_program(std::move(arguments), -1, service::Stderr::kNone);
  return ran && ran->exit_code == 0;
}

struct InstallFlags {
  Common common;
  std::string listen = "127.0.0.1";
  int port = 8500;
};

/// The user's own unit: sandboxed as far as a unit without privileges may be.
std::string unit_text(const InstallFlags& f, const std::string& bin, const std::string& token_file) {
  return fmt::format(R"([Unit]
Description=llama-orch queen: one address for all models of this colony

[Service]
ExecStart={}/llorch-queen --listen {} --port {} {} --log-format json
Restart=on-failure
TimeoutStopSec=30
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
UMask=0077

[Install]
WantedBy=default.target
)",
                     bin, f.listen, f.port, token_file.empty() ? "--local-mode" : "--token-file " + token_file);
}

Status install(const InstallFlags& f) {
  const Session session(f.common);
  LLORCH_TRY(const Host here, Host::make("", 22));
  if (f.listen.find_first_not_of("0123456789abcdefABCDEF.:") != f.listen.npos)
    return fail(ErrorCode::kInvalidRequest, "--listen must be an address");
  for (const char* program : kPrograms) {
    LLORCH_TRY(const bool copied, here.put_program(program));
    session.say(fmt::format("{} {}", program, copied ? "was copied" : "is there already"));
  }
  std::string token_file;
  if (!security::is_loopback(f.listen)) {  // whoever can reach it must show a key
    token_file = cli::config_directory() + "/token";
    LLORCH_OK(cli::make_private_directory(cli::config_directory()));
    if (access(token_file.c_str(), F_OK) != 0)
      LLORCH_OK(security::write_secret_file(token_file, "llorch-" + random_hex(24)));
    session.say(fmt::format("the key that opens it is in {}", token_file));
  }
  const std::string file = unit_file();
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(file).parent_path(), problem);
  std::ofstream out(file);
  out << unit_text(f, home("/.local/bin"), token_file) << std::flush;
  if (!out) return fail(ErrorCode::kIo, "cannot write {}", file);
  session.say(fmt::format("the unit is {}", file));
  if (systemctl({"daemon-reload"}) && systemctl({"enable", "--now", "llorch-queen.service"}))
    session.say("the queen runs, and comes back with every login (loginctl enable-linger: with every boot)");
  else
    session.say("systemd does not answer here: `systemctl --user enable --now llorch-queen`, or `llorch queen start`");
  return {};
}

Status uninstall(const Common& common) {
  const Session session(common);
  (void)systemctl({"disable", "--now", "llorch-queen.service"});
  std::error_code problem;
  std::filesystem::remove(unit_file(), problem);
  (void)systemctl({"daemon-reload"});
  const bool hive_stays =
      std::filesystem::exists(cli::data_directory() + "/hive/hive.pid", problem);  // `llorch hive start`
  for (const std::string program : kPrograms)
    if (!hive_stays || program == "llorch" || program == "llorch-queen")
      std::filesystem::remove(home("/.local/bin/") + program, problem);
  session.say("programs and unit are gone; catalogs, keys and models stay");
  return {};
}

void add_install(CLI::App& queen, int& exit_code) {
  const auto f = std::make_shared<InstallFlags>();
  CLI::App* c = queen.add_subcommand("install", "programs into ~/.local/bin, and a service of this user's that runs");
  f->common.add(*c);
  c->add_option("--listen", f->listen, "other than loopback: with a key")->capture_default_str();
  c->add_option("--port", f->port)->check(CLI::Range(1024, 65535))->capture_default_str();
  c->callback([f, &exit_code] {
    const Status s = install(*f);
    exit_code = s ? 0 : complain(f->common, s.error());
  });
  const auto common = std::make_shared<Common>();
  command(queen, "uninstall", "take the service and the programs away", common)->callback([common, &exit_code] {
    const Status s = uninstall(*common);
    exit_code = s ? 0 : complain(*common, s.error());
  });
  const auto again = std::make_shared<Common>();
  command(queen, "rebuild", "build the queen anew, in the tree that this program is from", again)
      ->callback([again, &exit_code] { exit_code = rebuild(*again, {"llorch-queen"}); });
}

int start_queen(const Common& common) {
  Session session(common);
  if (const Status s = session.wake(); !s) return complain(common, s.error());
  if (const Status s = session.keep_queen(); !s) return complain(common, s.error());
  if (common.json) cli::print({{"queen", "awake"}, {"url", session.queen()}});
  return 0;
}

int stop_queen(const Common& common, bool all) {
  Session session(common);
  const auto awake = session.awake();
  if (!awake) return complain(common, awake.error());
  if (!*awake) return session.say("the queen is asleep already"), 0;
  const auto v =
      session.call("POST", all ? net::url_path("/v1/shutdown").query("all", "1") : net::url_path("/v1/shutdown"));
  if (!v) return complain(common, v.error());
  for (int i = 0; i < 300 && session.awake().value_or(false); ++i) Session::pause(std::chrono::milliseconds(50));
  if (session.awake().value_or(false))
    return complain(common, {ErrorCode::kOperationTimeout, "the queen has not stopped"});
  // She answers no more a moment before her folder is free for the next one.
  for (int i = 0; i < 200 && StateLock::is_held(common.data_dir); ++i) Session::pause(std::chrono::milliseconds(50));
  session.say("the queen is asleep");
  return 0;
}

struct MigrateFlags {
  Common common;
  std::string from = "own", to, prefix, user_file, authorities_file, keys_file;
};

/// The queen's program does it, with her own files, while no queen runs.
int migrate(const MigrateFlags& f) {
  std::vector<std::string> command{f.common.queen_program, "--data-dir", f.common.data_dir, "--migrate-from", f.from,
                                   "--migrate-to",         f.to};
  for (const auto& [flag, value] :
       {std::pair("--coord-prefix", &f.prefix), std::pair("--coord-user-file", &f.user_file),
        std::pair("--coord-ca", &f.authorities_file), std::pair("--keys-file", &f.keys_file)})
    if (!value->empty()) command.insert(command.end(), {flag, *value});
  const auto ran = service::run_program(std::move(command), -1, service::Stderr::kOurs,
                                        {"the migration", service::timeouts::kBuild}, true);
  if (!ran) return complain(f.common, ran.error());
  if (f.common.json || ran->exit_code != 0) return show_text(stdout, ran->output), ran->exit_code;
  const auto told = json::parse(ran->output, "the queen's answer");
  const auto* o = told ? told->if_object() : nullptr;
  const auto* count = o ? o->if_contains("entries") : nullptr;
  show(stdout, "%s entries were copied from %s to %s; what was there stays\n",
       count ? boost::json::serialize(*count).c_str() : "?", f.from.c_str(), f.to.c_str());
  return 0;
}

void add_migrate(CLI::App& queen, int& exit_code) {
  const auto f = std::make_shared<MigrateFlags>();
  CLI::App* c = command(queen, "migrate", "copy what queens share to another store, while the queen is asleep",
                        std::shared_ptr<Common>(f, &f->common));
  c->add_option("--to", f->to, "etcd://HOST:PORT,..., etcds://..., sqlite[:FILE], or own: the queen's own catalog")
      ->required();
  c->add_option("--from", f->from, "the same")->capture_default_str();
  c->add_option("--coord-prefix", f->prefix, "what the fleet's keys begin with in etcd (default: /llorch)");
  c->add_option("--coord-user-file", f->user_file, "a file with user:password for etcd, mode 0600");
  c->add_option("--coord-ca", f->authorities_file, "PEM of who signs etcd's certificate (default: the system's)");
  c->add_option("--keys-file", f->keys_file, "the queen's further keys (default: hers)");
  c->callback([f, &exit_code] { exit_code = migrate(*f); });
}

void add_queen(CLI::App& app, int& exit_code) {
  CLI::App* queen = app.add_subcommand("queen", "the colony's head");
  queen->require_subcommand(1);
  const auto common = std::make_shared<Common>();
  common->own_queen_only = true;
  command(*queen, "start", "start a queen that stays", common)->callback([common, &exit_code] {
    exit_code = start_queen(*common);
  });
  const auto all = std::make_shared<bool>(false);
  const auto stopping = std::make_shared<Common>();
  stopping->own_queen_only = true;
  CLI::App* stop = command(*queen, "stop", "stop the queen and what she has started", stopping);
  stop->add_flag("--all", *all, "hives that joined on their own too");
  stop->callback([stopping, all, &exit_code] { exit_code = stop_queen(*stopping, *all); });
  add_install(*queen, exit_code);
  add_migrate(*queen, exit_code);
  const auto asking = std::make_shared<Common>();
  command(*queen, "status", "is she awake?", asking)->callback([asking, &exit_code] {
    Session session(*asking);
    const auto awake = session.awake();
    if (!awake) return void(exit_code = complain(*asking, awake.error()));
    if (asking->json)
      cli::print({{"queen", *awake ? "awake" : "asleep"}, {"url", session.queen()}});
    else
      show(stdout, "queen at %s: %s\n", session.queen().c_str(), *awake ? "awake" : silent_word(session.queen()));
    exit_code = 0;
  });
}

}  // namespace

int rebuild(const Common& common, const std::vector<std::string>& programs) {
  // build/<preset>/bin/llorch
  const std::filesystem::path tree = std::filesystem::path(service::own_folder()).parent_path();
  if (std::error_code problem; !std::filesystem::exists(tree / "CMakeCache.txt", problem))
    return complain(common,
                    {ErrorCode::kInvalidRequest, "this program was not built here: there is no tree to build in"});
  std::vector<std::string> command = {"cmake", "--build", tree.string(), "--target"};
  command.insert(command.end(), programs.begin(), programs.end());
  const auto ran = service::run_program(std::move(command), -1, service::Stderr::kOurs,
                                        {"the build", service::timeouts::kBuild}, true);
  if (!ran) return complain(common, ran.error());
  if (ran->exit_code != 0) {
    show_text(stderr, ran->output);
    return complain(common, {ErrorCode::kInternal, "the build failed"});
  }
  const Session session(common);
  session.say("built; what runs already stays as it was until it is started again");
  return 0;
}

void add_command_queen(CLI::App& app, int& exit_code) { add_queen(app, exit_code); }

}  // namespace llorch::keeper
