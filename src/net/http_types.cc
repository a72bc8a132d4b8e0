#include "net/http_types.h"

#include <algorithm>

#include "base/integer.h"
#include "net/url.h"

namespace llorch::net {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (lower(c) >= 'a' && lower(c) <= 'f') return lower(c) - 'a' + 10;
  return -1;
}

std::optional<std::string> decode(std::string_view text, bool query) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && query) {
      out += ' ';
    } else if (text[i] == '%') {
      if (i + 2 >= text.size() || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0) return std::nullopt;
      const char c = static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return std::nullopt;
      if (!query && (is_unreserved(c) || c == '\\')) return std::nullopt;  // a second spelling of a plain path
      out += c;
      i += 2;
    } else {
      out += text[i];
    }
  }
  if (!is_utf8(out)) return std::nullopt;
  return out;
}

/// Whether one of the parts between slashes climbs, or is none.
bool has_dot_segment(std::string_view text) {
  while (true) {
    const std::string_view part = text.substr(0, text.find('/'));
    if (part.empty() || part == "." || part == "..") return true;
    if (part.size() == text.size()) return false;
    text.remove_prefix(part.size() + 1);
  }
}

/// A host, in brackets where it is an IPv6 address, and perhaps a port.
bool is_authority(std::string_view text) {
  const bool bracketed = text.starts_with('[');
  const std::size_t end = bracketed ? text.find(']') : text.find(':');
  if (bracketed && end == std::string_view::npos) return false;
  const std::string_view host = text.substr(bracketed ? 1 : 0, end == std::string_view::npos ? end : end - bracketed);
  const std::string_view rest = text.substr(std::min(bracketed ? end + 1 : end, text.size()));
  const auto plain = [&](char c) { return is_unreserved(c) || (bracketed && c == ':'); };
  if (host.empty() || !std::ranges::all_of(host, plain)) return false;
  return rest.empty() || rest == ":" || (rest.starts_with(':') && parse_integer(rest.substr(1), 1, 65'535));
}

/// Takes scheme and authority of the absolute form off `text`. The authority; empty: it is the origin form. Nothing:
/// it is none.
std::optional<std::string> take_authority(std::string_view& text) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equal_ignoring_case(text.substr(0, scheme.size()), scheme)) continue;
    text.remove_prefix(scheme.size());
    const std::string authority(text.substr(0, text.find_first_of("/?")));
    text.remove_prefix(authority.size());
    if (!is_authority(authority)) return std::nullopt;
    return authority;
  }
  return "";
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<std::string> Headers::get(std::string_view name) const {
  for (const auto& [key, value] : fields_)
    if (equal_ignoring_case(key, name)) return value;
  return std::nullopt;
}

std::optional<std::string> Target::parameter(std::string_view name) const {
  for (const auto& [key, value] : query)
    if (key == name) return value;
  return std::nullopt;
}

Result<Target> parse_target(std::string_view text) {
  const auto bad = [](std::string_view why) { return fail(ErrorCode::kInvalidRequest, "request target: {}", why); };
  Target target;
  const auto authority = take_authority(text);
  if (!authority) return bad("the authority is no host with a port from 1 to 65535");
  target.host = *authority;
  if (target.host.empty() && !text.starts_with('/'))
    return bad("only the origin form and the absolute form are accepted");
  for (const char c : text)
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f ||
        std::string_view("#\\\"<>^`{|}").contains(c))
      return bad("a character that must be escaped");
  const std::size_t mark = text.find('?');
  std::string_view path = text.substr(0, mark);
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    if (segment.empty() && path.empty()) break;  // the slash at the end
    const auto decoded = decode(segment, false);
    if (!decoded) return bad("an escape that is refused");
    if (has_dot_segment(*decoded)) return bad(kDotSegments);
    if (const std::size_t slash = decoded->find('/'); slash != decoded->npos)
      target.escaped_slash = std::min(target.escaped_slash, target.path.size() + 1 + slash);
    (target.path += '/') += *decoded;
  }
  if (target.path.empty()) target.path = "/";
  if (mark == std::string_view::npos) return target;
  std::string_view query = text.substr(mark + 1);
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const std::size_t equals = pair.find('=');
    const auto key = decode(pair.substr(0, equals), true),
               value = decode(equals == std::string_view::npos ? "" : pair.substr(equals + 1), true);
    if (!key || !value) return bad("an escape in the query that is refused");
    target.query.emplace_back(*key, *value);
  }
  return target;
}

Status check_head(std::string_view head) {
  const auto bad = [](std::string_view why) { return fail(ErrorCode::kInvalidRequest, "request head: {}", why); };
  int hosts = 0, lengths = 0, encodings = 0;
  bool first = true;
  while (!head.empty()) {
    const std::size_t end = head.find('\n');
    if (end == std::string_view::npos || end == 0 || head[end - 1] != '\r') return bad("a line does not end in CR LF");
    const std::string_view line = head.substr(0, end - 1);
    head.remove_prefix(end + 1);
    if (line.empty()) break;
    for (const char c : line)
      if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return bad("a control character");
    if (std::exchange(first, false)) continue;  // the request line is the parser's
    if (line[0] == ' ' || line[0] == '\t') return bad("a folded line");
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) return bad("a line without a name");
    const std::string_view name = line.substr(0, colon);
    if (name.find_first_of(" \t") != std::string_view::npos) return bad("a blank in a name");
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    hosts += equal_ignoring_case(name, "host");
    if (equal_ignoring_case(name, "content-length")) {
      ++lengths;
      if (value.empty() || value.find_first_not_of("0123456789") != std::string_view::npos)
        return bad("a Content-Length that is no number");
    }
    if (equal_ignoring_case(name, "transfer-encoding")) {
      ++encodings;
      if (!equal_ignoring_case(value, "chunked")) return bad("a transfer encoding other than chunked");
    }
  }
  if (hosts != 1) return bad("exactly one Host is required");
  if (lengths > 1 || encodings > 1 || (lengths && encodings))
    return bad("more than one statement of the body's length");
  return {};
}

bool BodyShare::grow(std::size_t bytes) {
  if (bytes <= bytes_) return true;
  const std::size_t more = bytes - bytes_;
  if (budget_->bytes.fetch_add(more) + more > budget_->max_for(bytes)) {
    budget_->bytes -= more;
    return false;
  }
  bytes_ = bytes;
  return true;
}

}  // namespace llorch::net
