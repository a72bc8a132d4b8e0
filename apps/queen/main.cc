// llorch-queen: takes every decision of a colony.
#include "daemon_flags.h"
#include "number_flags.h"
#include "queen/migration.h"
#include "queen/queen.h"

namespace llorch::queen {

/// How she decides, waits and tries again.
static void add_policy_flags(CLI::App& app, QueenOptions& o) {
  app.add_option("--admission-policy,--queue-policy", o.admission_policy,
                 "when the line is full: reject-new, or drop-lru (who has waited longest goes, batch first)")
      ->check(CLI::IsMember({"reject-new", "drop-lru"}))
      ->capture_default_str();
  app.add_option("--eviction-worker-policy", o.eviction_policy,
                 "lru: a model without room takes the place of the one that was used least recently; none: it waits")
      ->check(CLI::IsMember({"lru", "none"}))
      ->capture_default_str();
  app.add_option("--eviction-vram-threshold", o.vram_threshold,
                 "above this share of a device's memory an idle worker is stopped, the least recently used first; not "
                 "one that has a GPU for itself")
      ->check(cli::number_between(0, 1))
      ->capture_default_str();
  app.add_option("--eviction-model-cache-policy", "fetched files stay")
      ->check(CLI::IsMember({"none"}))
      ->default_str("none");
  app.add_option("--mode", o.mode, "one-machine (loopback, no keys) or lab (several machines, keys)")
      ->check(CLI::IsMember({"one-machine", "lab"}));
  app.add_flag("--infer-may-fetch", o.infer_may_fetch,
               "keys without admin scope may have models fetched from a hub; files are for admin keys alone");
  app.add_option("--pin-model", o.pinned, "its workers never stop to make room, nor for being idle")
      ->allow_extra_args(false);
  app.add_option("--timeout-default-ms", o.default_deadline_ms, "deadline of requests that name none; 0: none")
      ->check(CLI::Range(0, 86'400'000))
      ->capture_default_str();
  app.add_option("--timeout-max-ms", o.max_deadline_ms, "the longest deadline that a request may name")
      ->check(CLI::Range(1, 86'400'000))
      ->capture_default_str();
  app.add_option("--heartbeat-missed-threshold", o.missed_beats, "a hive that has missed so many is offline")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--retry-enabled", o.retry_enabled, "try again where no token was delivered")->capture_default_str();
  app.add_option("--retry-max-attempts", o.retry_attempts)->check(CLI::Range(1, 20))->capture_default_str();
  app.add_option("--retry-initial-delay-ms", o.retry_first_ms)->check(CLI::Range(0, 60'000))->capture_default_str();
  app.add_option("--retry-multiplier", o.retry_multiplier)->check(cli::number_between(1, 10))->capture_default_str();
  app.add_option("--retry-max-delay-ms", o.retry_max_ms)->check(CLI::Range(0, 600'000))->capture_default_str();
  app.add_option("--retry-jitter", o.retry_jitter, "delays differ a little")->capture_default_str();
  app.add_option("--queue-optimizer-enabled", o.optimizer_enabled, "advice when the line is long")
      ->capture_default_str();
  app.add_option("--queue-optimizer-threshold-jobs", o.optimizer_threshold, "longer than this")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--queue-optimizer-interval-ms", o.optimizer_interval_ms)
      ->check(CLI::Range(100, 3'600'000))
      ->capture_default_str();
}

/// The hive of her own machine.
static void add_own_hive_flags(CLI::App& app, QueenOptions& o) {
  app.add_option("--hive-program", o.hive_program, "what this machine's hive is")->capture_default_str();
  app.add_flag("--no-own-hive", o.no_own_hive, "never start a hive on this machine: models run on others alone");
  app.add_option("--hive-port", o.hive_port, "port of this machine's hive")
      ->check(CLI::Range(1024, 65535))
      ->default_str("8600")
      ->envname("LLORCH_HIVE_PORT");
  app.add_option("--worker-port", o.worker_port, "this machine's workers listen on the first free port from here")
      ->check(CLI::Range(1024, 65535))
      ->default_str("8601");
}

/// The store that she shares with other queens.
static void add_fleet_flags(CLI::App& app, QueenOptions& options) {
  FleetOptions& o = options.fleet;
  app.add_option(
         "--coord", o.store,
         "share aliases, settings, keys and hives with the queens that have the same store: etcd://HOST:PORT,... "
         "(etcds:// over TLS), or sqlite[:FILE] for one queen alone")
      ->envname("LLORCH_COORD");
  app.add_option("--coord-prefix", o.prefix, "what this fleet's keys begin with in etcd")->capture_default_str();
  app.add_option("--coord-user-file", o.user_file, "a file with user:password for etcd, mode 0600");
  app.add_option("--coord-ca", o.authorities_file, "PEM of who signs etcd's certificate (default: the system's)");
  app.add_option_function<int>(
         "--coord-grace", [&o](int s) { o.grace = std::chrono::seconds(s); },
         "seconds for which requests are taken while the store does not answer")
      ->check(CLI::Range(0, 86'400))
      ->default_str("30");
  app.add_option("--migrate-to", options.migrate_to,
                 "copy what queens share to this store, or to `own` (this queen's own catalog), and end");
  app.add_option("--migrate-from", options.migrate_from, "from there")->capture_default_str();
}

/// --migrate-to: what `llorch queen migrate` runs.
static int migrate_data(const QueenOptions& o) {
  const std::string keys = o.keys_file.empty() ? cli::own_keys_file() : o.keys_file;
  const auto moved = migrate({o.migrate_from, o.migrate_to, o.fleet, o.data_dir, keys});
  if (!moved) return cli::report(moved.error());
  cli::print({{"from", o.migrate_from}, {"to", o.migrate_to}, {"entries", *moved}});
  return 0;
}

/// Of the configuration file. Errors: kInvalidRequest with file, line and key.
static Result<colony::SettingsByModel> read_model_settings(const std::string& path) {
  LLORCH_TRY(const auto sections, cli::read_model_sections(path));
  colony::SettingsByModel out;
  for (const cli::ModelSection& section : sections) {
    const auto ref = colony::parse_model_ref(section.model);
    if (!ref || ref->kind == colony::ModelRef::Kind::kAlias)
      return fail(ErrorCode::kInvalidRequest,
                  "{}:{}: [model.\"{}\"] names no model: org/repo[:quantization], file:/path or builtin:name", path,
                  section.line, section.model);
    colony::ModelSettings& settings = out[ref->text()];
    for (const cli::ModelSection::Value& v : section.values)
      if (const Status set = settings.set(v.key, v.value); !set)
        return fail(ErrorCode::kInvalidRequest, "{}:{}: {}", path, v.line, set.error().message);
  }
  return out;
}

}  // namespace llorch::queen

int main(int argc, char** argv) {
  using namespace llorch;
  CLI::App app{"The queen of a colony: one address for all models on all machines."};
  cli::add_build_info(app, "llorch-queen");
  queen::QueenOptions o;
  o.data_dir = cli::data_directory();
  o.hive_program = service::own_folder() + "/llorch-hive";
  int exit_code = 0;
  cli::add_front_flags(app, o, "queen");
  app.add_option("--port", o.first_port, "port to listen on")
      ->check(CLI::Range(1024, 65535))
      ->capture_default_str()
      ->envname("LLORCH_QUEEN_PORT");
  app.add_option("--admission-capacity,--queue-capacity", o.admission_capacity,
                 "requests that may wait; -1: any number")
      ->check(cli::some_or_unlimited("requests", 1 << 20, ", as each waits for its worker"))
      ->capture_default_str()
      ->envname("LLORCH_ADMISSION_CAPACITY");
  app.add_option("--data-dir", o.data_dir, "catalogs and logs")->capture_default_str();
  app.add_flag("--while-used", o.while_used,
               "end once no `llorch` command of this machine uses this queen: for one that a command has started");
  add_own_hive_flags(app, o);
  add_policy_flags(app, o);
  add_fleet_flags(app, o);
  app.add_option("--heartbeat-interval-sec", o.heartbeat_interval_s, "of hives; one that has missed three is offline")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  app.add_option_function<int>(
         "--heartbeat-interval-ms", [&o](int ms) { o.heartbeat_interval_s = ms / 1000; }, "the same, in whole seconds")
      ->check(CLI::Range(1000, 3'600'000));
  app.add_option("--scheduling-policy")->check(CLI::IsMember({"basic"}))->default_str("basic");
  app.add_option("--worker-kind", o.worker_kind,
                 "the kind of worker that is made, and serves first, where a request names none: cpu, accelerate")
      ->check(CLI::IsMember({"cpu", "accelerate"}))
      ->capture_default_str();
  app.add_option("--worker-slots", o.worker_slots, "requests that one worker may have at a time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--certificate-lifetime-sec", o.certificate_lifetime_s,
                 "of daemons' certificates, which renew themselves when two thirds of it are over")
      ->check(CLI::Range(3, 365 * 86'400))
      ->capture_default_str();
  app.add_option("--idle-stop-sec", o.idle_stop_s, "this machine's workers stop when idle so long; 0: never")
      ->check(CLI::Range(0, 1 << 30))
      ->default_str("300");
  app.callback([&] {
    auto settings = queen::read_model_settings(cli::config_path(app));
    if (!settings) return void(exit_code = cli::report(settings.error()));
    o.model_settings = *std::move(settings);
    o.last_port = o.first_port;
    if (o.mode == "one-machine") o.local_mode = true;
    o.started_as = queen_start_of(argc, argv);
    // `llorch key create` writes there: a queen that asks for keys admits them.
    if (std::string unused; o.keys_file.empty() && !o.local_mode)
      if (const auto token = security::find_operator_token(o.token_file, unused); token && *token)
        o.keys_file = cli::own_keys_file();
    if (const Status s = cli::make_private_directory(o.data_dir); !s)
      exit_code = cli::report(s.error());
    else if (!o.migrate_to.empty())
      exit_code = queen::migrate_data(o);
    else
      exit_code = cli::run_daemon<queen::Queen>("llorch-queen", o);
  });
  return cli::run(app, argc, argv, exit_code);
}
