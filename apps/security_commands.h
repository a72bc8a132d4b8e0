// The commands "key" and "audit", which keeper and worker share (S-03, S-32, S-35).
#pragma once

#include <charconv>
#include <chrono>
#include <csignal>
#include <deque>
#include <memory>

#include "base/ids.h"
#include "daemon_flags.h"
#include "format/json.h"
#include "security/audit.h"
#include "security/digest.h"
#include "security/keys.h"

namespace llorch::cli {

/// `--since` and `--until`: a time as it stands in the log, or "30m", "24h", "7d" before now.
inline Result<std::string> point_in_time(const std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789-:.TZ") == text.npos) return text;
  std::int64_t n = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), n);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::int64_t seconds = unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86'400 : 0;
  if (problem != std::errc{} || seconds == 0 || n < 0 || n > 1'000'000)
    return fail(ErrorCode::kInvalidRequest, "a time is RFC 3339 in UTC, a beginning of it, or 30m, 24h, 7d");
  return rfc3339(std::chrono::system_clock::now() - std::chrono::seconds(n * seconds));
}

inline void print_record(const boost::json::object& record, bool as_json) {
  if (as_json) return print(record);
  boost::json::object event = record.at("event").is_object() ? record.at("event").get_object() : boost::json::object();
  const auto take = [&event](const char* key) {
    std::string text = json::find_text(event, key).value_or("-");
    event.erase(key);
    return text;
  };
  const std::string type = take("event_type"), actor = take("actor");
  show(stdout, "%s  %-24s  %-14s  %s\n", json::find_text(record, "timestamp").value_or("-").c_str(), type.c_str(),
       actor.c_str(), boost::json::serialize(event).c_str());
}

inline void add_audit_commands(CLI::App& app, int& exit_code) {
  struct Flags {
    std::string file = variable("LLORCH_AUDIT_LOG_PATH");
    std::string key_file = variable("LLORCH_AUDIT_KEY_FILE");
    security::AuditQuery query;
    std::size_t lines = 20;
    bool json = false;
  };
  const auto f = std::make_shared<Flags>();
  CLI::App* audit = app.add_subcommand("audit", "audit logs");
  audit->require_subcommand(1);
  const auto add = [&](const char* name, const char* help) {
    CLI::App* c = audit->add_subcommand(name, help);
    c->add_option("file", f->file, "the log (also LLORCH_AUDIT_LOG_PATH); its older files are found beside it")
        ->required(f->file.empty());
    c->add_flag("--json", f->json, "records as they are, one a line");
    return c;
  };
  CLI::App* verify = add("verify", "check that no record was changed, taken out or cut off");
  verify->add_option("--audit-key-file", f->key_file, "the key of a keyed log (also LLORCH_AUDIT_KEY_FILE)");
  verify->callback([f, &exit_code] {
    const auto key = f->key_file.empty() ? Result<std::string>("") : security::read_audit_key(f->key_file);
    const auto state =
        key ? security::verify_audit(f->file, *key) : Result<security::AuditState>(std::unexpected(key.error()));
    if (!state) {
      report(state.error(), f->json);
      exit_code = 1;
    } else if (f->json) {
      print({{"file", f->file}, {"records", state->count}, {"unbroken", true}});
    } else {
      show(stdout, "%s: %llu records, unbroken\n", f->file.c_str(), static_cast<unsigned long long>(state->count));
    }
  });
  CLI::App* query = add("query", "records by actor, type and time");
  query->add_option("--actor", f->query.actor, "local, token:<6 hex digits>, proxy:<user>");
  query->add_option("--type", f->query.type, "an event_type, such as auth_failure");
  query->add_option("--since", f->query.since, "2026-11-21, 2026-11-21T08:00:00Z, 24h");
  query->add_option("--until", f->query.until, "as --since; excluded");
  query->callback([f, &exit_code] {
    exit_code = [&]() -> int {
      for (std::string* time : {&f->query.since, &f->query.until}) {
        auto point = point_in_time(*time);
        if (!point) return report(point.error(), f->json);
        *time = *std::move(point);
      }
      const Status s = security::for_each_record(f->file, f->query, [&](const auto& r) { print_record(r, f->json); });
      return s ? 0 : report(s.error(), f->json);
    }();
  });
  CLI::App* tail = add("tail", "the last records");
  tail->add_option("-n,--lines", f->lines)->check(CLI::Range(1, 1'000'000))->capture_default_str();
  tail->callback([f, &exit_code] {
    std::deque<boost::json::object> last;
    const Status s = security::for_each_record(f->file, {}, [&](const auto& record) {
      last.push_back(record);
      if (last.size() > f->lines) last.pop_front();
    });
    for (const auto& record : last) print_record(record, f->json);
    exit_code = s ? 0 : report(s.error(), f->json);
  });
}

