#include "keeper/session.h"

#include "base/integer.h"
#include "security/certificate.h"
#include "service/tls_files.h"

#include "base/open_file.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "address_file.h"
#include "base/human.h"
#include "base/ids.h"
#include "base/status_line.h"
#include "colony/address.h"
#include "daemon_flags.h"
#include "format/json.h"
#include "keeper/answer_view.h"
#include "keeper/attachment.h"
#include "keeper/event_reader.h"
#include "keeper/hints.h"
#include "keeper/membership.h"
#include "net/http_client.h"
#include "security/auth.h"
#include "service/plain_http.h"
#include "service/process.h"
#include "service/remote.h"

namespace llorch::keeper {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kRootBytesMax = 64u << 10, kAddressBytesMax = 1u << 10;
/// A job's stream has a comment every 5 s: whoever is silent for longer than that has gone, and does not compute.
constexpr std::chrono::seconds kSignsOfLife{15};
/// For an answer about the daemon itself, as a whole: one that drips must not hold a person up.
constexpr std::chrono::seconds kShortQuestion{5};

}  // namespace

static std::string queen_at_port(std::string_view port) { return fmt::format("http://127.0.0.1:{}", port); }
constexpr const char* kQueenPort = "LLORCH_QUEEN_PORT";

void Common::add(CLI::App& app) {
  data_dir = cli::data_directory();
  if (const std::string port = cli::variable(kQueenPort); !port.empty()) queen = queen_at_port(port);
  queen_program = service::own_folder() + "/llorch-queen";
  queen_option = app.add_option("--queen", queen,
                                "the queen's address; on a machine that has joined a colony, by default its queen's")
                     ->capture_default_str()
                     ->envname("LLORCH_QUEEN_URL");
  constexpr const char* kOwn = "own";  // what no address is
  app.add_flag(fmt::format("--direct{{{}}}", kOwn), direct,
               "ask this machine's hive itself, without a queen; --direct=URL: another hive")
      ->transform([this](const std::string& given) {
        direct_is_own_ = given == kOwn;
        return direct_is_own_ ? std::string(kOwnHive) : given;
      });
  app.add_option("--token-file", token_file, "file with the API key (also LLORCH_API_TOKEN_FILE)");
  app.add_option("--ca-file", ca_file,
                 "root certificate of the colony (PEM), for https; on the queen's machine it is found by itself")
      ->envname("LLORCH_CA_FILE");
  app.add_flag("--insecure-http", insecure_http,
               "http:// to other machines: everybody on the network can read keys, prompts and answers")
      ->envname("LLORCH_INSECURE_HTTP");
  app.add_option("--correlation-id", correlation_id, "stands in every log of the request");
  app.add_option("--timeout", timeout_s,
                 "seconds of silence after which a daemon has gone; a long computation is not silent")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  app.add_option("--data-dir", data_dir, "of a queen that is started here")->capture_default_str();
  app.add_option("--queen-program", queen_program, "what is started when no queen answers")->capture_default_str();
  app.add_option("--queen-flag", queen_flags, "passed on to a queen that is started here")->allow_extra_args(false);
  app.add_flag("--json", json, "every event, result and error as a line of JSON");
  app.add_flag("--quiet", quiet, "no narration");
  app.add_option(
         "--narration", narration,
         "how steps are told: human (on a terminal one line that is updated), steps (a line for each), cute or story")
      ->check(CLI::IsMember({"human", "steps", "cute", "story"}))
      ->capture_default_str()
      ->envname("LLORCH_NARRATION");
  app.add_flag("--no-autostart", no_autostart, "never start a queen");
  cli::add_print_config(app, "keeper");
  app.fallthrough();
}

std::string Common::own_queen() const {
  return queen_option ? queen_option->get_default_str() : std::string(kOwnQueen);
}

