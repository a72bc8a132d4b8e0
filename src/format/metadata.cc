#include "format/metadata.h"

#include <cmath>

namespace llorch {
namespace {

std::unexpected<Error> missing(std::string_view key) { return bad_model("metadata key '{}' is missing", key); }
std::unexpected<Error> mistyped(std::string_view key, std::string_view want) {
  return bad_model("metadata key '{}' is not {}", key, want);
}

}  // namespace

bool Metadata::add(std::string key, MetaValue value) {
  if (!index_.emplace(key, entries_.size()).second) return false;
  entries_.push_back({std::move(key), std::move(value)});
  return true;
}

void Metadata::set(std::string key, MetaValue value) {
  if (const auto found = index_.find(key); found != index_.end()) {
    entries_[found->second].value = std::move(value);
  } else {
    add(std::move(key), std::move(value));
  }
}

void Metadata::erase_prefix(std::string_view prefix) {
  std::erase_if(entries_, [&](const Entry& e) { return e.key.starts_with(prefix); });
  index_.clear();
  for (std::size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].key, i);
}

const MetaValue* Metadata::find(std::string_view key) const {
  const auto found = index_.find(std::string(key));
  return found == index_.end() ? nullptr : &entries_[found->second].value;
}

Result<std::uint64_t> Metadata::unsigned_integer(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v) return missing(key);
  if (const auto* u = std::get_if<std::uint64_t>(&v->value)) return *u;
  if (const auto* i = std::get_if<std::int64_t>(&v->value); i && *i >= 0) return static_cast<std::uint64_t>(*i);
  return mistyped(key, "an unsigned integer");
}

Result<double> Metadata::number(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v) return missing(key);
  double number = 0;
  if (const auto* d = std::get_if<double>(&v->value))
    number = *d;
  else if (const auto* u = std::get_if<std::uint64_t>(&v->value))
    number = static_cast<double>(*u);
  else if (const auto* i = std::get_if<std::int64_t>(&v->value))
    number = static_cast<double>(*i);
  else
    return mistyped(key, "a number");
  if (!std::isfinite(number)) return mistyped(key, "finite");
  return number;
}

Result<bool> Metadata::boolean(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v) return missing(key);
  if (const auto* b = std::get_if<bool>(&v->value)) return *b;
  return mistyped(key, "a boolean");
}

Result<std::string> Metadata::text(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v) return missing(key);
  if (const auto* s = std::get_if<std::string>(&v->value)) return *s;
  return mistyped(key, "a string");
}

Result<const MetaValue::Strings*> Metadata::strings(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v) return missing(key);
  if (const auto* s = std::get_if<MetaValue::Strings>(&v->value)) return s;
  return mistyped(key, "an array of strings");
}

Result<const MetaValue::Integers*> Metadata::integers(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v) return missing(key);
  if (const auto* s = std::get_if<MetaValue::Integers>(&v->value)) return s;
  return mistyped(key, "an array of integers");
}

Result<MetaValue::Floats> Metadata::numbers(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v) return missing(key);
  if (const auto* f = std::get_if<MetaValue::Floats>(&v->value)) return *f;
  return mistyped(key, "an array of floats");
}

Result<std::uint64_t> Metadata::integer_in(std::string_view key, std::uint64_t low, std::uint64_t high,
                                           std::optional<std::uint64_t> otherwise) const {
  if (otherwise && !has(key)) return *otherwise;
  LLORCH_TRY(const std::uint64_t v, unsigned_integer(key));
  if (v < low || v > high) return bad_model("metadata key '{}' is {}, outside {}..{}", key, v, low, high);
  return v;
}

Result<double> Metadata::number_or(std::string_view key, double otherwise) const {
  return has(key) ? number(key) : Result<double>(otherwise);
}

Result<bool> Metadata::boolean_or(std::string_view key, bool otherwise) const {
  return has(key) ? boolean(key) : Result<bool>(otherwise);
}

}  // namespace llorch
