#include "grammar/schema_document.h"

#include <algorithm>
#include <charconv>

#include "grammar/limits.h"

namespace llorch {
namespace {

// Where schemas stand inside of a schema: as one or a list of them, or as an object of them. An $id elsewhere is data.
constexpr std::string_view kSchemas[] = {"items",
                                         "additionalItems",
                                         "prefixItems",
                                         "additionalProperties",
                                         "propertyNames",
                                         "contains",
                                         "not",
                                         "if",
                                         "then",
                                         "else",
                                         "allOf",
                                         "anyOf",
                                         "oneOf",
                                         "unevaluatedItems",
                                         "unevaluatedProperties",
                                         "contentSchema"};
constexpr std::string_view kMaps[] = {"properties",  "patternProperties", "$defs",
                                      "definitions", "dependentSchemas",  "dependencies"};

std::string escaped(std::string_view token) {
  std::string out;
  for (const char c : token) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += c;
  }
  return out;
}

/// A token of a pointer in a URI's fragment: %xx and ~0, ~1 undone.
std::string unescaped(std::string_view token) {
  std::string plain;
  for (std::size_t i = 0; i < token.size(); ++i) {
    unsigned byte = 0;
    if (token[i] == '%' && i + 2 < token.size() &&
        std::from_chars(token.data() + i + 1, token.data() + i + 3, byte, 16).ptr == token.data() + i + 3) {
      plain += static_cast<char>(byte);
      i += 2;
    } else {
      plain += token[i];
    }
  }
  std::string out;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] == '~' && i + 1 < plain.size() && (plain[i + 1] == '0' || plain[i + 1] == '1'))
      out += plain[++i] == '0' ? '~' : '/';
    else
      out += plain[i];
  }
  return out;
}

/// `reference` seen from `base`, without fragment: enough of RFC 3986 for the identifiers of schemas.
std::string joined(std::string_view base, std::string_view reference) {
  if (reference.empty()) return std::string(base);
  const std::size_t colon = reference.find(':');
  if (colon != reference.npos && reference.substr(0, colon).find('/') == reference.npos) return std::string(reference);
  const std::size_t authority = base.find("://");
  const std::size_t path = authority == base.npos ? 0 : std::min(base.find('/', authority + 3), base.size());
  if (reference.front() == '/') return std::string(base.substr(0, path)).append(reference);
  const std::size_t slash = base.rfind('/');
  if (slash == base.npos || slash < path)
    return std::string(base.substr(0, path)).append(path ? "/" : "").append(reference);
  return std::string(base.substr(0, slash + 1)).append(reference);
}

bool find_path(const json::value& at, const json::value& wanted, std::string& path) {
  if (&at == &wanted) return true;
  const std::size_t size = path.size();
  const auto below = [&](const json::value& child, std::string_view token) {
    path.append("/").append(token);
    if (find_path(child, wanted, path)) return true;
    path.resize(size);
    return false;
  };
  if (const auto* o = at.if_object()) {
    for (const auto& [key, child] : *o)
      if (below(child, escaped(key))) return true;
  } else if (const auto* a = at.if_array()) {
    for (std::size_t i = 0; i < a->size(); ++i)
      if (below((*a)[i], std::to_string(i))) return true;
  }
  return false;
}

std::string name_of(const json::value& origin, std::string_view name) {
  return fmt::format("{}:{}", static_cast<const void*>(&origin), name);
}

}  // namespace

Compiled<std::unique_ptr<SchemaDocument>> SchemaDocument::parse(std::string_view text) {
  if (text.size() > grammar_limits::kSourceBytesMax)
    return refuse("", "$schema", "the schema has {} bytes; {} are allowed", text.size(),
                  grammar_limits::kSourceBytesMax);
  auto parsed = json::parse(text, "the schema");
  if (!parsed) return refuse("", "$schema", "{}", parsed.error().message);
  auto out = std::make_unique<SchemaDocument>(*std::move(parsed));
  const auto* object = out->root_.if_object();
  const auto* dialect = object ? object->if_contains("$schema") : nullptr;
  if (dialect && dialect->is_string()) {
    const std::string_view uri = dialect->get_string();
    for (const std::string_view draft : {"draft-03", "draft-04", "draft-06", "draft-07"})
      if (uri.find(draft) != uri.npos) out->ref_stands_alone_ = true;
    out->old_ids_ = uri.find("draft-03") != uri.npos || uri.find("draft-04") != uri.npos;
  }
  return out;
}

