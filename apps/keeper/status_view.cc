#include "keeper/status_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/human.h"
#include "base/status_line.h"
#include "format/json.h"
#include "keeper/table.h"

namespace llorch::keeper {
namespace {

std::string text(const boost::json::value& v, const char* key) {
  const auto* o = v.if_object();
  return o ? json::find_text(*o, key).value_or("") : "";
}
/// 0 where it is not known.
double number(const boost::json::value& v, const char* key) {
  const auto* o = v.if_object();
  const auto* n = o ? o->if_contains(key) : nullptr;
  return n && n->is_number() ? n->to_number<double>() : 0;
}
bool is_known(const boost::json::value& v, const char* key) {
  const auto* o = v.if_object();
  const auto* n = o ? o->if_contains(key) : nullptr;
  return n && n->is_number();
}

/// The name is as long as there is room for it.
std::string device_line(const boost::json::value& d, std::size_t columns) {
  const std::string problem = text(d, "problem");
  const std::string begin = fmt::format("  device {:<8} ", text(d, "id")),
                    end = fmt::format(", {} of {} free", size_text(number(d, "memory_free_bytes")),
                                      size_text(number(d, "memory_total_bytes")));
  const std::string name = text(d, "name");
  const std::size_t taken = begin.size() + end.size();
  return fmt::format(
      "{}{}{}{}\n", begin,
      columns == 0 ? std::string_view(name) : cut_to_columns(name, columns > taken ? columns - taken : 0), end,
      problem.empty() ? "" : ": not used: " + problem);
}

constexpr double kMiB = 1 << 20;

/// What a worker's process takes, of what its hive has promised it: of the GPU's memory where its model is there.
std::string memory(const boost::json::value& w) {
  const char* figure = text(w, "device") == "cpu" ? "rss_mb" : "vram_mb";
  const std::string taken = is_known(w, figure) ? size_text(number(w, figure) * kMiB) : "?";
  return is_known(w, "memory_bytes") ? taken + " of " + size_text(number(w, "memory_bytes")) : taken;
}

/// Tokens per second; "-" before the first ones.
std::string speed(const boost::json::value& w, const char* key) {
  const double rate = number(w, key);
  return rate <= 0 ? "-" : rate < 10 ? fmt::format("{:.1f}", rate) : fmt::format("{:.0f}", rate);
}

std::string whole(const boost::json::value& w, const char* key) {
  return is_known(w, key) ? fmt::format("{:.0f}", number(w, key)) : "-";
}

std::vector<std::string> worker_row(const boost::json::value& w, bool pinned) {
  const std::string quant = text(w, "quant");
  return {text(w, "hive_id") + "/" + text(w, "worker_id"),  // ids are a hive's own: two hives may have the same
          text(w, "model_ref"),
          quant.empty() ? "-" : quant,
          whole(w, "context"),
          text(w, "device"),
          text(w, "state"),
          memory(w),
          speed(w, "tokens_in_per_s"),
          speed(w, "tokens_out_per_s"),
          whole(w, "inflight"),
          whole(w, "queue_depth"),
          pinned                       ? "pinned"
          : is_known(w, "sleeps_in_s") ? duration_text(std::round(number(w, "sleeps_in_s")))
                                       : "-"};
}

std::string offline_line(const boost::json::value& h) {
  const std::string host = text(h, "host");  // none until it has spoken
  const std::string at = host.empty() ? "" : fmt::format(" at {}:{:.0f}", host, number(h, "port"));
  const auto* revoked = h.is_object() ? h.get_object().if_contains("revoked") : nullptr;
  const std::string state = text(h, "state"), message = text(h, "message");
  return fmt::format("hive {}{}: {}{}{}\n", text(h, "id"), at,
                     state == "starting"  ? "starting"
                     : state == "asleep"  ? "asleep: the queen starts it when it is needed"
                     : state == "unheard" ? "starting, or offline: the queen has just begun to listen"
                                          : "offline",
                     message.empty() ? "" : ": " + message,
                     revoked && *revoked == true ? "; its certificates were revoked: it must join again" : "");
}

/// The queens that share a store with this one, and how that is.
std::string fleet_lines(const boost::json::object& fleet) {
  const auto is_true = [](const boost::json::value& v, const char* key) {
    const auto* found = v.is_object() ? v.get_object().if_contains(key) : nullptr;
    return found && *found == true;
  };
  const boost::json::value f = fleet;
  std::string out;
  for (const auto& q : list(f, "queens"))
    out += fmt::format("queen {} at {}{}{}\n", text(q, "id"), text(q, "url"),
                       text(q, "id") == text(f, "id") ? ", this one" : "", is_true(q, "leads") ? ", leads" : "");
  return out + fmt::format("store: {}, {}\n", text(f, "store"),
                           is_true(f, "healthy")
                               ? "answers"
                               : fmt::format("has not answered for {}: {}",
                                             duration_text(std::round(number(f, "lag_s"))), text(f, "problem")));
}

}  // namespace

const boost::json::array& list(const boost::json::value& v, const char* key) {
  static const boost::json::array empty;
  const auto* o = v.if_object();
  const auto* a = o ? json::find_array(*o, key) : nullptr;
  return a ? *a : empty;
}

std::string status_text(const boost::json::value& status, std::size_t columns) {
  std::string out = fmt::format("queen {}, awake", text(status, "version"));
  if (is_known(status, "uptime_s"))
    out += fmt::format(" for {}", duration_text(std::round(number(status, "uptime_s"))));
  out += '\n';
  const auto* whole_status = status.if_object();
  if (const auto* fleet = whole_status ? json::find_object(*whole_status, "fleet") : nullptr)
    out += fleet_lines(*fleet);
  if (list(status, "hives").empty()) out += "no hive is online\n";
  for (const auto& h : list(status, "hives")) {
    out += fmt::format("hive {} at {}\n", text(h, "id"), text(h, "url"));
    for (const auto& d : list(h, "devices")) out += device_line(d, columns);
    std::vector<std::vector<std::string>> rows;
    for (const auto& w : list(status, "workers")) {
      if (text(w, "hive_id") != text(h, "id")) continue;
      const bool pinned = std::ranges::count(list(status, "pinned"), boost::json::value(text(w, "model_ref"))) > 0;
      rows.push_back(worker_row(w, pinned));
    }
    if (!rows.empty())
      out +=
          table_text({"worker", "model", "quant", "context", "device", "state", "memory", "tok/s in", "tok/s out",
                      "running", "queued", "sleeps in"},
                     rows, 2,
                     {columns,
                      {"tok/s in", "quant", "queued", "device", "sleeps in", "context", "running", "memory", "state"},
                      "model"});
  }
  for (const auto& h : list(status, "offline")) out += offline_line(h);
  const auto* o = status.if_object();
  if (const auto* q = o ? o->if_contains("queue") : nullptr)
    out += fmt::format("queue: {:.0f} interactive, {:.0f} batch\n", number(*q, "interactive"), number(*q, "batch"));
  return out;
}

}  // namespace llorch::keeper