inline void add_key_commands(CLI::App& app, int& exit_code) {
  struct Flags {
    std::string file = default_keys_file(), scope = "infer", name, which;
    bool json = false;
  };
  const auto f = std::make_shared<Flags>();
  CLI::App* key = app.add_subcommand("key", "API keys besides the operator's token");
  key->require_subcommand(1);
  const auto add = [&](const char* name, const char* help) {
    CLI::App* c = key->add_subcommand(name, help);
    c->add_option("--keys-file", f->file, "what daemons were given as --keys-file")->capture_default_str();
    c->add_flag("--json", f->json);
    return c;
  };
  CLI::App* create = add("create", "make a key; it is printed once, and only its hash is kept");
  create->add_option("--scope", f->scope, "of infer, metrics, node, admin; several with commas")->capture_default_str();
  create->add_option("--name", f->name, "whose it is, for `key list`");
  create->callback([f, &exit_code] {
    std::signal(SIGPIPE, SIG_IGN);  // whom nobody reads lives on, and takes the key back
    const auto scopes = security::parse_scopes(f->scope);
    const auto made =
        scopes ? security::create_key(f->file, *scopes, f->name) : Result<std::string>(std::unexpected(scopes.error()));
    if (!made) {
      exit_code = report(made.error(), f->json);
      return;
    }
    if (f->json)
      print({{"key", *made}, {"scopes", f->scope}, {"keys_file", f->file}});
    else
      show(stdout, "%s\n", made->c_str());
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {  // nobody has seen it, and it would open the door
      const auto gone = security::revoke_key(f->file, security::sha256_hex(*made));
      exit_code = report({ErrorCode::kIo, gone ? std::string("the key could not be printed, and was revoked")
                                               : "the key could not be printed, and " + gone.error().message},
                         f->json);
    } else if (!f->json) {
      show(stderr, "the key is shown this once; daemons that run with --keys-file %s admit it from now on%s\n",
           f->file.c_str(), f->file == default_keys_file() ? " (a queen with a token does by herself)" : "");
    }
  });
  add("list", "the keys that a file admits")->callback([f, &exit_code] {
    const bool none_yet = access(f->file.c_str(), F_OK) != 0 && errno == ENOENT;
    const auto keys = none_yet ? Result<std::vector<security::ApiKey>>() : security::read_keys(f->file);
    if (!keys) {
      exit_code = report(keys.error(), f->json);
      return;
    }
    if (keys->empty() && !f->json) show(stderr, "%s admits no keys: `llorch key create` makes one\n", f->file.c_str());
    boost::json::array rows;
    for (const security::ApiKey& k : *keys) {
      rows.push_back({{"key", k.label()}, {"scopes", text_of(k.scopes)}, {"created", k.created}, {"name", k.name}});
      if (!f->json)
        show(stdout, "%s  %-20s  %-24s  %s\n", k.label().c_str(), text_of(k.scopes).c_str(), k.created.c_str(),
             k.name.c_str());
    }
    if (f->json) print(rows);
  });
  CLI::App* revoke = add("revoke", "take a key back: running daemons refuse it from the next request on");
  revoke->add_option("key", f->which, "token:<hex digits> as `key list` shows it, or its name")->required();
  revoke->callback([f, &exit_code] {
    const auto gone = security::revoke_key(f->file, f->which);
    if (!gone)
      exit_code = report(gone.error(), f->json);
    else if (f->json)
      print({{"revoked", gone->label()}});
    else
      show(stdout, "revoked %s %s\n", gone->label().c_str(), gone->name.c_str());
  });
}

}  // namespace llorch::cli
