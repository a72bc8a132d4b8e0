#include "colony/facts.h"

#include <set>
#include <span>
#include <string_view>

#include "base/integer.h"
#include "security/validate.h"

namespace llorch::colony {
namespace {

using boost::json::object;
using boost::json::value;

value optional(const std::optional<std::int64_t>& v) { return v ? value(*v) : value(nullptr); }

/// Reads one object; remembers the first thing that is wrong.
class Reader {
 public:
  Reader(const value& v, std::string what) : o_(v.if_object()), what_(std::move(what)) {
    if (!o_) flaw_ = "must be an object";
  }
  std::string text(std::string_view key, bool required = true) {
    const value* v = o_ ? o_->if_contains(key) : nullptr;
    if (v && v->is_string() && v->get_string().size() <= 1024 && !security::check_display(v->get_string()))
      return std::string(v->get_string());
    if (required || (v && !v->is_null())) note(key, "a string");
    return {};
  }
  /// One of a few words. What a newer daemon may add is not guessed at (S-70).
  std::string choice(std::string_view key, std::initializer_list<std::string_view> words) {
    std::string word = text(key);
    for (const std::string_view known : words)
      if (word == known) return word;
    note(key, "a word that is known here");
    return word;
  }
  /// Identifiers, of a list that may be absent.
  std::vector<std::string> words(std::string_view key) {
    constexpr std::size_t kWordsMax = 16;
    std::vector<std::string> out;
    const value* v = o_ ? o_->if_contains(key) : nullptr;
    if (!v || v->is_null()) return out;
    const auto* list = v->if_array();
    if (!list || list->size() > kWordsMax) return note(key, "a list of at most 16"), out;
    for (const value& word : *list)
      if (word.is_string() && !security::check_identifier(word.get_string(), 32))
        out.emplace_back(word.get_string());
      else
        note(key, "a list of identifiers");
    return out;
  }
  std::optional<std::int64_t> integer(std::string_view key, bool required = false) {
    const value* v = o_ ? o_->if_contains(key) : nullptr;
    if (v && v->is_int64() && v->get_int64() >= 0 && v->get_int64() <= kFigureMax) return v->get_int64();
    if (required || (v && !v->is_null())) note(key, "a whole number from 0 to 2^50");
    return std::nullopt;
  }
  template<class T, class Each>
  std::vector<T> list(std::string_view key, Each each, std::size_t count_max = 10'000) {
    std::vector<T> out;
    const value* v = o_ ? o_->if_contains(key) : nullptr;
    if (!v || !v->is_array() || v->get_array().size() > count_max)
      return note(key, fmt::format("a list of at most {}", count_max)), out;
    for (const value& item : v->get_array()) {
      Reader r(item, what_ + "." + std::string(key));
      out.push_back(each(r));
      if (!r.flaw_.empty() && flaw_.empty()) what_ = r.what_, flaw_ = r.flaw_;
    }
    return out;
  }
  /// Those that are there, and are numbers or null.
  object numbers(std::span<const std::string_view> keys) {
    object out;
    for (const std::string_view key : keys) {
      const value* v = o_ ? o_->if_contains(key) : nullptr;
      if (v && (v->is_number() || v->is_null())) out[key] = *v;
      if (v && !v->is_number() && !v->is_null()) note(key, "a number");
    }
    return out;
  }
  /// Of a machine, what is known here and is what it should be; the rest is left out, but sums are made of memory.
  object node(std::string_view key) {
    const value* v = o_ ? o_->if_contains(key) : nullptr;
    if (!v || !v->is_object()) return {};
    Reader inside(*v, what_ + "." + std::string(key));
    for (const std::string_view name : {"ram_total_mb", "ram_used_mb"}) (void)inside.integer(name);
    object out = inside.numbers(kNodeFigures);
    if (const value* gpus = v->get_object().if_contains("gpus"); gpus && gpus->is_array()) {
      const auto read_gpu = [](Reader& gpu) {
        object o = gpu.numbers(kGpuFigures);
        o["id"] = gpu.text("id");
        return o;
      };
      const auto list = inside.list<object>("gpus", read_gpu, kGpusMax);
      out["gpus"] = boost::json::array(list.begin(), list.end());
    }
    if (!inside.flaw_.empty() && flaw_.empty()) what_ = inside.what_, flaw_ = inside.flaw_;
    return out;
  }
  template<class T>
  Result<T> done(T t) {
    if (flaw_.empty()) return t;
    return fail(ErrorCode::kInvalidRequest, "{} {}", what_, flaw_);
  }