void take_queen_settings(CLI::App& command, const std::string& section, const std::string& key,
                         const std::string& value) {
  if (section != "queen") return;
  const auto set = [&](const char* flag, const std::string& text) {
    CLI::Option* option = command.get_option_no_throw(flag);
    if (option) option->run_callback_for_default()->default_val(text);
  };
  if (key == "data-dir") {
    cli::check_data_dir(value);
    if (cli::variable(cli::kDataDirVariable).empty()) set("--data-dir", value);
  }
  const bool makes_a_unit = command.get_name() == "install";  // whose arguments would come before the file
  if (key == "listen" && makes_a_unit) set("--listen", value);
  if (key != "port") return;
  const auto port = parse_integer<int>(value);
  if (!port || *port < 1024 || *port > 65535)
    throw CLI::ValidationError("'port' of [queen]",
                               fmt::format("must be a whole number from 1024 to 65535, not {}", value));
  if (cli::variable(kQueenPort).empty()) set("--queen", queen_at_port(value));
  if (makes_a_unit) set("--port", value);
}

/// The colony's root, as it was given, or of a queen of this machine; empty: none.
static std::string root_file(const Common& c) {
  const std::string own = c.data_dir + "/ca/root.pem";
  return !c.ca_file.empty() ? c.ca_file : access(own.c_str(), F_OK) == 0 ? own : "";
}

std::string Common::colony() const {
  if (queen_given() || own_queen_only || !direct.empty()) return "";
  const auto m = membership_elsewhere(data_dir);
  return m ? m->queen_url : "";
}

static bool is_here(const std::string& host) { return security::is_loopback(host) || colony::is_own_address(host); }

bool Common::of_this_machine() const {
  const auto url = net::parse_url(address());
  return url && is_here(url->host);
}

void Common::adopt_membership() {
  if (!direct.empty()) {
    const auto m = own_membership();
    if (direct_is_own_) {
      const bool joined = m && membership_elsewhere(data_dir);
      if (joined && !m->tls_name.empty()) direct = fmt::format("https://127.0.0.1:{}", m->port);
      const auto kept = read_text_file(hive_address_file(joined ? m->folder : data_dir + "/hive"), kAddressBytesMax);
      if (kept && net::parse_url(*kept)) direct = *kept;
    }
    const auto url = net::parse_url(direct);
    if (!m || !url || !url->tls || url->port != m->port || !is_here(url->host)) return;
    // Its certificate names no address that every machine has: it is known by its name in the colony, which is asked
    // for by those who show one.
    direct_name_ = m->tls_name, direct_own_ = m->own;
    if (ca_file.empty()) ca_file = m->root_file;
    if (token_file.empty() && cli::variable("LLORCH_API_TOKEN_FILE").empty() &&
        cli::variable("LLORCH_API_TOKEN").empty())
      token_file = m->token_file();
    return;
  }
  if (queen_given() || own_queen_only) return;
  const auto m = membership_elsewhere(data_dir);
  if (!m) return;
  queen = m->queen_url;
  if (ca_file.empty()) ca_file = m->root_file;
}

Result<std::string> Common::root_certificate() const {
  const std::string file = root_file(*this);
  if (file.empty()) return "";
  auto text = read_text_file(file, kRootBytesMax);
  if (!text) return fail(ErrorCode::kInvalidRequest, "the root certificate cannot be read: {}", text.error().message);
  return text;
}

Result<net::ClientRequest> Common::request(std::string_view path) const {
  net::ClientRequest r;
  LLORCH_TRY(const net::Url base, net::parse_url(address()));
  LLORCH_OK(service::check_plain_http(base, insecure_http));
  r.url = base.below(path);
  if (!r.url.tls) return r;
  net::TlsClient::Options options;
  LLORCH_TRY(options.authorities, root_certificate());
  if (options.authorities.empty()) return r;  // a certificate of the public's
  options.accepts = service::accept_daemons(), options.own = direct_own_;
  auto believed = net::TlsClient::make(options);
  if (!believed)
    return fail(ErrorCode::kInvalidRequest, "{} is no root certificate (PEM): {}", root_file(*this),
                believed.error().message);
  r.tls = *std::move(believed);
  // The queen is known by her name in the colony, wherever she is; another machine's hive, by its address.
  r.tls_name = direct.empty() ? security::queen_tls_name() : direct_name_;
  return r;
}

