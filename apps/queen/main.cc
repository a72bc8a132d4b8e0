// llorch-queen: takes every decision of a colony.
#include "daemon_flags.h"
#include "queen/queen.h"

int main(int argc, char** argv) {
  using namespace llorch;
  CLI::App app{"The queen of a colony: one address for all models on all machines."};
  cli::add_build_info(app, "llorch-queen");
  queen::QueenOptions o;
  o.data_dir = cli::data_directory();
  o.hive_program = service::own_folder() + "/llorch-hive";
  int exit_code = 0;
  cli::add_front_flags(app, o);
  app.add_option("--port", o.first_port, "port to listen on")
      ->check(CLI::Range(1024, 65535))
      ->capture_default_str()
      ->envname("LLORCH_QUEEN_PORT");
  app.add_option("--admission-capacity", o.admission_capacity, "requests that may wait; -1: any number")
      ->check(CLI::Range(-1, 1 << 20))
      ->capture_default_str()
      ->envname("LLORCH_ADMISSION_CAPACITY");
  app.add_option("--data-dir", o.data_dir, "catalogs and logs")->capture_default_str();
  app.add_option("--hive-program", o.hive_program, "what this machine's hive is")->capture_default_str();
  app.add_option("--hive-port", o.hive_port, "port of this machine's hive")
      ->check(CLI::Range(1024, 65535))
      ->capture_default_str()
      ->envname("LLORCH_HIVE_PORT");
  app.add_option("--worker-port", o.worker_port, "this machine's workers listen on the first free port from here")
      ->check(CLI::Range(1024, 65535))
      ->capture_default_str();
  app.add_option("--heartbeat-interval-sec", o.heartbeat_interval_s, "of hives; one that has missed three is offline")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  app.add_option("--worker-slots", o.worker_slots, "requests that one worker may have at a time")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--idle-stop-sec", o.idle_stop_s, "this machine's workers stop when idle so long; 0: never")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  app.callback([&] {
    o.last_port = o.first_port;
    if (const Status s = cli::make_private_directory(o.data_dir); !s)
      exit_code = cli::report(s.error());
    else
      exit_code = cli::run_daemon<queen::Queen>("llorch-queen", o);
  });
  return cli::run(app, argc, argv, exit_code);
}