void SchemaDocument::index(const json::value& part, std::size_t resource, int depth) {
  if (depth > 500) return;
  if (const auto* array = part.if_array()) {
    for (const json::value& child : *array) index(child, resource, depth + 1);
    return;
  }
  const auto* object = part.if_object();
  if (!object) return;
  const bool hidden = ref_stands_alone_ && object->contains("$ref");  // an $id beside a $ref says nothing there
  const auto* id = hidden ? nullptr : object->if_contains(old_ids_ ? "id" : "$id");
  if (id && id->is_string()) {
    const std::string_view text = id->get_string();
    const std::size_t hash = text.find('#');
    if (hash == 0 && text.size() > 1) {
      anchors_.emplace(fmt::format("{}#{}", resource, text.substr(1)), &part);
    } else if (!text.substr(0, hash).empty()) {
      const std::string uri = joined(resources_[resource].uri, text.substr(0, hash));
      if (&part == &root_) {
        resources_[resource].uri = uri;
      } else {
        resources_.push_back({uri, &part});
        resource = resources_.size() - 1;
      }
      resource_named_.emplace(uri, resource);
    }
  }
  for (const std::string_view name : {"$anchor", "$dynamicAnchor"})
    if (const auto* anchor = object->if_contains(name); anchor && anchor->is_string())
      anchors_.emplace(fmt::format("{}#{}", resource, std::string_view(anchor->get_string())), &part);
  if (resource) resource_of_.emplace(&part, resource);
  const auto named = [](const auto& list, std::string_view key) {
    return std::find(std::begin(list), std::end(list), key) != std::end(list);
  };
  for (const auto& [key, child] : *object) {
    if (named(kSchemas, key)) {
      index(child, resource, depth + 1);
    } else if (named(kMaps, key) && child.is_object()) {
      for (const auto& pair : child.get_object()) index(pair.value(), resource, depth + 1);
    }
  }
}

Compiled<const json::value*> SchemaDocument::resolve(const json::value& from, std::string_view reference) {
  if (reference == "#" && !indexed_ && !root_.is_object()) return &root_;
  if (!indexed_) {
    indexed_ = true;
    resources_.push_back({"", &root_});
    index(root_, 0, 0);
  }
  const json::value* origin = &from;
  for (auto found = origins_.find(origin); found != origins_.end(); found = origins_.find(origin))
    origin = found->second;
  const auto mine = resource_of_.find(origin);
  std::size_t resource = mine == resource_of_.end() ? 0 : mine->second;
  const std::size_t hash = std::min(reference.find('#'), reference.size());
  const std::string_view fragment = reference.substr(std::min(hash + 1, reference.size()));
  if (hash > 0) {
    const std::string uri = joined(resources_[resource].uri, reference.substr(0, hash));
    const auto named = resource_named_.find(uri);
    if (named == resource_named_.end())
      return refuse(pointer(from), "$ref", "'{}' is not in this document; other documents are not fetched", reference);
    resource = named->second;
  }
  if (fragment.empty() || fragment.front() == '/') return follow(from, *resources_[resource].root, fragment, reference);
  const auto anchor = anchors_.find(fmt::format("{}#{}", resource, fragment));
  if (anchor == anchors_.end()) return refuse(pointer(from), "$ref", "'{}' names nothing in this document", reference);
  return anchor->second;
}

Compiled<const json::value*> SchemaDocument::follow(const json::value& from, const json::value& root,
                                                    std::string_view pointer_text, std::string_view reference) const {
  const json::value* at = &root;
  while (!pointer_text.empty()) {
    pointer_text.remove_prefix(1);
    const std::size_t end = std::min(pointer_text.find('/'), pointer_text.size());
    const std::string token = unescaped(pointer_text.substr(0, end));
    pointer_text.remove_prefix(end);
    const json::value* next = nullptr;
    if (const auto* object = at->if_object()) {
      next = object->if_contains(token);
    } else if (const auto* array = at->if_array()) {
      std::size_t i = 0;
      const auto parsed = std::from_chars(token.data(), token.data() + token.size(), i);
      if (parsed.ec == std::errc() && parsed.ptr == token.data() + token.size() && i < array->size())
        next = &(*array)[i];
    }
    if (!next) return refuse(pointer(from), "$ref", "'{}' names nothing in this document", reference);
    at = next;
  }
  return at;
}

std::string SchemaDocument::pointer(const json::value& part) const {
  const json::value* at = &part;
  for (auto found = origins_.find(at); found != origins_.end(); found = origins_.find(at)) at = found->second;
  std::string path;
  find_path(root_, *at, path);
  return path;
}

json::value* SchemaDocument::derived(const json::value& origin, std::string_view name) const {
  const auto found = derived_.find(name_of(origin, name));
  return found == derived_.end() ? nullptr : found->second;
}

json::value* SchemaDocument::derive(const json::value& origin, std::string_view name, json::value schema) {
  json::value*& known = derived_[name_of(origin, name)];
  if (known) return known;
  made_.push_back(std::make_unique<json::value>(std::move(schema)));
  known = made_.back().get();
  origins_.emplace(known, &origin);
  return known;
}

}  // namespace llorch