Session::Session(const Common& common) : common_(common) {
  common_.adopt_membership();
  asked_ = common_.queen;
  std::string warning;
  const auto token = security::find_operator_token(common_.token_file, warning);
  if (!token)
    token_read_ = fail(ErrorCode::kInvalidRequest, "{}", token.error().message);
  else if (*token)
    token_ = **token;
}

Session::~Session() { leave_queen(); }

void Session::pause(milliseconds time) { (void)poll(nullptr, 0, static_cast<int>(time.count())); }

void Session::say(const std::string& line) const {
  if (common_.quiet) return;
  if (common_.json)
    cli::print({{"type", "narration"}, {"formatted", "[keeper] " + line}, {"actor", "keeper"}, {"human", line}});
  else
    show_dim_line(stderr, "[keeper] " + line);
}

void Session::step(const std::string& line) const {
  if (common_.quiet || common_.json) return say(line);
  show_step(common_, "[keeper] " + line);
}

Result<Session::Answer> Session::once(const std::string& method, const std::string& path, const std::string& body,
                                      int idle_s, std::chrono::seconds total) {
  LLORCH_TRY(net::ClientRequest r, common_.request(path));
  r.method = method;
  if (!body.empty()) r.headers.add("Content-Type", "application/json");
  if (!token_.empty()) r.headers.add("Authorization", "Bearer " + token_);
  if (!common_.correlation_id.empty()) r.headers.add("X-Correlation-Id", common_.correlation_id);
  r.body = body;
  r.idle_timeout = std::chrono::seconds(idle_s), r.total_timeout = total;
  LLORCH_TRY(const net::Answer a, net::fetch(std::move(r)));
  return Answer{a.status, a.body, a.headers.get("Retry-After").value_or("")};
}

/// What `common`'s address answers to GET /health, which takes no key.
static Result<net::Answer> probe(const Common& common) {
  LLORCH_TRY(net::ClientRequest r, common.request("/health"));
  r.idle_timeout = r.total_timeout = kShortQuestion;
  return net::fetch(std::move(r));
}

bool speaks_other_scheme(const std::string& address) {
  auto url = net::parse_url(address);
  if (!url) return false;
  url->tls = !url->tls;
  net::ClientRequest r;
  r.url = url->below("/health");
  r.idle_timeout = r.total_timeout = kShortQuestion;
  const auto a = net::fetch(std::move(r));
  if (a) return true;
  // Whoever shows a certificate speaks TLS, whether it is believed or not.
  return url->tls && a.error().message.starts_with(net::kNoSecureConnection) &&
         a.error().message.contains("certificate");
}

Result<bool> Session::answers() {
  LLORCH_OK(common_.request("/health"));
  const auto a = probe(common_);
  const bool as_asked = !common_.direct.empty() || common_.queen == asked_;
  if (!a && as_asked && a.error().message.starts_with(net::kNoSecureConnection) &&
      a.error().message.contains("certificate"))
    return fail(ErrorCode::kInvalidRequest,
                "{}: give the colony's root certificate with --ca-file (`llorch ca show --pem` on the queen's machine "
                "prints it)",
                a.error().message);
  // A queen of this machine is looked for by both schemes.
  const auto url = net::parse_url(common_.address());
  if (!a && as_asked && !security::is_loopback(url->host) && !a.error().message.starts_with("cannot resolve") &&
      speaks_other_scheme(common_.address()))
    return fail(ErrorCode::kInvalidRequest, "{} answers, and speaks {}: give its address as {}://{}", common_.address(),
                url->tls ? "plain http" : "https", url->tls ? "http" : "https",
                common_.address().substr(common_.address().find("://") + 3));
  if (!a) {
    foreign_ = foreign_ || a.error().message.starts_with("malformed answer from");
    return false;
  }
  const auto body = json::parse(a->body, "answer");
  const auto* o = body ? body->if_object() : nullptr;
  const std::string says = o ? json::find_text(*o, "status").value_or("healthy") : "";
  if (a->status == 200 && says == "healthy") return true;
  const auto* refusal = o ? json::find_object(*o, "error") : nullptr;
  if (a->status == 200 || !refusal || !refusal->contains("code")) {
    foreign_ = true;
    return false;
  }
  const Status refused = service::check({a->status, body.value_or(boost::json::value()), {}});
  if (refused || refused.error().code != ErrorCode::kHostNotAllowed) return false;
  return fail(ErrorCode::kHostNotAllowed, "the daemon at {} answers, but not by that name: start it with --allow-host",
              common_.address());
}

