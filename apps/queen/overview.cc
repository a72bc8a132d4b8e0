// The colony as people and pages see it: hives, workers, the line, models.
#include "queen/queen.h"

namespace llorch::queen {

boost::json::array models(const HiveTable& hives) {
  std::map<std::string, boost::json::object> all;
  for (const HiveEntry* h : hives.online()) {
    for (const auto& m : h->capabilities.models) {
      auto& o = all[m.ref];
      if (o.empty())
        o = {{"id", m.ref},
             {"object", "model"},
             {"created", 0},
             {"owned_by", "local"},
             {"meta", {{"quant", m.quant}, {"size_bytes", m.size_bytes}, {"state", m.status}, {"fits", true}}}};
      if (!m.capabilities.empty()) o["meta"].as_object()["capabilities"] = boost::json::value_from(m.capabilities);
      auto& at = o["meta"].as_object()["hives"];
      if (!at.is_array()) at = boost::json::array();
      at.as_array().emplace_back(h->id);
    }
    for (const auto& w : h->workers)
      if (w.state == "ready" || w.state == "busy") {
        auto& o = all[w.model_ref];
        if (o.empty())
          o = {{"id", w.model_ref},
               {"object", "model"},
               {"created", 0},
               {"owned_by", "local"},
               {"meta", boost::json::object()}};
        o["meta"].get_object()["state"] = "loaded";
        if (!w.capabilities.empty()) o["meta"].get_object()["capabilities"] = boost::json::value_from(w.capabilities);
      }
  }
  if (all.empty())
    all["builtin:haiku"] = {{"id", "builtin:haiku"},
                            {"object", "model"},
                            {"created", 0},
                            {"owned_by", "local"},
                            {"meta", {{"state", "Available"}, {"fits", true}}}};
  boost::json::array list;
  for (auto& [ref, o] : all) list.push_back(std::move(o));
  return list;
}

boost::json::object overview(const Queen& q) {
  const HiveTable& hive_table = q.hives();
  boost::json::array hives, workers;
  for (const HiveEntry* h : hive_table.online()) {
    boost::json::array devices;
    for (const auto& d : h->capabilities.devices) devices.push_back(colony::to_json(d));
    hives.push_back({{"id", h->id},
                     {"url", h->url},
                     {"version", h->version},
                     {"state", h->silent ? "unknown" : "online"},
                     {"devices", std::move(devices)},
                     {"node", h->node},
                     {"known", h->known},
                     {"clock_skew_s", h->clock_skew.count()},
                     {"seen_s_ago", std::chrono::duration<double>(net::Clock::now() - h->seen).count()}});
    for (const auto& w : h->workers) {
      boost::json::object o = colony::to_json(w);
      o["hive_id"] = h->id;
      o["inflight"] = *hive_table.inflight(h->id, w.worker_id);
      o["tokens_out"] = hive_table.tokens(h->id, w.worker_id);
      workers.push_back(std::move(o));
    }
  }
  boost::json::array offline;
  for (const HiveRow* row : q.offline_hives())
    offline.push_back(
        {{"id", row->id}, {"host", row->host}, {"port", row->port}, {"revoked", q.tls().is_revoked(row->id)}});
  const int interactive = q.line().count(false), batch = q.line().count(true);
  return {{"version", LLORCH_VERSION},
          {"uptime_s", std::chrono::duration<double>(net::Clock::now() - q.started()).count()},
          {"hives", std::move(hives)},
          {"offline", std::move(offline)},
          {"workers", std::move(workers)},
          {"queue", {{"interactive", interactive}, {"batch", batch}, {"capacity", q.options().admission_capacity}}},
          {"advice", q.advice()},
          {"pinned", boost::json::value_from(q.placer().pinned())},
          {"aliases", boost::json::value_from(q.catalog().aliases)},
          {"models", models(hive_table)}};
}

}  // namespace llorch::queen
