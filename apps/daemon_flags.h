// Flags and start-up that hive and queen share.
#pragma once

#include <csignal>
#include <filesystem>
#include <map>
#include <string>

#include "config_file.h"
#include "service/descriptors.h"
#include "service/front.h"
#include "service/log.h"
#include "service/memory_return.h"

namespace llorch::cli {

/// Who may come in, and what is written down of it: for all daemons.
inline void add_access_flags(CLI::App& app, service::FrontOptions& o) {
  app.add_option("--token-file", o.token_file, "file with the operator's token (also LLORCH_API_TOKEN_FILE)");
  app.add_option("--keys-file", o.keys_file, "further keys: lines of '<scope>[,<scope>] <sha256 hex>'");
  app.add_option("--allow-host", o.allowed_hosts, "accept this Host header too");
  app.add_option("--cors-origin", o.cors_origins,
                 "let pages of this origin use the API (CORS), such as http://localhost:3000; several, or * for all of "
                 "them (default: none)")
      ->delimiter(',');
  app.add_option("--tls-cert", o.tls_certificate, "PEM certificate chain")->check(CLI::ExistingFile);
  app.add_option("--tls-key", o.tls_key, "PEM key")->check(CLI::ExistingFile);
  app.add_flag("--tls", o.tls, "speak TLS on this machine's own addresses (127.0.0.1), too")->envname("LLORCH_TLS");
  app.add_flag("--insecure-http", o.insecure_http,
               "speak to other machines without TLS: everybody on the network can read tokens, prompts and answers");
  app.add_option("--audit-log", o.audit_log, "append audit records to this file")->envname("LLORCH_AUDIT_LOG_PATH");
  static const std::map<std::string, security::AuditFlush> kFlush{{"immediate", security::AuditFlush::kImmediate},
                                                                  {"hybrid", security::AuditFlush::kHybrid},
                                                                  {"batched", security::AuditFlush::kBatched}};
  app.add_option("--audit-flush", o.audit_flush,
                 "when records are synced: immediate, hybrid or batched (by 100 or a second)")
      ->transform(CLI::CheckedTransformer(kFlush).description("{immediate,hybrid,batched}"))
      ->default_str("immediate")
      ->envname("LLORCH_AUDIT_FLUSH");
  app.add_option(
         "--audit-key-file", o.audit_key_file,
         "file of 64 hexadecimal digits: records carry HMACs of this key, so that nobody without it can rebuild "
         "the log")
      ->envname("LLORCH_AUDIT_KEY_FILE");
  app.add_flag("--audit-required", o.audit_required,
               "refuse administrative requests until their record is on disk, and all others while the log cannot be "
               "written");
  app.add_option("--log-format", o.log_format, "json or pretty (default: pretty on a terminal)")
      ->check(CLI::IsMember({"json", "pretty"}))
      ->envname("LLORCH_LOG_FORMAT");
  app.add_option("--log-level", o.log_level, "the least that is logged; debug has a line for every request")
      ->check(CLI::IsMember(service::level_names()))
      ->capture_default_str()
      ->envname("LLORCH_LOG_LEVEL");
}

inline void add_front_flags(CLI::App& app, service::FrontOptions& o, const std::string& program) {
  app.add_option("--listen,--bind", o.listen, "address to listen on")->capture_default_str()->envname("LLORCH_BIND");
  app.add_flag("--local-mode", o.local_mode, "loopback, no authentication");
  add_access_flags(app, o);
  add_config(app, {program, [&app] { return &app; }});
  add_print_config(app, program);
}

inline Status make_private_directory(const std::string& path) {
  std::error_code problem;
  std::filesystem::create_directories(path, problem);
  if (problem) return fail(ErrorCode::kIo, "cannot make the directory {}: {}", path, problem.message());
  std::filesystem::permissions(path, std::filesystem::perms::owner_all, problem);
  return {};
}

/// --build-info of a daemon.
inline void add_build_info(CLI::App& app, const char* program) {
  app.set_version_flag("--version", std::string(program) + " " LLORCH_VERSION);
  app.add_flag_callback(
      "--build-info",
      [program] {
        print({{"program", program},
               {"version", LLORCH_VERSION},
               {"compiler", "g++ " __VERSION__},
               {"build_id", LLORCH_VERSION}});
        throw CLI::Success();
      },
      "program, version and compiler as JSON");
}

/// Runs a daemon until it stops its loop. Daemon(loop, options): start(), shutdown(why), exit_code().
template<class Daemon, class Options>
int run_daemon(const char* program, const Options& options) {
  service::make_room_for_descriptors();
  const service::MemoryReturn memory;
  service::start_log(program, options.log_format, options.log_level);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk
  net::EventLoop loop;
  service::watch_loop(loop);
  int code = 0;
  {
    Daemon daemon(loop, options);
    if (const Status started = daemon.start(); !started) {
      service::stop_log();
      return report(started.error());
    }
    // The death of whoever started us is told once for each of its threads: what comes in the first half second is one.
    net::Clock::time_point first;
    loop.on_signals([&](int count) {
      if (count == 1) {
        first = net::Clock::now();
        return daemon.shutdown("signal");
      }
      if (net::Clock::now() - first < std::chrono::milliseconds(500)) return;
      service::log(service::Level::kWarn, "stopped_at_once", "a second signal: stopping at once");
      loop.stop();
    });
    loop.run();
    code = daemon.exit_code();
  }
  service::stop_log();
  return code;
}

}  // namespace llorch::cli