std::vector<std::string> Session::places() const {
  std::vector<std::string> all{asked_};
  const auto add = [&](const std::string& place) {
    if (net::parse_url(place) && std::ranges::find(all, place) == all.end()) all.push_back(place);
  };
  if (asked_ == common_.own_queen())
    if (const auto kept = read_text_file(queen_address_file(common_.data_dir), kAddressBytesMax)) add(*kept);
  // A queen of this machine that serves others speaks TLS on every address.
  const auto url = net::parse_url(asked_);
  if (url && !url->tls && security::is_loopback(url->host) &&
      access((common_.data_dir + "/ca/root.pem").c_str(), F_OK) == 0)
    add("https" + asked_.substr(4));
  return all;
}

Result<bool> Session::awake() {
  LLORCH_OK(token_read_);
  LLORCH_OK(common_.root_certificate());  // also where nothing would ask for it: it was given, and cannot be used
  if (!common_.direct.empty()) return answers();
  found_ = foreign_ = false;
  bool foreign = false;  // at the address that was asked for
  for (const std::string& place : places()) {
    common_.queen = place;
    LLORCH_TRY(const bool here, answers());
    if (here) return found_ = true;
    foreign |= foreign_ && place == asked_;
  }
  common_.queen = asked_;
  if (foreign) return fail(ErrorCode::kIo, "something answers at {}, and it is no queen of llama-orch", asked_);
  return false;
}

Status Session::find() {
  if (found_) return {};
  LLORCH_TRY(const bool here, awake());
  if (here) return {};
  return fail(ErrorCode::kIo, "the {} at {} does not answer", common_.direct.empty() ? "queen" : "hive",
              common_.address());
}

Status Session::check_version() {
  const auto info = once("GET", "/v1/info", "", 5, kShortQuestion);
  if (!info || info->status != 200) return {};  // what is asked next says why
  const auto parsed = json::parse(info->body, "answer");
  if (const auto* o = parsed ? parsed->if_object() : nullptr) {
    const auto* ends = o->if_contains("ends_when_unused");
    ends_when_unused_ = ends && *ends == true;
  }
  const auto theirs = parsed && parsed->is_object() ? json::find_text(parsed->get_object(), "version") : std::nullopt;
  const auto major = [](std::string_view version) { return version.substr(0, version.find('.')); };
  if (!theirs || major(*theirs) == major(LLORCH_VERSION)) return {};
  return fail(ErrorCode::kVersionMismatch, "the daemon at {} is version {}, this program is {}", common_.address(),
              *theirs, LLORCH_VERSION);
}

Result<boost::json::value> Session::call(const std::string& method, const std::string& path,
                                         const boost::json::value& body) {
  LLORCH_OK(find());
  const std::string text = body.is_null() ? "" : boost::json::serialize(body);
  LLORCH_OK(check_utf8(text, "the request"));
  for (int attempt = 0;; ++attempt) {
    auto a = once(method, path, text, common_.timeout_s);
    if (!a) {
      if (attempt >= 2 || method != "GET") return std::unexpected(a.error());
      pause(milliseconds(200 << attempt));
      continue;
    }
    auto parsed = a->body.empty() ? boost::json::value() : json::parse(a->body, "answer");
    const Status s = service::check({a->status, parsed.value_or(boost::json::value()), {}});
    if (s && !parsed) return fail(ErrorCode::kIo, "the answer to {} {} is no JSON", method, path);
    if (s) return parsed;
    if (!wait_to_retry(a->status, a->retry_after, s.error(), attempt)) return std::unexpected(s.error());
  }
}

