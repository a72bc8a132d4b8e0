// The formats of JSON Schema (2020-12, Validation, section 7.3) as patterns. What a pattern cannot say exactly, it says
// too narrowly: everything that it matches is of the format. For negations there is another one that is too wide:
// nothing that it leaves out is of the format, whoever reads the format's own standard.
#include <map>
#include <mutex>

#include "grammar/schema_shape.h"

namespace llorch {
namespace {

std::string either(std::string_view a, std::string_view b) { return fmt::format("(?:{}|{})", a, b); }

// RFC 3339, with the number of days of each month; the year 0 is left out.
std::string date() {
  const std::string year = "(?:[1-9]\\d{3}|0[1-9]\\d\\d|00[1-9]\\d|000[1-9])";
  const std::string leap = "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
  return fmt::format(
      "(?:{}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-"
      "8]))|{}-02-29)",
      year, leap);
}
std::string time() {
  return "(?:(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)|23:59:60(?:\\."
         "\\d+)?[Zz])";
}
std::string duration() {
  const std::string clock = "T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)";
  return fmt::format("P(?:\\d+W|(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)(?:{0})?|{0})", clock);
}

// RFC 1123; labels of up to 61 characters, together fewer than 254; no two hyphens side by side (RFC 5890 reserves
// them).
std::string hostname() {
  const std::string_view letter = "[A-Za-z0-9]";
  const std::string long_label = fmt::format("(?:{0}-?){{0,30}}{0}", letter),
                    short_label = fmt::format("(?:{0}-?){{0,11}}{0}", letter);
  return fmt::format("(?:{0}(?:\\.{0}){{0,3}}|{1}(?:\\.{1}){{0,9}})", long_label, short_label);
}
std::string email(std::string_view more) {
  const std::string atom = fmt::format("[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{}-]+", more);
  return fmt::format("{0}(?:\\.{0})*@{1}", atom, hostname());
}
std::string ipv4() {
  return "(?:(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
}
// RFC 4291 section 2.2.
std::string ipv6() {
  const std::string group = "[0-9A-Fa-f]{1,4}", last = either(group + ":" + group, ipv4());
  std::string out = fmt::format("(?:(?:{}:){{6}}{}", group, last);
  out += fmt::format("|::(?:{}:){{5}}{}", group, last);
  for (int left = 4; left >= 0; --left)  // groups between :: and the last two
    out += fmt::format("|(?:(?:{0}:){{0,{1}}}{0})?::(?:{0}:){{{2}}}{3}", group, 4 - left, left, last);
  out += fmt::format("|(?:(?:{0}:){{0,5}}{0})?::{0}|(?:(?:{0}:){{0,6}}{0})?::)", group);
  return out;
}

// RFC 3986 and, with `more`, RFC 3987.
struct Uri {
  std::string userinfo, host, segment, segment_nonempty, segment_no_colon, query, fragment;