 private:
  void note(std::string_view key, std::string_view kind) {
    if (flaw_.empty()) flaw_ = fmt::format("lacks {}, or it is not {}", key, kind);
  }
  const object* o_;
  std::string what_, flaw_;
};

template<class T>
boost::json::array list_of(const std::vector<T>& items) {
  boost::json::array out;
  for (const T& item : items) out.push_back(to_json(item));
  return out;
}

}  // namespace

Result<std::string> parse_device(std::string_view text) {
  if (text == "cpu" || text == kAnyGpu) return std::string(text);
  std::string_view number = text;
  for (const std::string_view prefix : {"cuda", "gpu"})
    if (number.starts_with(prefix)) {
      number.remove_prefix(prefix.size());
      if (number.starts_with(':')) number.remove_prefix(1);
      if (const auto index = parse_integer<unsigned>(number, 0, kGpusMax - 1)) return fmt::format("cuda:{}", *index);
      break;
    }
  return fail(ErrorCode::kInvalidRequest, "a device is cpu, gpu (any GPU), or a GPU by its number: cuda:0 or gpu0");
}

object to_json(const Device& d) {
  object o{{"id", d.id},
           {"name", d.name},
           {"device_type", d.type},
           {"memory_total_bytes", optional(d.memory_total)},
           {"memory_free_bytes", optional(d.memory_free)}};
  if (!d.compute_capability.empty()) o["compute_capability"] = d.compute_capability;
  if (!d.pci_bus_id.empty()) o["pci_bus_id"] = d.pci_bus_id;
  if (d.cores) o["cores"] = *d.cores;
  if (!d.problem.empty()) o["problem"] = d.problem;
  return o;
}

object to_json(const Model& m) {
  object o{{"id", m.id},       {"ref", m.ref},      {"name", m.name}, {"size_bytes", m.size_bytes},
           {"quant", m.quant}, {"status", m.status}};
  if (!m.error.empty()) o["error"] = m.error;
  if (!m.capabilities.empty()) o["capabilities"] = boost::json::value_from(m.capabilities);
  if (m.context > 0) o["context"] = m.context;
  if (m.needed_bytes > 0) o["needed_bytes"] = m.needed_bytes;
  return o;
}

object to_json(const WorkerKind& w) { return {{"id", w.id}, {"kind", w.kind}, {"version", w.version}}; }

object to_json(const WorkerFacts& w) {
  object o{{"worker_id", w.worker_id},
           {"uri", w.uri},
           {"model_ref", w.model_ref},
           {"device", w.device},
           {"kind", w.kind},
           {"state", w.state},
           {"pid", w.pid},
           {"port", w.port},
           {"memory_bytes", optional(w.memory_bytes)}};
  if (!w.quant.empty()) o["quant"] = w.quant;
  if (!w.capabilities.empty()) o["capabilities"] = boost::json::value_from(w.capabilities);
  for (const auto& figure : w.figures) o.insert(figure);
  return o;
}

object to_json(const Capabilities& c) {
  return {{"devices", list_of(c.devices)}, {"models", list_of(c.models)}, {"workers_available", list_of(c.workers)}};
}

object to_json(const HiveBeat& b) {
  return {{"hive_id", b.hive_id},   {"url", b.url},   {"version", b.version},
          {"revision", b.revision}, {"node", b.node}, {"workers", list_of(b.workers)}};
}

Result<Capabilities> read_capabilities(const value& v) {
  Reader r(v, "capabilities");
  Capabilities c;
  c.devices = r.list<Device>("devices", [](Reader& d) {
    return Device{d.text("id"),
                  d.text("name"),
                  d.choice("device_type", {"cpu", "gpu"}),
                  d.integer("memory_total_bytes"),
                  d.integer("memory_free_bytes"),
                  d.text("compute_capability", false),
                  d.text("pci_bus_id", false),
                  d.integer("cores"),
                  d.text("problem", false)};
  });
  c.models = r.list<Model>("models", [](Reader& m) {
    return Model{m.text("id"),
                 m.text("ref"),
                 m.text("name"),
                 m.text("quant", false),
                 m.choice("status", {"Available", "Downloading", "Failed"}),
                 m.text("error", false),
                 m.integer("size_bytes", true).value_or(0),
                 m.words("capabilities"),
                 m.integer("context").value_or(0),
                 m.integer("needed_bytes").value_or(0)};
  });
  c.workers = r.list<WorkerKind>("workers_available", [](Reader& w) {
    return WorkerKind{w.text("id"), w.text("kind"), w.text("version", false)};
  });
  return r.done(std::move(c));
}

Result<HiveBeat> read_beat(const value& v) {
  Reader r(v, "heartbeat");
  HiveBeat b;
  b.hive_id = r.text("hive_id"), b.url = r.text("url"), b.version = r.text("version"),
  b.revision = r.text("revision", false), b.sent = r.text("ts", false);
  b.node = r.node("node");
  const auto read_worker = [](Reader& w) {
    return WorkerFacts{w.text("worker_id"),
                       w.text("uri", false),
                       w.text("model_ref"),
                       w.text("device"),
                       w.text("kind"),
                       w.choice("state", {"starting", "ready", "busy", "stopping"}),
                       w.integer("pid", true).value_or(0),
                       w.integer("port", true).value_or(0),
                       w.integer("memory_bytes"),
                       w.numbers(kWorkerFigures),
                       w.text("quant", false),
                       w.words("capabilities")};
  };
  b.workers = r.list<WorkerFacts>("workers", read_worker, kWorkersMax);
  std::set<std::string_view> ids;
  for (const WorkerFacts& w : b.workers)
    if (!ids.insert(w.worker_id).second)
      return fail(ErrorCode::kInvalidRequest, "heartbeat names a worker twice: {}", w.worker_id);
  if (security::check_identifier(b.hive_id, 64))
    return fail(ErrorCode::kInvalidRequest, "hive_id must be 1 to 64 of A-Z a-z 0-9 _ -");
  return r.done(std::move(b));
}

}  // namespace llorch::colony
