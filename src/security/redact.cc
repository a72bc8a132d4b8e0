#include "security/redact.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cctype>

namespace llorch::security {
namespace {

constexpr std::string_view kMark = "[REDACTED]";
constexpr std::string_view kNames[] = {"api_key", "api-key", "apikey", "token", "secret", "password"};

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool is_base64url(char c) { return is_word(c) || c == '-'; }
char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

bool begins(std::string_view text, std::string_view with) {
  return text.size() >= with.size() &&
         std::equal(with.begin(), with.end(), text.begin(), [](char a, char b) { return a == lower(b); });
}

/// How many characters from the beginning on are such ones.
template<class Is>
std::size_t run(std::string_view text, Is is) {
  return static_cast<std::size_t>(std::ranges::find_if_not(text, is) - text.begin());
}

/// What was recognised at the beginning of a text: so much is kept, then so much becomes the mark.
struct Found {
  std::size_t kept = 0, secret = 0;
};

Found bearer(std::string_view text) {
  if (!begins(text, "bearer")) return {};
  const std::size_t spaces = run(text.substr(6), is_space);
  if (spaces == 0) return {};
  return {6 + spaces, run(text.substr(6 + spaces), [](char c) { return !is_space(c) && c != '"' && c != '\''; })};
}

/// api_key=..., "token": "...", password = ...
Found named(std::string_view text) {
  for (const std::string_view name : kNames) {
    if (!begins(text, name)) continue;
    std::size_t at = name.size();
    const auto quote = [&] { at += at < text.size() && (text[at] == '"' || text[at] == '\''); };
    quote();
    at += run(text.substr(at), is_space);
    if (at >= text.size() || (text[at] != '=' && text[at] != ':')) continue;
    ++at;
    at += run(text.substr(at), is_space);
    quote();
    return {at, run(text.substr(at), [](char c) { return !is_space(c) && !std::string_view("\"',;&").contains(c); })};
  }
  return {};
}

/// llorch-[kind-]<48 hexadecimal digits>
Found of_ours(std::string_view text) {
  constexpr std::size_t kDigits = 48;
  if (!begins(text, "llorch-")) return {};
  std::size_t at = 7;
  for (const std::string_view kind : {"node-", "hive-", "join-"})
    if (begins(text.substr(at), kind)) at += kind.size();
  if (run(text.substr(at), [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }) < kDigits)
    return {};
  return {0, at + kDigits};
}

Found jwt(std::string_view text) {
  if (!text.starts_with("eyJ")) return {};
  std::size_t at = 0;
  for (int part = 0; part < 3; ++part) {
    const std::size_t n = run(text.substr(at), is_base64url);
    at += n;
    if (n == 0 || (part < 2 && (at >= text.size() || text[at] != '.'))) return {at, 0};
    at += part < 2;
  }
  return {0, at};
}

/// To its end, or where that is missing to the text's.
Found pem(std::string_view text) {
  constexpr std::string_view kBegin = "-----BEGIN ", kEnd = "PRIVATE KEY-----";
  if (!text.starts_with(kBegin)) return {};
  const std::size_t words = run(text.substr(kBegin.size()), [](char c) { return c == ' ' || (c >= 'A' && c <= 'Z'); });
  const std::size_t head = kBegin.size() + words;
  if (!text.substr(0, head + 5).ends_with(kEnd)) return {};
  const std::size_t foot = text.find("-----END ", head);
  const std::size_t end = foot == text.npos ? foot : text.find(kEnd, foot);
  return {0, end == text.npos ? text.size() : end + kEnd.size()};
}

/// ://user:password@
Found url(std::string_view text) {
  if (!text.starts_with("://")) return {};
  const std::size_t user =
      run(text.substr(3), [](char c) { return !is_space(c) && !std::string_view("/:@").contains(c); });
  std::size_t at = 3 + user;
  if (user == 0 || at >= text.size() || text[at] != ':') return {};
  ++at;
  const std::size_t secret = run(text.substr(at), [](char c) { return !is_space(c) && c != '@' && c != '/'; });
  return at + secret < text.size() && text[at + secret] == '@' ? Found{at, secret} : Found{};
}

bool is_secret_name(std::string_view name) {
  return std::ranges::any_of(kNames, [&](std::string_view n) { return name.size() == n.size() && begins(name, n); });
}

}  // namespace

std::string redact(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    Found found;
    switch (lower(text.front())) {
      case 'b': found = bearer(text); break;
      case 'a':
      case 't':
      case 's':
      case 'p': found = named(text); break;
      case 'l': found = of_ours(text); break;
      case 'e': found = jwt(text); break;
      case '-': found = pem(text); break;
      case ':': found = url(text); break;
      default: break;
    }
    const std::size_t kept =
        found.secret > 0 ? found.kept : std::max<std::size_t>(1, text.front() == 'e' ? found.kept : 1);
    out += text.substr(0, kept);
    text.remove_prefix(kept);
    if (found.secret == 0) continue;
    out += kMark;
    text.remove_prefix(found.secret);
  }
  return out;
}

void redact_values(boost::json::value& value) {
  if (auto* s = value.if_string()) {
    *s = redact(*s);
  } else if (auto* a = value.if_array()) {
    for (auto& item : *a) redact_values(item);
  } else if (auto* o = value.if_object()) {
    for (auto& [name, inner] : *o)
      if (inner.is_string() && is_secret_name(name))
        inner = kMark;
      else
        redact_values(inner);
  }
}

std::string without_figures(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  char before = ' ';
  while (!text.empty()) {
    std::size_t taken = 1;
    if (is_digit(text.front()) && !is_word(before)) {
      taken = run(text, [](char c) { return is_digit(c) || c == '.' || c == ',' || c == '\''; });
      const bool space = taken < text.size() && text[taken] == ' ';
      const std::string_view unit = text.substr(taken + space).substr(0, 5);
      const auto is_unit = [&](std::string_view u) {
        return unit.starts_with(u) && (unit.size() == u.size() || !is_word(text[taken + space + u.size()]));
      };
      bool amount = is_unit("bytes") || (space && is_unit("B"));  // "8B" is in names of models
      for (const char prefix : {'k', 'M', 'G', 'T'})
        amount = amount || is_unit(std::string{prefix, 'B'}) || is_unit(std::string{prefix, 'i', 'B'});
      out += amount ? std::string_view("...") : text.substr(0, taken);
    } else {
      out += text.front();
    }
    before = text[taken - 1];
    text.remove_prefix(taken);
  }
  return out;
}

}  // namespace llorch::security