  Uri(std::string_view more, std::string_view private_use) {
    const auto set = [&](std::string_view extra, std::string_view also = "") {
      return fmt::format("(?:[A-Za-z0-9._~!$&'()*+,;={}{}{}-]|%[0-9A-Fa-f]{{2}})", extra, more, also);
    };
    userinfo = set(":") + "*", host = set("") + "*";
    segment = set(":@") + "*", segment_nonempty = set(":@") + "+", segment_no_colon = set("@") + "+";
    query = set(":@/?", private_use) + "*", fragment = set(":@/?") + "*";
  }
  [[nodiscard]] std::string tail() const { return fmt::format("(?:\\?{})?(?:#{})?", query, fragment); }
  [[nodiscard]] std::string with_authority() const {
    return fmt::format("//(?:{}@)?(?:{}|\\[{}\\])(?::\\d*)?(?:/{})*", userinfo, host, ipv6(), segment);
  }
  [[nodiscard]] std::string absolute_path() const { return fmt::format("/(?:{}(?:/{})*)?", segment_nonempty, segment); }
  [[nodiscard]] std::string whole() const {
    return fmt::format("[A-Za-z][A-Za-z0-9+.-]*:(?:{}|{}|{}(?:/{})*)?{}", with_authority(), absolute_path(),
                       segment_nonempty, segment, tail());
  }
  [[nodiscard]] std::string reference() const {
    return fmt::format("(?:{}|(?:{}|{}|{}(?:/{})*)?{})", whole(), with_authority(), absolute_path(), segment_no_colon,
                       segment, tail());
  }
};

// RFC 6570.
std::string uri_template() {
  const std::string character = "(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})";
  const std::string variable = fmt::format("{0}(?:\\.?{0})*(?::[1-9]\\d{{0,3}}|\\*)?", character);
  return fmt::format(
      "(?:[!#$&()*+,./0-9:;=?@A-Z\\[\\]_a-z~\\xa0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef-]|%[0-9A-Fa-f]{{2}}|\\{{[+#./"
      ";?&]?{0}(?:,{0})*\\}})*",
      variable);
}

std::optional<std::string> pattern_of(std::string_view format) {
  const std::string_view ucs =
      "\\u00a0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef\\u{10000}-\\u{1fffd}\\u{20000}-\\u{2fffd}\\u{30000}-\\u{3fffd}";
  const std::string pointer = "(?:/(?:[^~/]|~[01])*)*";
  if (format == "date") return date();
  if (format == "time") return time();
  if (format == "date-time") return date() + "[Tt]" + time();
  if (format == "duration") return duration();
  if (format == "email") return email("");
  if (format == "idn-email") return email(ucs);
  if (format == "hostname" || format == "idn-hostname") return hostname();
  if (format == "ipv4") return ipv4();
  if (format == "ipv6") return ipv6();
  if (format == "uuid") return "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}";
  if (format == "uri") return Uri("", "").whole();
  if (format == "uri-reference") return Uri("", "").reference();
  if (format == "iri") return Uri(ucs, "\\ue000-\\uf8ff").whole();
  if (format == "iri-reference") return Uri(ucs, "\\ue000-\\uf8ff").reference();
  if (format == "uri-template") return uri_template();
  if (format == "json-pointer") return pointer;
  if (format == "relative-json-pointer") return fmt::format("(?:0|[1-9]\\d*)(?:#|{})", pointer);
  return std::nullopt;
}

std::string wide_pattern_of(std::string_view format) {
  const std::string any = "[\\u0000-\\u{10ffff}]*";
  if (format == "date") return "\\d{4}-\\d{2}-\\d{2}";
  if (format == "time") return any + ":" + any;
  if (format == "date-time") return "\\d{4}-" + any + ":" + any;
  if (format == "duration") return "[Pp]" + any;
  if (format == "email" || format == "idn-email") return any + "@" + any;
  if (format == "hostname" || format == "idn-hostname") return "[^ @/:]*";
  if (format == "ipv4") return "\\d{1,3}(?:\\.\\d{1,3}){3}";
  if (format == "ipv6") return "[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%" + any + ")?";
  if (format == "uuid") return "[0-9A-Za-z{}:-]{32,}";  // some readers drop what stands between the digits
  if (format == "uri" || format == "iri") return "[A-Za-z][A-Za-z0-9+.-]*:" + any;
  if (format == "json-pointer") return "(?:/" + any + ")?";
  if (format == "relative-json-pointer") return "\\d" + any;
  return any;  // references and templates: nearly every text is one
}

}  // namespace

PatternDfa format_dfa(std::string_view format) {
  static std::mutex mutex;
  static std::map<std::string, PatternDfa, std::less<>> known;
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(format); found != known.end()) return found->second;
  const auto pattern = pattern_of(format);
  if (!pattern) return {};
  const auto compiled = [](const std::string& text) -> SharedDfa {
    std::size_t work = 0;
    const auto parsed = Pattern::parse(text);
    auto dfa = parsed ? CharDfa::match(*parsed, work) : std::nullopt;
    return dfa ? std::make_shared<const CharDfa>(*std::move(dfa)) : nullptr;
  };
  const PatternDfa dfa{compiled(*pattern), compiled(wide_pattern_of(format))};
  if (!dfa.certain || !dfa.possible) return {};  // a test holds that each of them compiles
  return known.emplace(std::string(format), dfa).first->second;
}

}  // namespace llorch