bool Session::wait_to_retry(int status, const std::string& retry_after, const Error& error, int attempt) const {
  if ((status != 429 && status != 503) || attempt >= 4) return false;
  // As long as the queen asks, then 1, 2 and 4 s (K-06).
  const int wait = attempt == 0 ? std::clamp(parse_integer<int>(retry_after).value_or(0), 1, 30) : 1 << (attempt - 1);
  step(fmt::format("{}: trying again in {} s", name(error.code), wait));
  pause(std::chrono::seconds(wait));
  return true;
}

/// At the daemon that was asked: its key goes nowhere else.
static bool is_path(const std::string& text) {
  return text.starts_with('/') && net::parse_url("http://daemon" + text).has_value();
}

/// What of a refusal's body is kept, in bytes.
static constexpr std::size_t kRefusalBytesMax = 65'536;

Session::Followed Session::follow(net::ClientRequest request, const OnEvent& on_event, const OnInterrupt& on_interrupt,
                                  std::chrono::seconds silence_min) {
  Followed out;
  if (!token_.empty()) request.headers.add("Authorization", "Bearer " + token_);
  request.idle_timeout = std::max(std::chrono::seconds(common_.timeout_s), silence_min);
  EventReader reader(on_event);
  net::EventLoop loop;
  std::optional<Status> ended;
  std::string refusal;
  net::ClientCallbacks on;
  on.on_head = [&](int status, const net::Headers& headers) {
    out.status = status, out.retry_after = headers.get("Retry-After").value_or("");
  };
  on.on_data = [&](std::string_view bytes) {
    if (out.status == 200 && !reader.push(bytes)) loop.stop();
    if (out.status != 200 && refusal.size() < kRefusalBytesMax) refusal += bytes;
  };
  on.on_end = [&](Status s) {
    ended = std::move(s);
    loop.stop();
  };
  const net::Call following = net::start_call(loop, std::move(request), std::move(on));
  net::Call cancelling;
  loop.on_signals([&](int count) {
    out.interrupted = true;
    if (count > 1 || !on_interrupt) return loop.stop();
    cancelling = on_interrupt(loop);
  });
  loop.run();
  if (out.interrupted) return out;
  if (ended && !*ended) {
    out.whole = fail(ErrorCode::kIo, "STREAM_TRUNCATED: {}", ended->error().message);
    return out;
  }
  if (out.status != 200) {
    const auto value = json::parse(refusal, "answer");
    out.whole = service::check({out.status, value ? *value : boost::json::value(), {}});
  }
  if (out.whole) out.whole = reader.finish();
  return out;
}

Result<Outcome> Session::run(const boost::json::object& order, const OnEvent& on_event) {
  LLORCH_TRY(const auto made, call("POST", "/v1/jobs", order));
  const auto* o = made.if_object();
  const auto url = o ? json::find_text(*o, "sse_url") : std::nullopt,
             id = o ? json::find_text(*o, "job_id") : std::nullopt;
  if (!url || !id) return fail(ErrorCode::kInternal, "the queen's answer lacks job_id or sse_url");
  if (!is_path(*url) || !is_path("/v1/jobs/" + *id))
    return fail(ErrorCode::kInternal, "job_id or sse_url in the queen's answer is no path");
  Outcome out;
  std::optional<Error> error;
  const auto on_any = [&](std::string_view type, const boost::json::object& data) {
    out.text += piece_of(type, data).content;
    if (type == "result" && data.contains("result")) out.result = data.at("result");
    if (type == "end") out.end = data;
    if (type == "error")
      error = Error{service::code_of(json::find_text(data, "code").value_or("")),
                    json::find_text(data, "message").value_or("the job failed")};
    if (on_event) on_event(type, data);
  };
  LLORCH_TRY(net::ClientRequest r, common_.request(*url));
  LLORCH_TRY(net::ClientRequest cancel, common_.request(net::url_path("/v1/jobs").segment(*id).text()));
  cancel.method = "DELETE";
  if (!token_.empty()) cancel.headers.add("Authorization", "Bearer " + token_);
  const Followed followed = follow(
      std::move(r), on_any, [&](net::EventLoop& loop) { return net::start_call(loop, cancel, {}); }, kSignsOfLife);
  out.interrupted = followed.interrupted;
  if (out.interrupted) return out;
  if (error) return std::unexpected(*error);
  LLORCH_OK(followed.whole);
  return out;
}

