#include "keeper/host.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/ids.h"
#include "format/json.h"
#include "net/http_client.h"
#include "security/digest.h"
#include "security/validate.h"
#include "service/process.h"
#include "service/remote.h"

namespace llorch::keeper {
namespace {

/// Sets $p to the pid of a hive of ours that runs, else to nothing.
constexpr std::string_view kFind =
    R"sh(p=$(cat "$data/hive.pid" 2>/dev/null); case "$(readlink "/proc/$p/exe" 2>/dev/null)" in */llorch-hive|*"/llorch-hive (deleted)") ;; *) p= ;; esac; )sh";

bool holds_only(std::string_view text, std::string_view others) {
  return std::ranges::all_of(text, [&](unsigned char c) { return std::isalnum(c) || others.contains(c); });
}

bool is_host(std::string_view text) {
  const std::size_t at = text.find('@');
  const std::string_view user = at == text.npos ? "" : text.substr(0, at);
  const std::string_view host = at == text.npos ? text : text.substr(at + 1);
  return text.size() <= 255 && !host.empty() && host.front() != '-' && holds_only(host, ".-:") &&
         (at == text.npos || (!user.empty() && user.front() != '-' && holds_only(user, "._-")));
}

/// A descriptor to read `text` from.
int as_file(const std::string& text) {
  const int fd = memfd_create("input", MFD_CLOEXEC);
  if (fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
      lseek(fd, 0, SEEK_SET) == 0)
    return fd;
  if (fd >= 0) close(fd);
  return -1;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

Result<std::string> digest_of(int fd) {
  security::Sha256 sum;
  std::string part(1 << 16, '\0');
  for (ssize_t n; (n = read(fd, part.data(), part.size())) != 0;) {
    if (n < 0) return fail(ErrorCode::kIo, "a program of ours cannot be read");
    sum.update(std::string_view(part).substr(0, static_cast<std::size_t>(n)));
  }
  lseek(fd, 0, SEEK_SET);
  return to_hex(sum.finish());
}

/// One word of a shell's.
std::string shell_word(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

Result<Host> Host::make(const std::string& address, int ssh_port) {
  if (!address.empty() && !is_host(address))
    return fail(ErrorCode::kInvalidRequest, "-a takes [user@]host, of letters, digits, '.', '-' and ':'");
  return Host(address, ssh_port);
}

std::string Host::default_hive_id() const {
  if (local()) return service::host_name();
  std::string name = address_.substr(address_.find('@') + 1);
  std::ranges::replace_if(
      name, [](unsigned char c) { return !std::isalnum(c); }, '-');
  return name.substr(0, 64);
}

std::string Host::data_folder() const { return local() ? "hive-by-hand" : "hive"; }

std::string Host::places() const {
  return fmt::format(R"(bin="$HOME/.local/bin"; data="$HOME/.local/share/llorch/{}"; )", data_folder());
}

Result<Host::Said> Host::shell(const std::string& script, const service::Timeout& timeout, int input) const {
  std::vector<std::string> command = {"/bin/sh", "-c", script};
  if (!local())
    command = {
        "ssh",    "-o",  "ConnectTimeout=10", "-o", "ServerAliveInterval=10", "-p", std::to_string(ssh_port_), "--",
        address_, script};
  LLORCH_TRY(const service::Ran ran,
             service::run_program(std::move(command), input, service::Stderr::kOurs, timeout, local()));
  if (ran.exit_code == 255 && !local()) return fail(ErrorCode::kIo, "ssh does not reach {}", address_);
  return Said{ran.exit_code, ran.output};
}

Result<bool> Host::put_program(const std::string& name) const {
  const int fd = open((service::own_folder() + "/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(ErrorCode::kIo, "{} is not beside this program", name);
  const auto done = [&]() -> Result<bool> {
    const service::Timeout install{fmt::format("installing {}", name), service::timeouts::kInstall};
    LLORCH_TRY(const std::string digest, digest_of(fd));
    LLORCH_TRY(const Said there,
               shell(places() + fmt::format("uname -m; sha256sum \"$bin/{}\" 2>/dev/null || true", name), install));
    utsname here{};
    uname(&here);
    if (const std::string machine = first_line(there.output); machine != here.machine)
      return fail(ErrorCode::kInvalidRequest, "it is a machine of kind {}, and these programs are for {}",
                  security::sanitize(machine), here.machine);
    if (there.output.contains(digest)) return false;
    LLORCH_TRY(const Said put,
               shell(places() + fmt::format("umask 022; mkdir -p \"$bin\" && cat > \"$bin/{0}.new\" && "
                                            "chmod 755 \"$bin/{0}.new\" && mv -f \"$bin/{0}.new\" \"$bin/{0}\"",
                                            name),
                     install, fd));
    if (put.exit_code != 0) return fail(ErrorCode::kIo, "{} could not be copied", name);
    return true;
  }();
  close(fd);
  return done;
}

Result<std::string> Host::version() const {
  LLORCH_TRY(const Said said, shell(places() + R"([ -x "$bin/llorch-hive" ] || exit 7; "$bin/llorch-hive" --version)",
                                    {"asking the hive for its version", service::timeouts::kStop}));
  if (said.exit_code == 7) return fail(ErrorCode::kNotFound, "the hive's programs are not installed there");
  if (said.exit_code != 0)
    return fail(ErrorCode::kIo,
                "llorch-hive does not run there: a library that it needs may be missing (the Debian "
                "package names them)");
  return security::sanitize(first_line(said.output));
}

Status Host::start_hive(const HiveStart& how, const std::string& token) const {
  if (security::check_identifier(how.hive_id, 64))
    return fail(ErrorCode::kInvalidRequest, "--hive-id must be 1 to 64 of A-Z a-z 0-9 _ -");
  if (!holds_only(how.queen_url, ":/.-_[]") || !net::parse_url(how.queen_url))
    return fail(ErrorCode::kInvalidRequest, "--queen must be http[s]://host:port");
  if (!holds_only(how.listen, ".:")) return fail(ErrorCode::kInvalidRequest, "--listen must be an address");
  // The command is kept: a hive that has joined starts with it again, also by systemd.
  const std::string data = fmt::format(R"("$HOME/.local/share/llorch/{}")", data_folder());
  const std::string command = fmt::format(
      R"(echo $$ >{0}/hive.pid
exec "$HOME/.local/bin/llorch-hive" {1}{2} --listen {3} --port {4} --worker-port {5} --hive-id {6} --queen-url {7} --heartbeat-interval-sec {8} --data-dir {0} --log-format json
)",
      data,
      how.local_mode ? "--local-mode --queen-ca " + shell_word(how.queen_ca)
                     : "--join-token-file " + data + "/join-token",
      how.insecure_http ? " --insecure-http" : "", how.listen, how.port, how.worker_port, how.hive_id, how.queen_url,
      how.heartbeat_interval_s);
  // What a hive that runs here was started with stays until this one has joined: a failed attempt changes nothing.
  std::string prepared = fmt::format(R"(printf %s {} >"$data/start.new"; )", shell_word(command));
  if (!token.empty()) prepared += fmt::format(R"(cat > "$data/{}"; )", how.local_mode ? "node-token" : "join-token");
  const int input = as_file(token);
  Status launched = launch(prepared, "start.new", input);
  if (input >= 0) close(input);
  return launched;
}

Status Host::start_again() const { return launch("", "start", -1); }

Status Host::keep_start() const {
  LLORCH_TRY(const Said said, shell(places() + R"(mv -f "$data/start.new" "$data/start")",
                                    {"keeping how the hive is started", service::timeouts::kStop}));
  return said.exit_code == 0 ? Status() : fail(ErrorCode::kIo, "how the hive is started could not be kept there");
}

Status Host::withdraw_start() const {
  LLORCH_TRY(const bool stopped, stop_hive());
  (void)stopped;
  LLORCH_TRY(const Said said, shell(places() + R"(rm -f "$data/start.new" "$data/join-token")",
                                    {"taking back a start that has failed", service::timeouts::kStop}));
  return said.exit_code == 0 ? Status()
                             : fail(ErrorCode::kIo, "what the failed start has left could not be taken away");
}

Status Host::launch(std::string_view prepared, std::string_view file, int input) const {
  std::string script = places();
  script += R"([ -x "$bin/llorch-hive" ] || exit 7; umask 077; mkdir -p "$data"; )";
  script += kFind;
  script += R"([ -z "$p" ] || exit 5; )";
  // An attempt that was broken off: joined where its token is used up.
  script +=
      R"(if [ -e "$data/join-token" ]; then rm -f "$data/start.new" "$data/join-token"; fi; [ ! -e "$data/start.new" ] || mv -f "$data/start.new" "$data/start"; )";
  script += prepared;
  script += R"(rm -f "$data/standing"; : >>"$data/hive.log"; wc -c <"$data/hive.log" >"$data/log-start"; )";
  script += fmt::format(
      R"(cd /; setsid nohup /bin/sh "$data/{}" >>"$data/hive.log" 2>&1 </dev/null & echo $! >"$data/hive.pid")", file);
  LLORCH_TRY(const Said said, shell(script, {"starting the hive", service::timeouts::kStart}, input));
  if (said.exit_code == 5) return fail(ErrorCode::kResourceInUse, "a hive runs there already");
  if (said.exit_code == 7)
    return fail(ErrorCode::kNotFound, "the hive's programs are not installed there: `llorch hive install{}`",
                local() ? "" : " -a " + address_);
  if (said.exit_code != 0) return fail(ErrorCode::kIo, "the hive could not be started");
  return {};
}

Result<bool> Host::stop_hive() const {
  // The other side counts the seconds that the hive has, so that a slow way there takes nothing from them.
  const service::Timeout stop{"stopping the hive", service::timeouts::kStop};
  std::string script = places();
  script += kFind;
  script += fmt::format(
      R"([ -n "$p" ] || exit 4; kill -TERM "$p"; timeout {} tail --pid="$p" -s 0.1 -f /dev/null || exit 6; rm -f "$data/hive.pid")",
      stop.time.count());
  LLORCH_TRY(const Said said, shell(script, {stop.label, stop.time + std::chrono::seconds(10)}));
  if (said.exit_code == 4) return false;
  if (said.exit_code != 0) return std::unexpected(stop.error());
  return true;
}

Result<bool> Host::hive_running() const {
  LLORCH_TRY(const Said said, shell(places() + std::string(kFind) + R"([ -n "$p" ])",
                                    {"asking for the hive", service::timeouts::kStop}));
  return said.exit_code == 0;
}

bool Host::joined() const {
  const auto said = shell(places() + R"([ -e "$data/node-token" ] && [ ! -e "$data/join-token" ])",
                          {"asking whether the hive has joined", service::timeouts::kStop});
  return said && said->exit_code == 0;
}

std::string Host::standing() const {
  const auto said = shell(places() + R"(cat "$data/standing" 2>/dev/null)",
                          {"asking how the hive stands with its queen", service::timeouts::kStop});
  return said && said->exit_code == 0 ? said->output : "";
}

namespace {

/// A line of a hive: its own log, or what it said of its start ("error: CODE: message").
Error error_of(const std::string& line) {
  const auto parsed = json::parse(line, "line");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  if (o && o->contains("code"))
    return {service::code_of(json::find_text(*o, "code").value_or("")), json::find_text(*o, "message").value_or("")};
  const std::string text = o ? json::find_text(*o, "message").value_or("") : line;
  constexpr std::string_view kBegin = "error: ";
  const std::size_t colon = text.find(": ", kBegin.size());
  if (!text.starts_with(kBegin) || colon == text.npos) return {ErrorCode::kIo, text};
  return {service::code_of(text.substr(kBegin.size(), colon - kBegin.size())), text.substr(colon + 2)};
}

}  // namespace

Error Host::last_error() const {
  const Error unknown{ErrorCode::kIo, "the hive has ended, and its log cannot be read"};
  // Its last word says that it ends; why stands before, as an error. What is older than its start says nothing.
  const auto said = shell(
      places() +
          R"sh(log() { tail -c "+$(($(cat "$data/log-start") + 1))" "$data/hive.log"; }; log | grep -e '^error: ' -e '"level":"error"' | tail -n 1 | grep . || log | tail -n 1)sh",
      {"reading the hive's log", service::timeouts::kStop});
  if (!said || said->exit_code != 0) return unknown;
  Error e = error_of(first_line(security::sanitize(said->output)));
  e.message = "the hive has ended: " + e.message;
  return e;
}

Status Host::uninstall() const {
  LLORCH_TRY(const Said said, shell(places() + R"(rm -rf "$data" "$bin/llorch-hive" "$bin/llorch-worker-cpu")",
                                    {"taking the hive away", service::timeouts::kUninstall}));
  if (said.exit_code != 0) return fail(ErrorCode::kIo, "not everything could be taken away");
  return {};
}

}  // namespace llorch::keeper
