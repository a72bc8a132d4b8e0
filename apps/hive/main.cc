// llorch-hive: one per machine. Knows its devices, models and workers; obeys.
#include "base/ids.h"
#include "base/open_file.h"
#include "daemon_flags.h"
#include "hive/hive.h"
#include "hive/joining.h"

namespace llorch::hive {

/// The colony's root, for a hive on a machine where a file has it: kept like that of a hive that has joined.
static Status learn_root(const HiveOptions& o) {
  const std::string kept = o.colony_folder + "/root.pem";
  if (o.queen_ca.empty() || access(o.queen_ca.c_str(), F_OK) != 0 || access(kept.c_str(), F_OK) == 0) return {};
  constexpr std::size_t kRootBytesMax = 64u << 10;
  LLORCH_TRY(const std::string root, read_text_file(o.queen_ca, kRootBytesMax));
  LLORCH_OK(cli::make_private_directory(o.colony_folder));
  return security::write_secret_file(kept, root);
}

/// The data directory; and for a hive that joins a colony, a token of its own.
static Status prepare(HiveOptions& o) {
  LLORCH_OK(cli::make_private_directory(o.data_dir));
  // Before anything in the folder is touched: a second hive would take this one's workers for orphans.
  // A queen that follows a killed one starts her hive while the other's still ends its workers.
  const std::chrono::seconds patience(o.queen_started ? 15 : 0);
  LLORCH_TRY(StateLock lock,
             StateLock::take(o.data_dir, fmt::format("llorch-hive on port {}", o.first_port), patience));
  o.lock = std::make_shared<StateLock>(std::move(lock));
  o.colony_folder = o.data_dir + "/tls", o.callers_must_show = true;
  o.node_token = cli::variable("LLORCH_NODE_TOKEN");
  unsetenv("LLORCH_NODE_TOKEN");  // not for what we start
  if (o.hive_id.empty()) o.hive_id = service::host_name();
  LLORCH_OK(learn_root(o));
  const auto there = [&](const char* name) { return access((o.colony_folder + "/" + name).c_str(), F_OK) == 0; };
  if (o.wants_tls() && !o.queen_url.empty() && there("root.pem") && (o.queen_started || !there("own.pem")))
    return get_certificate(o);
  const bool invited = !o.join_token_file.empty() && access(o.join_token_file.c_str(), F_OK) == 0;
  if (o.wants_tls() && there("own.pem") && !invited) LLORCH_OK(check_kept(o));
  if (o.local_mode) return {};
  const bool joined = access((o.data_dir + "/node-token").c_str(), F_OK) == 0;
  if ((o.join_token_file.empty() && !joined) || !o.token_file.empty()) return {};
  if (o.queen_url.empty()) return fail(ErrorCode::kInvalidRequest, "a hive that joins a colony needs --queen-url");
  o.token_file = o.data_dir + "/token";
  if (access(o.token_file.c_str(), F_OK) != 0)
    LLORCH_OK(security::write_secret_file(o.token_file, "llorch-hive-" + random_hex(24)));
  LLORCH_TRY(const net::Url queen, net::parse_url(o.queen_url));
  if (!queen.tls || !invited) return {};
  LLORCH_TRY(const std::string own_token, security::read_secret_file(o.token_file));
  return join_by_tls(o, own_token);
}

}  // namespace llorch::hive

int main(int argc, char** argv) {
  using namespace llorch;
  CLI::App app{"One machine of a colony: its devices, its models, its workers."};
  cli::add_build_info(app, "llorch-hive");
  hive::HiveOptions o;
  o.data_dir = cli::data_directory() + "/hive";
  o.worker_dir = service::own_folder();
  o.hub = hive::hub_from_environment();
  int exit_code = 0;
  cli::add_front_flags(app, o, "hive");
  const CLI::Option* port =
      app.add_option("--port", o.first_port,
                     "port to listen on; a queen's hive takes the next free one, where none is given")
          ->check(CLI::Range(1024, 65535))
          ->capture_default_str()
          ->envname("LLORCH_HIVE_PORT");
  app.add_option("--queen-url", o.queens,
                 "send heartbeats there; of several, with commas between them, to one of those that answer")
      ->envname("LLORCH_HIVE_QUEEN_URL");
  app.add_option("--queen-ca", o.queen_ca, "root certificate of her colony (PEM), when there is such a file");
  app.add_option("--hive-id", o.hive_id, "default: the host's name")->envname("LLORCH_HIVE_ID");
  app.add_option("--data-dir", o.data_dir, "catalogs and logs")->capture_default_str();
  app.add_option("--worker-dir", o.worker_dir, "where worker programs are")->capture_default_str();
  app.add_option("--worker-port", o.first_worker_port, "workers listen on the first free port from here")
      ->check(CLI::Range(1024, 65535))
      ->capture_default_str();
  app.add_option("--heartbeat-interval-sec", o.heartbeat_interval_s)->check(CLI::Range(1, 3600))->capture_default_str();
  app.add_option_function<int>(
         "--queen-heartbeat-interval-ms", [&o](int ms) { o.heartbeat_interval_s = ms / 1000; },
         "the same, in whole seconds")
      ->check(CLI::Range(1000, 3'600'000));
  app.add_option("--models-cache-dir", o.hub.home, "models are fetched into its hub/ (default: HF_HOME's)");
  app.add_option("--worker-heartbeat-interval-sec", o.worker_heartbeat_interval_s)
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  app.add_option("--idle-stop-sec", o.idle_stop_s, "stop a worker that has been idle so long; 0: never")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  app.add_option("--loading-timeout-sec", o.loading_timeout_s, "a worker that shows no progress for so long is ended")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  app.add_option("--headroom-mb", o.headroom_mb, "memory that stays free, in MiB")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  app.add_option("--memory-limit-mb", o.memory_limit_mb, "what all workers together may take, in MiB; 0: what is free")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  app.add_option("--worker-cpu-max", o.worker_limits.cpu, "of one worker, by its control group: 200% is two cores");
  app.add_option("--worker-memory-max", o.worker_limits.memory, "of one worker, by its control group, such as 4G");
  app.add_option("--probe-interval-sec", o.probe_interval_s, "a worker that does not answer two probes is ended")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  app.add_option("--join-token-file", o.join_token_file,
                 "join a colony with the one-time token in this file, which is then taken away");
  app.add_flag("--queen-started", o.queen_started, "end when the queen is gone");
  app.callback([&] {
    // A second user's queen, or one of another data directory, has a hive of her own beside the first one's.
    constexpr int kPortsTried = 100;
    o.last_port = o.first_port + (o.queen_started && port->empty() ? kPortsTried - 1 : 0);
    o.queen_url = hive::Queens(o.queens).now();
    if (const Status s = hive::prepare(o); !s)
      exit_code = cli::report(s.error());
    else
      exit_code = cli::run_daemon<hive::Hive>("llorch-hive", o);
  });
  return cli::run(app, argc, argv, exit_code);
}