int complain(const Common& common, const Error& error, std::string_view hint) {
  keep_status();  // what was going on
  const std::string own = hint.empty() ? hint_for(common, error) : "";
  if (hint.empty()) hint = own;
  if (common.json)
    show_json(stdout, boost::json::serialize(boost::json::object{
                          {"error", {{"code", name(error.code)}, {"message", error.message}, {"suggestion", hint}}}}));
  else
    show(stderr, "error: %s: %s\n  %s\n", std::string(name(error.code)).c_str(), error.message.c_str(),
         std::string(hint).c_str());
  return error.code == ErrorCode::kInvalidRequest ? 2 : 1;
}

namespace {

/// A transfer or a load under way, for the status line; empty: `data` is of something else.
std::string progress_text(const boost::json::object& data) {
  const auto number = [&](const char* name) {
    const auto* v = data.if_contains(name);
    return v && v->is_number() ? v->to_number<double>() : 0.0;
  };
  if (const double percent = number("percent"); json::find_text(data, "stage") == "loading" && percent > 0)
    return fmt::format("loading {}  {} left", bar_text(percent / 100),
                       duration_text(number("seconds") * (100 - percent) / percent));
  const double done = number("bytes_downloaded"), total = number("bytes_total"), speed = number("speed_mbps") * 1e6;
  if (json::find_text(data, "stage") != "downloading" || total <= 0) return "";
  std::string text = fmt::format("downloading {}  {} of {}", bar_text(done / total), size_text(done), size_text(total));
  if (speed > 0) text += fmt::format("  {}/s  {} left", size_text(speed), duration_text((total - done) / speed));
  return text;
}

void print_step(const Common& common, const boost::json::object& data) {
  const auto told = json::find_text(data, common.narration);  // a step without such a text is told as it is
  const std::string plain = json::find_text(data, "formatted").value_or("");
  if (told && common.narration != "human" && common.narration != "steps")
    return show_dim_line(stderr, fmt::format("[{}] {}", json::find_text(data, "emitted_by").value_or(""), *told));
  show_step(common, plain);
}

}  // namespace

void show_step(const Common& common, const std::string& line) {
  if (common.narration == "human" && can_move_cursor(stderr)) return show_status(line);
  show_dim_line(stderr, line);
}

OnEvent printer(const Common& common) {
  return [&common](std::string_view type, const boost::json::object& data) {
    if (common.json) {
      if (!common.quiet || (type != "narration" && type != "progress")) cli::print(data);
      std::fflush(stdout);
      return;
    }
    if (common.quiet) return;
    if (type == "progress") {
      if (const std::string text = progress_text(data); !text.empty()) show_status(text);
    } else if (type == "narration" &&
               (!can_move_cursor(stderr) || json::find_text(data, "action") != "model_download_progress")) {
      print_step(common, data);  // a bar says what such a step does
    }
  };
}

int operate(const Common& common, const boost::json::object& order,
            const std::function<void(const boost::json::value&)>& print) {
  Session session(common);
  if (const Status s = session.wake(); !s) return complain(common, s.error());
  const auto outcome = session.run(order, common.json ? OnEvent() : printer(common));
  if (!outcome) return complain(common, outcome.error());
  if (outcome->interrupted) return 130;
  if (common.json)
    cli::print(outcome->result);
  else
    print(outcome->result);
  return 0;
}

}  // namespace llorch::keeper
