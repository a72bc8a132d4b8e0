// The colony as people and pages see it: hives, workers, the line, models.
#include "queen/queen.h"

namespace llorch::queen {

namespace {

/// Of one model, from everything that is known of it.
struct Listed {
  const colony::Model* model = nullptr;  // as a hive tells of it
  boost::json::array aliases, hives;
  bool loaded = false, online = false, fits = false;
  std::int64_t context = 0, bytes = 0;    // of a worker: its context, and its model's files
  std::string quant;                      // of one
  std::vector<std::string> capabilities;  // of one

  [[nodiscard]] std::string state() const {
    if (loaded) return "loaded";
    if (!model) return "not_downloaded";
    return online ? model->status : "asleep";
  }
  [[nodiscard]] boost::json::object json(const std::string& ref) const {
    boost::json::object meta{{"state", state()}, {"hives", hives}};
    if (const std::string& of = !model || model->quant.empty() ? quant : model->quant; model || !of.empty())
      meta["quant"] = of;
    if (const std::int64_t size = model && model->size_bytes > 0 ? model->size_bytes : bytes; model || size > 0)
      meta["size_bytes"] = size;
    if (model && model->needed_bytes > 0) meta["needed_bytes"] = model->needed_bytes;
    if (model && model->needed_bytes > 0 && online) meta["fits"] = fits;
    if (const std::int64_t own = model ? model->context : 0; own > 0) meta["model_context"] = own;
    if (context > 0) meta["context"] = context;
    if (const auto& can = capabilities.empty() && model ? model->capabilities : capabilities; !can.empty())
      meta["capabilities"] = boost::json::value_from(can);
    if (model && !model->error.empty()) meta["error"] = model->error;
    return {{"id", ref},           {"object", "model"},  {"created", 0},
            {"owned_by", "local"}, {"aliases", aliases}, {"meta", std::move(meta)}};
  }
};

bool is_held(const colony::Model& m) { return m.status != "Failed"; }

void add_hive(std::map<std::string, Listed>& all, const HiveEntry& h) {
  std::int64_t memory = 0;  // of its largest device
  for (const auto& d : h.capabilities.devices) memory = std::max(memory, d.memory_total.value_or(0));
  for (const auto& m : h.capabilities.models) {
    Listed& o = all[m.ref];
    if (!o.model || !o.online || (!is_held(*o.model) && is_held(m))) o.model = &m;
    o.online = true;
    o.fits |= m.needed_bytes > 0 && m.needed_bytes <= memory;
    o.hives.emplace_back(h.id);
  }
  for (const auto& w : h.workers) {
    if (w.state != "ready" && w.state != "busy") continue;
    Listed& o = all[w.model_ref];
    o.loaded = true;
    if (!w.capabilities.empty()) o.capabilities = w.capabilities;
    if (!w.quant.empty()) o.quant = w.quant;
    const auto figure = [&w](std::string_view name) {
      const auto* v = w.figures.if_contains(name);
      return v && v->is_number() ? v->to_number<std::int64_t>() : 0;
    };
    o.context = std::max(o.context, figure("context"));
    o.bytes = std::max(o.bytes, figure("model_bytes"));
  }
}

}  // namespace

boost::json::array models(const Queen& q) {
  std::map<std::string, Listed> all;
  const colony::Model builtin{"haiku", "builtin:haiku", "haiku", "", "Available", "", 0};
  for (const auto& [hive, held] : q.catalog().models) {
    if (q.hives().online(hive)) continue;
    for (const colony::Model& m : held) {
      if (!is_held(m)) continue;
      Listed& o = all[m.ref];
      o.model = &m, o.hives.emplace_back(hive);
    }
  }
  for (const HiveEntry* h : q.hives().online()) add_hive(all, *h);
  for (const auto& [name, ref] : q.catalog().aliases) all[ref].aliases.emplace_back(name);
  if (Listed& o = all["builtin:haiku"]; !o.online) o.model = o.model ? o.model : &builtin, o.online = o.fits = true;
  boost::json::array list;
  for (const auto& [ref, o] : all) list.push_back(o.json(ref));
  return list;
}

/// What is known of a hive that is not online: its `state`, where it is not merely offline, or a `message` that says
/// why.
static void describe_offline(const Queen& q, const std::string& id, boost::json::object& o) {
  if (const LocalHive& local = q.local_hive(); id == local.id() && q.local_hive_wanted()) {
    if (!local.failure().empty())
      o["message"] = local.failure();
    else if (!local.running())
      o["state"] = "asleep";
    else if (!local.was_heard())
      o["state"] = "starting";
    else
      o["message"] = "it runs, and does not answer";
    return;
  }
  if (net::Clock::now() - q.started() < std::chrono::seconds(q.options().heartbeat_interval_s)) o["state"] = "unheard";
}

/// A time of measurement that was so many seconds ago when it was told is longer ago now.
static void age(boost::json::object& figures, double since_s) {
  auto* ago = figures.if_contains(colony::kMeasuredAgo);
  if (ago && ago->is_number()) *ago = ago->to_number<double>() + since_s;
}

/// Of a machine, as it was told so many seconds ago.
static boost::json::object node_of(const HiveEntry& h, double since_s) {
  boost::json::object node = h.node;
  age(node, since_s);
  if (auto* gpus = node.if_contains("gpus"))
    for (auto& gpu : gpus->as_array()) age(gpu.as_object(), since_s);
  return node;
}

boost::json::object overview(const Queen& q) {
  const HiveTable& hive_table = q.hives();
  boost::json::array hives, workers;
  for (const HiveEntry* h : hive_table.online()) {
    boost::json::array devices;
    for (const auto& d : h->capabilities.devices) devices.push_back(colony::to_json(d));
    const double since_s = std::chrono::duration<double>(net::Clock::now() - h->seen).count();
    hives.push_back({{"id", h->id},
                     {"url", h->url},
                     {"version", h->version},
                     {"state", h->silent ? "unknown" : "online"},
                     {"devices", std::move(devices)},
                     {"node", node_of(*h, since_s)},
                     {"known", h->known},
                     {"via", h->via},
                     {"clock_skew_s", h->clock_skew.count()},
                     {"seen_s_ago", since_s}});
    for (const auto& w : h->workers) {
      boost::json::object o = colony::to_json(w);
      age(o, since_s);
      o["hive_id"] = h->id;
      o["inflight"] = *hive_table.inflight(h->id, w.worker_id);
      o["tokens_out"] = hive_table.tokens(h->id, w.worker_id);
      workers.push_back(std::move(o));
    }
  }
  boost::json::array offline;
  for (const HiveRow* row : q.offline_hives()) {
    boost::json::object o{
        {"id", row->id}, {"host", row->host}, {"port", row->port}, {"revoked", q.tls().is_revoked(row->id)}};
    describe_offline(q, row->id, o);
    offline.push_back(std::move(o));
  }
  const int interactive = q.line().count(false), batch = q.line().count(true);
  boost::json::object out{
      {"version", LLORCH_VERSION},
      {"uptime_s", std::chrono::duration<double>(net::Clock::now() - q.started()).count()},
      {"hives", std::move(hives)},
      {"offline", std::move(offline)},
      {"workers", std::move(workers)},
      {"queue", {{"interactive", interactive}, {"batch", batch}, {"capacity", q.options().admission_capacity}}},
      {"advice", q.advice()},
      {"pinned", boost::json::value_from(q.placer().pinned())},
      {"aliases", boost::json::value_from(q.catalog().aliases)},
      {"models", models(q)}};
  if (const Sharing* sharing = q.sharing()) out["fleet"] = sharing->fleet().json();
  return out;
}

}  // namespace llorch::queen
