// Heartbeats and terminals. A beat that is taken names only addresses that may be called: the peer's, the one given at
// joining, or this machine's where the peer is this machine; and taken again it is taken the same. It goes on into the
// queen's table of hives: what she decides and whom she stops for room are workers that the beat named. The first byte
// chooses who sends it, or that the rest is text for a terminal, cut anywhere; the second also what memory is asked
// for.
#include <algorithm>
#include <cstdint>
#include <set>
#include <string_view>

#include "base/terminal.h"
#include "colony/address.h"
#include "colony/facts.h"
#include "format/json.h"
#include "net/http_client.h"
#include "queen/hive_table.h"
#include "queen/policy.h"
#include "queen/room.h"

using namespace llorch;

namespace {

void must(bool holds) {
  if (!holds) __builtin_trap();
}

void show(std::string_view text, std::size_t cut) {
  const std::string whole = clean_for_terminal(text);
  TerminalCleaner pieces;
  std::string out = pieces.push(text.substr(0, cut));
  out += pieces.push(text.substr(cut));
  must(out + pieces.finish() == whole);
  must(clean_for_terminal(whole) == whole);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const auto c = static_cast<unsigned char>(whole[i]);
    must((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t');
    if (c == 0xC2) must(i + 1 < whole.size() && static_cast<unsigned char>(whole[i + 1]) >= 0xA0);  // no C1
  }
}

void check_address(std::string_view url, const colony::Origin& from) {
  const auto parsed = net::parse_url(url);
  must(parsed.has_value());
  const std::string host = colony::normal_host(parsed->host);
  must(host == colony::normal_host(from.peer) || (!from.joined.empty() && host == colony::normal_host(from.joined)) ||
       (colony::is_own_address(from.peer) && colony::is_own_address(host)));
}

void check_decision(const queen::HiveTable& table, const std::vector<colony::WorkerFacts>& workers) {
  queen::Requirements wanted;
  wanted.model = workers.empty() ? "builtin:haiku" : workers.front().model_ref;
  const auto view = table.view(wanted, {});
  must(view.size() <= 1);
  const queen::Decision d = queen::decide(view, wanted);
  must(d.hive.empty() || d.hive == table.all().begin()->first);
  if (d.kind != queen::Decision::Kind::kUse) return;
  must(std::ranges::any_of(workers, [&](const auto& w) {
    return w.worker_id == d.worker_id && w.model_ref == wanted.model && (w.state == "ready" || w.state == "busy");
  }));
}

/// Sums of what hives say are counted with in 64 bits: the undefined-behaviour sanitizer watches.
void check_room(const queen::HiveTable& table, const std::string& id, std::int64_t need) {
  const queen::ShortOfRoom crowded{
      .hive = id, .device = {}, .need = need, .capacity = colony::kFigureMax, .workers = table.workers_of(id, {})};
  const queen::RoomPlan plan = queen::plan_room(crowded);
  must(plan.hive.empty() || plan.hive == id);
  std::set<std::string> stopped;
  std::int64_t freed = 0;
  for (const auto& v : plan.victims) {
    must(v.hive == id && v.settled && !v.pinned);
    stopped.insert(v.worker_id);
    freed += v.memory.value_or(need);
  }
  must(stopped.size() == plan.victims.size());
  if (plan.kind == queen::RoomPlan::Kind::kEvict) must(!plan.victims.empty() && freed >= need);
  must(queen::plan_room(std::vector{crowded, crowded}).kind == plan.kind);
  (void)queen::choose_idle(crowded.workers);
}

void enter(colony::HiveBeat beat, const boost::json::object& told, std::int64_t need) {
  const auto now = net::Clock::time_point(std::chrono::hours(1));
  queen::HiveTable table({.now = [now] { return now; }});
  auto peer = service::make_peer(beat.url);
  must(peer.has_value());
  const auto effect = table.beat(beat, *peer);
  must(effect && effect->added && effect->hive->id == beat.hive_id);
  if (const auto* more = told.if_contains("capabilities"))
    if (auto capabilities = colony::read_capabilities(*more)) {
      effect->hive->capabilities = *std::move(capabilities), effect->hive->known = true;
      table.update(*effect->hive);
    }
  const auto again = table.beat(beat, *peer);
  must(again && !again->added);
  check_decision(table, beat.workers);
  check_room(table, beat.hive_id, need);
  for (const auto& w : beat.workers) table.forget_worker(beat.hive_id, w.worker_id);
  table.erase(beat.hive_id);
  must(table.all().empty() && table.view_all().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (data[0] % 4 == 0) {
    show(text, data[1] % (text.size() + 1));
    return 0;
  }
  const colony::Origin origins[] = {
      {"127.0.0.1", "127.0.0.1", ""}, {"203.0.113.7", "203.0.113.1", "box.lan"}, {"2001:db8::7", "2001:db8::1", ""}};
  const colony::Origin& from = origins[data[0] % 4 - 1];
  if (data[1] % 2 == 0) {
    if (const auto url = colony::settle_url(text, from)) {
      check_address(*url, from);
      const auto again = colony::settle_url(*url, from);
      must(again && *again == *url);
    }
    return 0;
  }
  const auto json = json::parse(text, "heartbeat");
  if (!json) return 0;
  auto beat = colony::read_beat(*json);
  if (!beat || !colony::settle_addresses(*beat, from)) return 0;
  check_address(beat->url, from);
  for (const auto& w : beat->workers)
    if (!w.uri.empty()) check_address(w.uri, from);
  auto again = *beat;
  must(colony::settle_addresses(again, from).has_value() && again.url == beat->url);
  enter(*std::move(beat), json->get_object(), std::int64_t{1} << data[1] / 5);
  return 0;
}
