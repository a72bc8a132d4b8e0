#include "coord/etcd_json.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/integer.h"
#include "format/json.h"
#include "security/validate.h"

namespace llorch::coord::etcd {
namespace {

std::string number(std::int64_t value) { return std::to_string(value); }

std::unexpected<Error> bad(std::string_view field, std::string_view why) {
  return fail(ErrorCode::kIo, "'{}' {}", field, why);
}

void add_range(bj::object& o, const KeyRange& keys) {
  o["key"] = to_base64(keys.first);
  if (!keys.end.empty()) o["range_end"] = to_base64(keys.end);
}

Result<const bj::array*> read_array(const bj::object& o, std::string_view name) {
  static const bj::array kNone;
  const bj::value* v = json::find(o, name);
  if (!v) return &kNone;
  if (!v->is_array()) return bad(name, "is no array");
  return &v->get_array();
}
Result<bool> read_flag(const bj::object& o, std::string_view name) {
  const bj::value* v = json::find(o, name);
  if (!v) return false;
  if (!v->is_bool()) return bad(name, "is neither true nor false");
  return v->get_bool();
}
Result<const bj::object*> read_header(const bj::object& answer) {
  const bj::object* header = json::find_object(answer, "header");
  if (!header) return bad("header", "is missing");
  return header;
}

bj::object write_operation(const Write& w) {
  bj::object o{{"key", to_base64(w.key)}};
  if (!w.value) return {{"request_delete_range", std::move(o)}};
  o["value"] = to_base64(*w.value);
  if (w.lease != 0) o["lease"] = number(w.lease);
  return {{"request_put", std::move(o)}};
}

Result<Event> read_event(const bj::value& value) {
  const bj::object* o = value.if_object();
  const bj::object* kv = o ? json::find_object(*o, "kv") : nullptr;
  if (!kv) return bad("events", "has one without 'kv'");
  const bj::value* type = json::find(*o, "type");
  if (type && *type != "PUT" && *type != "DELETE") return bad("type", "of an event is neither PUT nor DELETE");
  if (!type || *type == "PUT") {
    LLORCH_TRY(Entry entry, read_entry(*kv));
    return Event{std::move(entry), false};
  }
  Event event{{}, true};
  LLORCH_TRY(event.entry.key, read_bytes(*kv, "key"));
  LLORCH_TRY(event.entry.modified, read_number(*kv, "mod_revision"));
  if (event.entry.key.empty() || event.entry.modified == 0) return bad("kv", "of a removal has no key or revision");
  return event;
}

/// The revision of the key that a failed transaction has read, 0: it is absent.
Result<Revision> read_modified(const bj::value& response) {
  const bj::object* o = response.if_object();
  const bj::object* range = o ? json::find_object(*o, "response_range") : nullptr;
  if (!range) return bad("responses", "has one without 'response_range'");
  LLORCH_TRY(const bj::array* kvs, read_array(*range, "kvs"));
  if (kvs->empty()) return 0;
  const bj::object* kv = kvs->size() == 1 ? (*kvs)[0].if_object() : nullptr;
  if (!kv) return bad("kvs", "has more than the one key that was asked for");
  return read_number(*kv, "mod_revision");
}

}  // namespace

std::string to_base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty()) return std::string();
  if (text.size() % 4 != 0 || text.size() > (1u << 30)) return std::nullopt;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  // EVP_DecodeBlock passes over blanks at both ends, and takes padding for zeros anywhere.
  for (const char c : text.substr(0, text.size() - padding))
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '+' && c != '/') return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  out.resize(static_cast<std::size_t>(size) - padding);
  return out;
}

std::string range_request(const KeyRange& keys, int limit, Revision revision) {
  bj::object o{{"limit", number(limit)}};
  add_range(o, keys);
  if (revision != 0) o["revision"] = number(revision);
  return bj::serialize(o);
}

std::string commit_request(const Transaction& transaction) {
  bj::array compares, writes, reads;
  for (const Compare& c : transaction.compares) {
    compares.push_back(bj::object{
        {"key", to_base64(c.key)}, {"target", "MOD"}, {"result", "EQUAL"}, {"mod_revision", number(c.modified)}});
    reads.push_back(bj::object{{"request_range", bj::object{{"key", to_base64(c.key)}, {"keys_only", true}}}});
  }
  for (const Write& w : transaction.writes) writes.push_back(write_operation(w));
  return bj::serialize(
      bj::object{{"compare", std::move(compares)}, {"success", std::move(writes)}, {"failure", std::move(reads)}});
}

std::string put_request(std::string_view key, std::string_view value) {
  return bj::serialize(bj::object{{"key", to_base64(key)}, {"value", to_base64(value)}});
}

std::string number_request(std::string_view name, std::int64_t value) {
  return bj::serialize(bj::object{{bj::string_view(name.data(), name.size()), number(value)}});
}

std::string watch_request(const KeyRange& keys, Revision from, std::int64_t id) {
  bj::object o{{"watch_id", number(id)}, {"fragment", true}};
  add_range(o, keys);
  if (from != 0) o["start_revision"] = number(from);
  return bj::serialize(bj::object{{"create_request", std::move(o)}});
}

Result<bj::object> read_object(std::string_view text) {
  auto value = json::parse(text, "it");
  if (!value) return fail(ErrorCode::kIo, "{}", value.error().message);
  if (!value->is_object()) return fail(ErrorCode::kIo, "it is no JSON object");
  return std::move(value->get_object());
}

Result<std::int64_t> read_number(const bj::object& o, std::string_view name) {
  const bj::value* v = json::find(o, name);
  if (!v) return 0;
  if (!v->is_string()) return bad(name, "is no number in quotation marks");
  const auto n = parse_integer<std::int64_t>({v->get_string().data(), v->get_string().size()});
  if (!n || *n < 0) return bad(name, "is no whole number from 0 to 2^63 - 1");
  return *n;
}

