// hive: the colony's machines, this one and others over OpenSSH.
#include <fmt/ranges.h>

#include <algorithm>

#include "keeper/host.h"
#include "keeper/membership.h"
#include "keeper/parts.h"
#include "net/http_client.h"
#include "security/auth.h"
#include "service/plain_http.h"
#include "service/process.h"
#include "service/remote.h"

namespace llorch::keeper {
namespace {

struct HiveFlags {
  Common common;
  std::string address, hive_id, token;
  HiveStart start;
  int ssh_port = 22, wait_s = 30;
};

Result<Host> host_of(HiveFlags& f) {
  LLORCH_TRY(Host host, Host::make(f.address, f.ssh_port));
  if (f.hive_id.empty()) f.hive_id = host.default_hive_id();
  return host;
}

/// "http[s]://host:port" of the queen, as the other machine reaches it.
Result<std::string> queen_for(const Host& host, const Session& session) {
  LLORCH_TRY(const net::Url url, net::parse_url(session.queen()));
  if (!host.local() && security::is_loopback(url.host))
    return fail(ErrorCode::kInvalidRequest,
                "{} is this machine only: give the queen's address as the other machine reaches it (--queen)",
                session.queen());
  return session.queen();
}

/// A queen without keys believes a hive that shows a key which only she and her user can read.
Result<std::string> local_key(HiveFlags& f) {
  f.start.local_mode = true, f.start.listen = "127.0.0.1";
  f.start.queen_ca = f.common.data_dir + "/ca/root.pem";
  auto key = security::read_secret_file(f.common.data_dir + "/node-token");
  if (key) return key;
  return fail(ErrorCode::kForbidden, "the queen's key for hives cannot be read: give the --data-dir that she has ({})",
              key.error().message);
}

bool online(Session& session, const std::string& hive_id) {
  const auto status = session.call("GET", "/v1/status");
  const auto* o = status ? status->if_object() : nullptr;
  const auto* hives = o ? json::find_array(*o, "hives") : nullptr;
  return hives && std::ranges::any_of(*hives, [&](const Value& h) {
           return h.is_object() && json::find_text(h.get_object(), "id") == hive_id;
         });
}

Status install(HiveFlags& f) {
  LLORCH_TRY(const Host host, host_of(f));
  const Session session(f.common);
  for (const char* program : {"llorch-hive", "llorch-worker-cpu"}) {
    LLORCH_TRY(const bool copied, host.put_program(program));
    session.say(fmt::format("{} {}", program, copied ? "was copied" : "is there already"));
  }
  LLORCH_TRY(const std::string version, host.version());
  session.say(version + " runs there");
  return {};
}

constexpr int kLooksUntilGone = 5;

/// Waits until the hive that was started is where it should be. Errors: its own when it has ended; kOperationTimeout.
Status wait_until(const Host& host, const HiveFlags& f, std::string_view missing,
                  const std::function<bool()>& reached) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(f.wait_s);
  const int every = host.local() ? 1 : 10;  // over ssh, each look is a connection
  for (int look = 0, absent = 0; !reached(); ++look) {
    if (look % every == 0) {
      LLORCH_TRY(const bool runs, host.hive_running());
      absent = runs ? 0 : absent + 1;  // the shell becomes the hive in a moment
    }
    // What it did last may have been what is waited for.
    if (absent > kLooksUntilGone && !reached()) return std::unexpected(host.last_error());
    if (std::chrono::steady_clock::now() > end)
      return fail(ErrorCode::kOperationTimeout,
                  "{} within {} seconds, and the hive runs: does it reach the queen? (its log: "
                  "~/.local/share/llorch/{}/hive.log)",
                  missing, f.wait_s, host.data_folder());
    Session::pause(std::chrono::milliseconds(100));
  }
  return {};
}

/// How a hive stands with its queen: what it wrote when she last answered, or did not.
struct Standing {
  bool heard = false, taken = false;
  Error why;
};

Standing standing_of(const Host& host) {
  const auto parsed = json::parse(host.standing(), "standing");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  const auto* taken = o ? o->if_contains("taken") : nullptr;
  if (!taken || !taken->is_bool()) return {};
  return {
      true, taken->get_bool(),
      Error{service::code_of(json::find_text(*o, "code").value_or("")), json::find_text(*o, "message").value_or("")}};
}

/// Once this machine belongs to a colony, its hive starts as it did when it joined: nobody else need be asked.
Status start_again(HiveFlags& f, const Host& host, const Membership& m) {
  const Session session(f.common);
  LLORCH_OK(host.start_again());
  Standing standing;
  int looks = 0;
  const Status heard = wait_until(host, f, "its queen has not been heard of", [&] {
    standing = standing_of(host);
    return ++looks > 2 * kLooksUntilGone && standing.heard;
  });
  if (!heard && heard.error().code != ErrorCode::kOperationTimeout) return heard;
  if (!heard) standing.why = {ErrorCode::kIo, fmt::format("within {} s", f.wait_s)};
  if (standing.taken) {
    session.say(fmt::format("the hive {} runs again, in the colony of {}", m.hive_id, m.queen_url));
    return {};
  }
  if (standing.why.code == ErrorCode::kIo && !standing.why.message.starts_with(net::kNoSecureConnection)) {
    session.say(fmt::format("the hive {} runs, and its queen at {} does not answer ({}): it goes on trying", m.hive_id,
                            m.queen_url, standing.why.message));
    return {};
  }
  return fail(standing.why.code, "the hive {} runs, and the queen at {} does not take it: {}", m.hive_id, m.queen_url,
              standing.why.message);
}

/// What a hive is started with that shows a queen who is awake what she wants of it. Errors: hers; kResourceInUse for a
/// machine that belongs to another colony.
Result<std::string> token_for(HiveFlags& f, const Host& host, Session& session) {
  const auto made = session.call("POST", "/v1/join-tokens", {{"hive_id", f.hive_id}});
  if (made && made->is_object()) return json::find_text(made->get_object(), "token").value_or("");
  if (made) return fail(ErrorCode::kInternal, "the queen's answer is no object");
  if (!host.local() || made.error().code != ErrorCode::kInvalidRequest) return std::unexpected(made.error());
  if (const auto m = own_membership())
    return fail(ErrorCode::kResourceInUse,
                "this machine's hive belongs to the colony of {}: `llorch hive uninstall` takes it out of there first",
                m->queen_url);
  return local_key(f);
}

/// A start that has failed leaves what was there before; one that has joined stays joined.
Status settle(const Host& host, Status outcome) {
  if (outcome || host.joined()) {
    LLORCH_OK(host.keep_start());
    return outcome;
  }
  (void)host.withdraw_start();  // why it was withdrawn says more
  return outcome;
}

Status start(HiveFlags& f) {
  const bool named = !f.hive_id.empty();
  LLORCH_TRY(const Host host, host_of(f));
  if (const auto m = own_membership();
      m && host.local() && !f.common.queen_given() && (!named || f.hive_id == m->hive_id)) {
    if (m->has_key) return start_again(f, host, *m);
    return fail(
        ErrorCode::kNotFound,
        "this machine's hive {0} belonged to the colony of {1}, and its key is gone ({2}/node-token): it must join "
        "again, with what `llorch hive invite --hive-id {0}` prints on the queen's machine",
        m->hive_id, m->queen_url, m->folder);
  }
  Session session(f.common);
  LLORCH_TRY(const bool awake, session.awake());
  if (!awake && host.local() && !f.common.queen_given())
    return fail(
        ErrorCode::kNotFound,
        "this machine has joined no colony, and no queen runs here: `llorch hive invite` on a queen's machine prints "
        "the command for this one; a queen of this machine starts its hive by herself (`llorch queen start`)");
  if (!awake && host.local()) return fail(ErrorCode::kIo, "the queen at {} does not answer", f.common.queen);
  LLORCH_OK(session.wake());
  LLORCH_TRY(f.start.queen_url, queen_for(host, session));
  f.start.insecure_http = f.common.insecure_http && f.start.queen_url.starts_with("http://");
  f.start.hive_id = f.hive_id;
  if (online(session, f.hive_id))
    return fail(ErrorCode::kResourceInUse, "a hive named {} is online already", f.hive_id);
  LLORCH_TRY(const std::string token, token_for(f, host, session));
  LLORCH_OK(host.start_hive(f.start, token));
  session.say(fmt::format("the hive {} is starting: waiting for its first heartbeat", f.hive_id));
  LLORCH_OK(settle(
      host, wait_until(host, f, "its first heartbeat has not come", [&] { return online(session, f.hive_id); })));
  LLORCH_OK(session.keep_queen());
  session.say(fmt::format("{} is online", f.hive_id));
  return {};
}

/// Where the machines that are invited reach the queen: what was given, else what she says of herself.
struct Meeting {
  std::string host;
  std::vector<std::string> others;  // addresses of hers besides
};
Result<Meeting> meeting_place(const net::Url& queen, bool given, const boost::json::object& made) {
  const bool elsewhere = !security::is_loopback(queen.host);
  if (given && elsewhere) return Meeting{queen.host, {}};
  const auto* hosts = json::find_array(made, "hosts");
  Meeting m;
  if (hosts)
    for (const auto& h : *hosts)
      if (h.is_string()) m.others.emplace_back(h.get_string());
  if (m.others.empty() && elsewhere) return Meeting{queen.host, {}};
  if (m.others.empty())
    return fail(
        ErrorCode::kInvalidRequest,
        "the queen at {}:{} listens for this machine only, and no other can join her: `llorch queen stop`, then "
        "`llorch queen start --queen-flag=--listen=0.0.0.0 --token-file FILE`",
        queen.host, queen.port);
  m.host = m.others.front();
  m.others.erase(m.others.begin());
  return m;
}

/// What a person types on another machine, which needs no ssh.
Status invite(HiveFlags& f) {
  Session session(f.common);
  LLORCH_OK(session.wake());
  LLORCH_TRY(const net::Url queen, net::parse_url(session.queen()));
  const boost::json::object order =
      f.hive_id.empty() ? boost::json::object() : boost::json::object{{"hive_id", f.hive_id}};
  LLORCH_TRY(const Value made, session.call("POST", "/v1/join-tokens", order));
  const auto token = made.is_object() ? json::find_text(made.get_object(), "token") : std::nullopt;
  if (!token) return fail(ErrorCode::kInternal, "the queen's answer lacks token");
  LLORCH_TRY(const Meeting at, meeting_place(queen, f.common.queen_given(), made.get_object()));
  LLORCH_OK(session.keep_queen());
  const std::string host = at.host.contains(':') ? "[" + at.host + "]" : at.host;
  const std::string command =
      fmt::format("llorch hive join {}{}:{} {}{}{}{}", queen.tls ? "" : "http://", host, queen.port, *token,
                  f.hive_id.empty() ? "" : " --hive-id ", f.hive_id, queen.tls ? "" : " --insecure-http");
  if (f.common.json) {
    cli::print({{"command", command}, {"token", *token}, {"expires_in_s", made.at("expires_in_s")}});
    return {};
  }
  session.say("good once, for ten minutes; on the other machine:");
  show(stdout, "%s\n", command.c_str());
  if (!at.others.empty()) session.say(fmt::format("where {} is not known: {}", host, fmt::join(at.others, ", ")));
  return {};
}

/// "<prefix><48 digits>[.<64 digits>]", as a queen makes it. Errors: kInvalidRequest.
Status check_token(const std::string& token, bool tls) {
  constexpr std::string_view kPrefix = "llorch-join-";
  constexpr std::size_t kSecretDigits = 48, kRootDigits = 64;
  const auto digits = [](std::string_view text, std::size_t count) {
    return text.size() == count && text.find_first_not_of("0123456789abcdef") == text.npos;
  };
  const std::size_t dot = std::min(token.find('.'), token.size());
  const std::string_view all(token), secret = all.substr(0, dot);
  const bool whole = secret.starts_with(kPrefix) && digits(secret.substr(kPrefix.size()), kSecretDigits) &&
                     (dot == token.size() || digits(all.substr(dot + 1), kRootDigits));
  if (!whole)
    return fail(ErrorCode::kInvalidRequest,
                "this is no whole join token: copy the line that `llorch hive invite` has printed as it is");
  if (tls && dot == token.size())
    return fail(
        ErrorCode::kInvalidRequest,
        "the token names no root certificate: either its end is missing, or the queen speaks http:// only, and the "
        "line that `llorch hive invite` has printed says so");
  return {};
}

/// The queen's address as a person gives it: a name without a port means hers.
std::string queen_url_of(const std::string& given) {
  if (given.contains("://")) return given;
  const bool has_port = given.starts_with('[') ? given.contains("]:") : given.contains(':');
  return "https://" + given + (has_port ? "" : ":8500");
}

/// What a join that has failed means where the reason says little.
Error explain(Error e, const std::string& queen_url) {
  if (e.message.contains("self-signed certificate"))
    e.message = "whoever answers at " + queen_url +
                " is not the queen of this token: it is another colony's, or damaged, or somebody is in the middle (" +
                e.message + ")";
  else if (e.code == ErrorCode::kIo && speaks_other_scheme(queen_url))
    e.message +=
        fmt::format(": whoever is there speaks {}", queen_url.starts_with("https") ? "http:// only" : "https://");
  return e;
}

/// This machine becomes one of another's colony: what `invite` has printed there.
Status join(HiveFlags& f) {
  f.start.queen_url = queen_url_of(f.address);
  LLORCH_TRY(const net::Url queen, net::parse_url(f.start.queen_url));
  LLORCH_OK(service::check_plain_http(queen, f.common.insecure_http));
  f.start.insecure_http = !queen.tls && f.common.insecure_http;
  LLORCH_OK(check_token(f.token, queen.tls));
  LLORCH_TRY(const Host host, Host::make("", f.ssh_port));
  if (f.hive_id.empty()) f.hive_id = host.default_hive_id();
  f.start.hive_id = f.hive_id;
  LLORCH_TRY(const bool runs, host.hive_running());
  if (runs)
    return fail(ErrorCode::kResourceInUse,
                "a hive runs here already: end it with `llorch hive stop`, then type this again: the token was not "
                "shown to anybody");
  for (const char* program : {"llorch-hive", "llorch-worker-cpu"}) LLORCH_OK(host.put_program(program));
  LLORCH_OK(host.start_hive(f.start, f.token));
  const Session session(f.common);
  // It is awake once it has joined, and ends when it cannot.
  const Status joined = settle(host, wait_until(host, f, "it has not joined", [&] { return host.joined(); }));
  if (!joined) {
    if (const auto before = own_membership(); before && before->has_key)
      session.say(fmt::format("this machine still belongs to the colony of {}: `llorch hive start` starts its hive",
                              before->queen_url));
    return std::unexpected(explain(joined.error(), f.start.queen_url));
  }
  session.say(fmt::format("{} belongs to the colony of {}", f.hive_id, f.start.queen_url));
  session.say("after a reboot: `llorch hive start`, or a unit of systemd (docs/colony.md)");
  return {};
}

/// A machine becomes one of the colony.
Status add(HiveFlags& f) {
  LLORCH_OK(install(f));
  return start(f);
}

Status stop(HiveFlags& f) {
  LLORCH_TRY(const Host host, host_of(f));
  const Session session(f.common);
  LLORCH_TRY(const bool ran, host.stop_hive());
  session.say(ran ? "the hive has stopped, with its workers" : "no hive that was started so runs there");
  return {};
}

Status uninstall(HiveFlags& f) {
  LLORCH_TRY(const Host host, host_of(f));
  LLORCH_OK(stop(f));
  const auto m = host.local() ? membership_elsewhere(f.common.data_dir) : std::nullopt;
  LLORCH_OK(host.uninstall());
  Session session(f.common);
  session.say("programs, catalogs and keys are gone; fetched models stay");
  if (m && !f.common.queen_given()) {
    session.say(fmt::format("`llorch hive remove {}` on the machine of {} ends its membership there", m->hive_id,
                            m->queen_url));
    return {};
  }
  LLORCH_TRY(const bool awake, session.awake());
  if (!awake) return {};
  const auto removed = session.call("DELETE", net::url_path("/v1/hives").segment(f.hive_id));
  if (!removed && removed.error().code != ErrorCode::kHiveNotFound) return std::unexpected(removed.error());
  session.say(f.hive_id + " belongs to the colony no longer");
  return {};
}

/// "taken by her", or why not; "-" where the hive has not said.
std::string text_of(const Standing& s, bool runs) {
  if (!runs || !s.heard) return "-";
  return s.taken ? "taken" : "not taken: " + s.why.message;
}

Status status(HiveFlags& f) {
  LLORCH_TRY(const Host host, host_of(f));
  LLORCH_TRY(const bool runs, host.hive_running());
  const auto version = host.version();
  const auto m = host.local() ? own_membership() : std::nullopt;
  boost::json::object row{{"hive", m ? m->hive_id : f.hive_id},
                          {"runs", runs},
                          {"installed", version ? *version : "-"},
                          {"colony", m ? m->queen_url : "-"},
                          {"standing", text_of(standing_of(host), runs)}};
  if (f.common.json)
    cli::print(row);
  else
    print_table(Value(row), {"hive", "runs", "installed", "colony", "standing"});
  return {};
}

/// Whoever joins has no key of the operator's, and needs none.
std::string_view hint_for_joining(const Error& error) {
  if (error.message.contains("a hive of this name")) return "--hive-id gives this machine another name";
  switch (error.code) {
    case ErrorCode::kInvalidApiKey:
    case ErrorCode::kForbidden: return "`llorch hive invite` on the queen's machine prints another command";
    case ErrorCode::kIo: return "is the queen's address right, and does this machine reach it?";
    case ErrorCode::kInvalidRequest: return "`llorch hive invite` on the queen's machine prints the whole command";
    case ErrorCode::kResourceInUse: return "`llorch hive status` shows this machine's hive";
    default: return "";
  }
}

using Work = Status (*)(HiveFlags&);

void add_flags(CLI::App& c, HiveFlags& f, Work work) {
  if (work == join) {
    c.add_option("queen", f.address, "her address: host:port")->required();
    c.add_option("token", f.token, "what `llorch hive invite` has printed")->required();
    f.start.listen = "0.0.0.0";
  } else if (work != invite) {
    c.add_option("-a,--address", f.address, "[user@]host, by ssh; default: this machine");
    c.add_option("-p,--ssh-port", f.ssh_port)->check(CLI::Range(1, 65535))->capture_default_str();
  }
  c.add_option("--hive-id", f.hive_id, "its name in the colony; default: the host's");
  if (work == start || work == add || work == join) {
    c.add_option("--listen", f.start.listen, "address it listens on there")->capture_default_str();
    c.add_option("--port", f.start.port, "port it listens on there")
        ->check(CLI::Range(1024, 65535))
        ->capture_default_str();
    c.add_option("--worker-port", f.start.worker_port)->check(CLI::Range(1024, 65535))->capture_default_str();
    c.add_option("--heartbeat-interval-sec", f.start.heartbeat_interval_s)
        ->check(CLI::Range(1, 3600))
        ->capture_default_str();
    c.add_option("--wait", f.wait_s, "seconds until it must be online")
        ->check(CLI::Range(1, 3600))
        ->capture_default_str();
  }
}

}  // namespace

