#include "queen/shared_entries.h"

#include "format/json.h"
#include "queen/model_resolver.h"
#include "security/digest.h"

namespace llorch::queen::shared {

boost::json::object read_object(const std::string& text) {
  const auto v = json::parse(text, "shared value");
  return v && v->is_object() ? v->get_object() : boost::json::object();
}

std::string text_in(const boost::json::object& o, std::string_view name) {
  return json::find_text(o, name).value_or("");
}

std::string joined_text(const HiveRow& row, const std::string& token) {
  return boost::json::serialize(
      boost::json::object{{"node_key", row.node_key}, {"joined_host", row.joined_host}, {"token", token}});
}

std::string seen_text(const HiveRow& row, const std::vector<colony::Model>& models) {
  boost::json::array list;
  for (const colony::Model& m : models) list.push_back(colony::to_json(m));
  return boost::json::serialize(
      boost::json::object{{"host", row.host}, {"port", row.port}, {"models", std::move(list)}});
}

std::string settings_text(const colony::ModelSettings& settings) { return boost::json::serialize(settings.json()); }

std::string key_text(const security::ApiKey& key) {
  return boost::json::serialize(
      boost::json::object{{"scopes", security::text_of(key.scopes)}, {"created", key.created}, {"name", key.name}});
}

HiveRow row_of(const std::string& id, const boost::json::object& joined, const boost::json::object& seen) {
  const auto* port = seen.if_contains("port");
  return {id, text_in(seen, "host"), port && port->is_int64() ? port->get_int64() : 0, text_in(joined, "node_key"),
          text_in(joined, "joined_host")};
}

std::vector<colony::Model> models_of(const boost::json::object& seen) {
  const auto* list = json::find_array(seen, "models");
  const auto read = colony::read_capabilities(boost::json::object{{"devices", boost::json::array()},
                                                                  {"models", list ? *list : boost::json::array()},
                                                                  {"workers_available", boost::json::array()}});
  return read ? read->models : std::vector<colony::Model>();
}

colony::ModelSettings settings_of(const std::string& text) {
  colony::ModelSettings out;
  for (const auto& [key, value] : read_object(text))
    if (value.is_string()) (void)out.set(key, value.get_string());
  return out;
}

Result<security::ApiKey> key_of_text(const std::string& hash, const std::string& text) {
  const boost::json::object o = read_object(text);
  LLORCH_TRY(auto scopes, security::parse_scopes(text_in(o, "scopes")));
  if (from_hex(hash).size() != 32) return fail(ErrorCode::kInvalidRequest, "its name is no SHA-256");
  return security::ApiKey{from_hex(hash), std::move(scopes), text_in(o, "created"), text_in(o, "name")};
}

Entries entries_of(const Catalog& catalog, const std::function<std::string(const std::string&)>& token_of) {
  Entries out;
  for (const auto& [name, ref] : catalog.aliases)
    if (!builtin_aliases().contains(name)) out[key_of(kAliases, name)] = ref;
  for (const std::string& ref : catalog.pins) out[key_of(kPins, ref)] = "1";
  for (const auto& [ref, settings] : catalog.settings) out[key_of(kSettings, ref)] = settings_text(settings);
  for (const auto& [id, row] : catalog.hives) {
    const auto models = catalog.models.find(id);
    out[key_of(kSeen, id)] =
        seen_text(row, models == catalog.models.end() ? std::vector<colony::Model>() : models->second);
    if (!row.node_key.empty()) out[key_of(kHives, id)] = joined_text(row, token_of(id));
  }
  return out;
}

}  // namespace llorch::queen::shared
