// What a queen can be told at her start.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "colony/model_settings.h"
#include "queen/fleet.h"
#include "queen_start.h"
#include "service/front.h"

namespace llorch::queen {

struct QueenOptions : service::FrontOptions {
  QueenOptions() { first_port = last_port = 8500; }
  std::string data_dir, hive_program;
  int admission_capacity = 100, heartbeat_interval_s = 30, worker_slots = 8, hive_start_timeout_s = 30,
      missed_beats = 3;
  std::optional<int> hive_port, worker_port, idle_stop_s;  // of this machine's hive; else as its own settings say
  std::string admission_policy = "reject-new", eviction_policy = "lru", worker_kind = "cpu";
  std::string mode;             // "one-machine": loopback without keys; "lab": with keys; empty: as the other flags say
  double vram_threshold = 0.9;  // above this share of a device's memory, idle workers go
  colony::SettingsByModel model_settings;  // of [model."NAME"] in the configuration file
  std::vector<std::string> pinned;         // models whose workers are never stopped to make room
  int default_deadline_ms = 0, max_deadline_ms = 86'400'000, cancel_deadline_ms = 5000;
  bool retry_enabled = true, retry_jitter = true;
  int retry_attempts = 5, retry_first_ms = 1000, retry_max_ms = 60'000;
  double retry_multiplier = 2;
  std::vector<std::string> meeting_hosts;  // by which other machines reach her, the best first; none: she is alone here
  QueenStart started_as;                   // kept in her data directory; of an empty directory: it is not
  int certificate_lifetime_s = 30 * 86'400;      // of daemons
  bool while_used = false;                       // she ends once no command of this machine uses her
  bool no_own_hive = false;                      // she runs no models on her own machine
  bool infer_may_fetch = false;                  // keys without admin scope may have models fetched
  FleetOptions fleet;                            // the queens that share a store with her
  std::string migrate_from = "own", migrate_to;  // what she does instead of serving; to: empty: she serves
  bool optimizer_enabled = true;
  int optimizer_threshold = 10, optimizer_interval_ms = 30'000;
  /// Errors: kInvalidRequest for values that contradict each other.
  [[nodiscard]] Status check() const;
  /// Before try `n` + 1: n from 1.
  [[nodiscard]] std::chrono::milliseconds retry_pause(int n) const;
};

}  // namespace llorch::queen