void add_command_hive(CLI::App& app, int& exit_code) {
  CLI::App* hive = app.add_subcommand("hive", "machines");
  hive->require_subcommand(1);
  const auto common = std::make_shared<Common>();
  command(*hive, "list", "hives that are online", common)->callback([common, &exit_code] {
    exit_code = operate(*common, {{"operation", "status"}}, [](const Value& v) {
      print_table(v.is_object() ? v.get_object().at("hives") : v,
                  {"id", "url", "version", "seen_s_ago", "clock_skew_s"});
    });
  });
  const auto checking = std::make_shared<Common>();
  const auto name = std::make_shared<std::string>();
  CLI::App* check = command(*hive, "check", "ask a hive how it is", checking);
  check->add_option("name", *name, "default: that of the queen's machine");
  check->callback([checking, name, &exit_code] {
    boost::json::object order{{"operation", "hive_check"}};
    if (!name->empty()) order["hive_id"] = *name;
    exit_code = operate(*checking, order, [](const Value& v) {
      print_table(v, {"id", "port", "operational_status", "version"});
    });
  });
  const auto removing = std::make_shared<Common>();
  const auto gone = std::make_shared<std::string>();
  CLI::App* remove = command(*hive, "remove", "a hive's key opens nothing any more", removing);
  remove->add_option("name", *gone)->required();
  remove->callback([removing, gone, &exit_code] {
    Session session(*removing);
    const auto removed = session.call("DELETE", net::url_path("/v1/hives").segment(*gone));
    exit_code = removed ? 0 : complain(*removing, removed.error());
    if (removed) session.say(*gone + " belongs to the colony no longer");
  });
  const auto again = std::make_shared<Common>();
  command(*hive, "rebuild", "build the hive and its worker anew, in the tree that this program is from", again)
      ->callback([again, &exit_code] {
        exit_code = rebuild(*again, {"llorch-hive", "llorch-worker-cpu"});
      });
  for (const auto& [verb, help, work] :
       {std::tuple<const char*, const char*, Work>("install", "copy the hive's programs to a machine", install),
        {"start", "start a machine's hive: where it has joined a colony as it did then, else with a one-time token",
         start},
        {"add", "install, then start: a machine becomes one of the colony", add},
        {"invite", "print the command by which another machine joins, once, within ten minutes", invite},
        {"join", "this machine becomes one of another's colony", join},
        {"stop", "stop a machine's hive, with its workers", stop},
        {"status", "does a machine's hive run?", status},
        {"uninstall", "stop a machine's hive and take it away", uninstall}}) {
    const auto f = std::make_shared<HiveFlags>();
    CLI::App* c = hive->add_subcommand(verb, help);
    f->common.add(*c);
    add_flags(*c, *f, work);
    c->callback([f, work = work, &exit_code] {
      const Status s = work(*f);
      exit_code = s ? 0 : complain(f->common, s.error(), work == join ? hint_for_joining(s.error()) : "");
    });
  }
}

}  // namespace llorch::keeper