Result<std::string> read_bytes(const bj::object& o, std::string_view name) {
  const bj::value* v = json::find(o, name);
  if (!v) return std::string();
  if (!v->is_string()) return bad(name, "is no text");
  auto bytes = from_base64({v->get_string().data(), v->get_string().size()});
  if (!bytes) return bad(name, "is not base64");
  return *std::move(bytes);
}

Result<std::string> read_cluster(const bj::object& answer) {
  LLORCH_TRY(const bj::object* header, read_header(answer));
  const auto text = json::find_text(*header, "cluster_id");
  if (!text || !parse_integer<std::uint64_t>(*text)) return bad("cluster_id", "of the header is no number of 64 bits");
  return *text;
}

Result<Revision> read_revision(const bj::object& answer) {
  LLORCH_TRY(const bj::object* header, read_header(answer));
  LLORCH_TRY(const Revision revision, read_number(*header, "revision"));
  if (revision == 0) return bad("revision", "of the header is missing");
  return revision;
}

Result<Entry> read_entry(const bj::object& kv) {
  Entry e;
  LLORCH_TRY(e.key, read_bytes(kv, "key"));
  LLORCH_TRY(e.value, read_bytes(kv, "value"));
  LLORCH_TRY(e.created, read_number(kv, "create_revision"));
  LLORCH_TRY(e.modified, read_number(kv, "mod_revision"));
  LLORCH_TRY(e.lease, read_number(kv, "lease"));
  if (e.key.empty()) return bad("key", "of an entry is missing");
  if (e.created == 0 || e.modified < e.created) return bad("mod_revision", "is before 'create_revision'");
  return e;
}

Result<Page> read_page(const bj::object& answer, const KeyRange& keys, int limit) {
  Page page;
  LLORCH_TRY(page.revision, read_revision(answer));
  LLORCH_TRY(page.more, read_flag(answer, "more"));
  LLORCH_TRY(const bj::array* kvs, read_array(answer, "kvs"));
  if (kvs->size() > static_cast<std::size_t>(limit)) return bad("kvs", "has more entries than were asked for");
  for (const bj::value& kv : *kvs) {
    const bj::object* o = kv.if_object();
    if (!o) return bad("kvs", "has an entry that is no object");
    LLORCH_TRY(Entry entry, read_entry(*o));
    if (!keys.contains(entry.key)) return bad("kvs", "has a key that was not asked for");
    if (!page.entries.empty() && entry.key <= page.entries.back().key) return bad("kvs", "is not in order");
    if (entry.modified > page.revision) return bad("mod_revision", "is behind the header's revision");
    page.entries.push_back(std::move(entry));
  }
  return page;
}

Result<CommitAnswer> read_commit(const bj::object& answer, std::size_t compares, std::size_t writes) {
  CommitAnswer commit;
  LLORCH_TRY(commit.revision, read_revision(answer));
  LLORCH_TRY(commit.succeeded, read_flag(answer, "succeeded"));
  LLORCH_TRY(const bj::array* responses, read_array(answer, "responses"));
  if (responses->size() != (commit.succeeded ? writes : compares))
    return fail(ErrorCode::kIo, "'responses' has {} items, expected {}", responses->size(),
                commit.succeeded ? writes : compares);
  if (commit.succeeded) return commit;
  for (const bj::value& r : *responses) {
    LLORCH_TRY(const Revision modified, read_modified(r));
    commit.modified.push_back(modified);
  }
  return commit;
}

Result<WatchMessage> read_watch(std::string_view line) {
  LLORCH_TRY(const bj::object message, read_object(line));
  if (const bj::object* error = json::find_object(message, "error"))
    return fail(ErrorCode::kIo, "it says: {}",
                json::find_text(*error, "message").value_or("an error without a message"));
  const bj::object* result = json::find_object(message, "result");
  if (!result) return bad("result", "is missing");
  WatchMessage m;
  // -1: a watch that was refused.
  if (const bj::value* id = json::find(*result, "watch_id"); !id || *id != "-1") {
    LLORCH_TRY(m.id, read_number(*result, "watch_id"));
  }
  LLORCH_TRY(m.created, read_flag(*result, "created"));
  LLORCH_TRY(m.canceled, read_flag(*result, "canceled"));
  LLORCH_TRY(m.fragment, read_flag(*result, "fragment"));
  LLORCH_TRY(m.compacted, read_number(*result, "compact_revision"));
  LLORCH_TRY(const bj::object* header, read_header(*result));
  LLORCH_TRY(m.revision, read_number(*header, "revision"));
  m.reason = json::find_text(*result, "cancel_reason").value_or("");
  LLORCH_TRY(const bj::array* events, read_array(*result, "events"));
  for (const bj::value& e : *events) {
    LLORCH_TRY(Event event, read_event(e));
    if (!m.events.empty() && event.entry.modified < m.events.back().entry.modified)
      return bad("events", "is not in order of revisions");
    m.events.push_back(std::move(event));
  }
  return m;
}

Refusal read_refusal(int http_status, std::string_view body) {
  const auto o = read_object(body);
  if (!o) return {-1, fmt::format("HTTP status {} without JSON: no gateway of etcd 3.4 or later", http_status)};
  Refusal r;
  if (const bj::value* code = json::find(*o, "code"); code && code->is_int64()) r.code = code->get_int64();
  const auto message = json::find_text(*o, "message");
  r.message = message ? *message : json::find_text(*o, "error").value_or("");
  if (r.message.empty()) r.message = fmt::format("HTTP status {} without a message", http_status);
  r.message = security::sanitize(r.message, 300);
  return r;
}

}  // namespace llorch::coord::etcd
