// How a hive speaks to its queen: it joins, it beats, and it goes to the next one where she does not answer (H-02,
// S-07).
#include <algorithm>
#include <filesystem>
#include <sstream>

#include "base/clock.h"
#include "base/open_file.h"
#include "format/json.h"
#include "hive/hive.h"
#include "hive/joining.h"
#include "security/digest.h"
#include "security/validate.h"
#include "service/log.h"
#include "service/plain_http.h"
#include "service/remote.h"

namespace llorch::hive {

using service::FlowPtr;
using service::Level;
using service::log;
using service::Procedure;

Result<service::Peer> Hive::queen_peer() const {
  return service::make_peer(queens_.now(), node_token_.empty() ? front_.token() : node_token_,
                            security::queen_tls_name());
}

void Hive::remember_queens() {
  constexpr std::size_t kBytesMax = 64u << 10;
  const std::string file = options_.data_dir + "/queens";
  if (options_.queen_started || access(file.c_str(), F_OK) != 0) return;
  const auto text = read_text_file(file, kBytesMax);
  if (!text) return log(Level::kWarn, "queens_not_kept", text.error().message);
  std::istringstream lines(*text);
  std::vector<std::string> urls;
  for (std::string url; std::getline(lines, url);) urls.push_back(url);
  (void)queens_.learn(urls);
}

void Hive::learn(const std::string& answer) {
  const auto parsed = json::parse(answer, "answer");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  watched_ = o && json::find_bool(*o, "watched").value_or(false);
  if (options_.queen_started) return;  // it ends with her who has started it
  const auto* list = o ? json::find_array(*o, "queens") : nullptr;
  if (!list) return;
  std::vector<std::string> urls;
  for (const auto& v : *list)
    if (v.is_string()) {
      const auto url = net::parse_url(std::string_view(v.get_string()));
      if (url && service::check_plain_http(*url, options_.insecure_http)) urls.emplace_back(v.get_string());
    }
  if (!queens_.learn(urls)) return;
  std::string text;
  for (const std::string& url : urls) text += url + "\n";
  files_.run({.work =
                  [file = options_.data_dir + "/queens", text] {
                    if (const Status kept = security::write_secret_file(file, text); !kept)
                      log(Level::kWarn, "queens_not_kept", kept.error().message);
                  },
              .then = [](const Status&) {},
              .owner = options_.data_dir + "/queens"});
}

std::string Hive::tls_name() const {
  return security::DaemonName{security::DaemonKind::kHive, options_.hive_id}.tls_name();
}

net::ClientRequest Hive::to_queen(std::string_view path, std::string body) const {
  net::ClientRequest call;
  call.method = "POST";
  call.url = net::parse_url(queens_.now()).value().below(path);
  call.tls_name = security::queen_tls_name();
  call.headers.add("Content-Type", "application/json");
  call.body = std::move(body);
  return call;
}

namespace {

/// Shows the one-time token and keeps what comes for it; files are read and written on their own thread.
Procedure join_colony(FlowPtr flow, Hive& hive, std::string body, std::function<void(Result<std::string>)> done) {
  auto read = [file = hive.options().join_token_file] { return security::read_secret_file(file); };
  const auto token = co_await service::in_background(flow, hive.files(), read, hive.options().join_token_file);
  if (!token) co_return done(std::unexpected(token.error()));
  if (!*token) co_return done(std::unexpected(token->error()));
  const auto queen = service::make_peer(hive.options().queen_url, parse_join_token(**token).secret);
  if (!queen) co_return done(std::unexpected(queen.error()));
  const service::Asked request("POST", "/v1/hive/join", std::move(body));
  const auto answer = co_await service::ask(flow, *queen, request);
  if (!answer) co_return done(std::unexpected(answer.error()));
  if (const Status s = service::check(*answer); !s) co_return done(std::unexpected(s.error()));
  const auto* o = answer->body.if_object();
  const auto node_token = o ? json::find_text(*o, "node_token") : std::nullopt;
  if (!node_token) co_return done(fail(ErrorCode::kInternal, "the queen's answer lacks node_token"));
  auto keep = [kept = hive.options().data_dir + "/node-token", used = hive.options().join_token_file,
               text = *node_token]() -> Result<std::string> {
    LLORCH_OK(security::write_secret_file(kept, text));
    std::error_code problem;
    std::filesystem::remove(used, problem);
    return text;
  };
  auto kept = co_await service::in_background(flow, hive.database(), keep);
  done(kept ? *std::move(kept) : Result<std::string>(std::unexpected(kept.error())));
}

}  // namespace

void Hive::join() {
  const boost::json::object body{{"hive_id", options_.hive_id}, {"token", front_.token()}, {"url", front_.url()}};
  join_colony(gate_.flow(), *this, boost::json::serialize(body), [this](Result<std::string> node_token) {
    if (stopping_) return;
    if (!node_token) {
      log(Level::kError, "join_failed", node_token.error().message, {{"code", name(node_token.error().code)}});
      return shutdown("it cannot join");
    }
    node_token_ = *std::move(node_token);
    log(Level::kInfo, "joined", fmt::format("{} belongs to the colony of {}", options_.hive_id, options_.queen_url));
    beat();
  });
}

void Hive::beat() {
  if (!queens_.any() || stopping_) return;
  revision_.clear();
  if (beating_) {
    beat_again_ = true;
    return;
  }
  send_beat();
}

void Hive::tell_figures() {
  if (reported_ && beat_failures_ == 0 && !beating_ && queens_.any() && !stopping_) send_beat();
}

std::string Hive::revision() {
  const auto now = net::Clock::now();
  if (revision_.empty() || now - revision_at_ > std::chrono::seconds(options_.heartbeat_interval_s)) {
    colony::Capabilities c = capabilities();
    for (colony::Device& d : c.devices) d.memory_free.reset();
    revision_ = security::sha256_hex(boost::json::serialize(colony::to_json(c))).substr(0, 16);
    revision_at_ = now;
  }
  return revision_;
}

void Hive::send_beat() {
  beating_ = true;
  colony::HiveBeat b;
  b.hive_id = options_.hive_id, b.url = front_.url(), b.version = LLORCH_VERSION;
  b.revision = revision();
  for (const auto& [id, w] : workers_) {
    b.workers.push_back(w->facts);
    b.workers.back().figures = figures_of(*this, *w);
  }
  b.node = node_figures();
  boost::json::object body = colony::to_json(b);
  body["ts"] = rfc3339(wall_now());
  net::ClientRequest call = to_queen("/v1/heartbeat", boost::json::serialize(body));
  call.idle_timeout = std::chrono::seconds(std::max(10, options_.heartbeat_interval_s));
  if (node_token_.empty())
    front_.sign(call.headers);
  else
    call.headers.add("Authorization", "Bearer " + node_token_);
  struct Heard {
    int status = 0;
    std::string answer;
  };
  static constexpr std::size_t kAnswerMax = 16'384;
  const auto heard = std::make_shared<Heard>();
  beat_call_ =
      net::start_call(loop_, std::move(call),
                      {.on_head = [heard](int s, const net::Headers&) { heard->status = s; },
                       .on_data =
                           [heard](std::string_view bytes) {
                             heard->answer += bytes.substr(0, kAnswerMax - std::min(kAnswerMax, heard->answer.size()));
                           },
                       .on_end = [this, heard](Status s) { beaten(heard->status, heard->answer, std::move(s)); }});
}

void Hive::beaten(int status, const std::string& answer, Status s) {
  // A queen that refuses is there: whatever she says, the hive goes on and tries again.
  if (status > 0) queen_seen_ = net::Clock::now();
  if (s && status / 100 != 2) {
    const auto parsed = json::parse(answer, "answer");
    s = service::check({status, parsed ? *parsed : boost::json::value(), {}});
    if (s) s = fail(ErrorCode::kIo, "the queen answered {}", status);
  }
  if (s) {
    learn(answer);
  } else {
    watched_ = false;
    queens_.next();
    s = std::unexpected(with_advice(s.error(), options_.hive_id));
  }
  standing_.heard(s);
  beat_failures_ = s ? 0 : beat_failures_ + 1;
  if (s) reported_ = true;
  if (!s)
    log(Level::kWarn, "heartbeat_failed", security::sanitize(s.error().message),
        {{"failures", beat_failures_}, {"status", status}});
  beating_ = false;
  if (std::exchange(beat_again_, false)) return beat();
  const int wait = s ? options_.heartbeat_interval_s * 1000
                     : std::min(options_.heartbeat_interval_s * 1000, 200 << std::min(beat_failures_, 8));
  beat_timer_ = loop_.after(std::chrono::milliseconds(wait), [this] { beat(); });
}

}  // namespace llorch::hive
