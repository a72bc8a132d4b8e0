#include "colony/model_ref.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "security/validate.h"

namespace llorch::colony {
namespace {

bool is_name(std::string_view s, bool upper) {
  return !s.empty() && s.size() <= 96 && s != "." && s != ".." && std::ranges::all_of(s, [upper](unsigned char c) {
    return std::islower(c) || std::isdigit(c) || c == '.' || c == '_' || c == '-' || (upper && std::isupper(c));
  });
}

/// Either half of org/repo by the hub's own rule: "--" separates the halves in the cache's folder names, so that a name
/// with one, or with "-" at its ends, would share the folder of another repository.
bool is_hub_name(std::string_view s) {
  const auto inner = [](char c) { return c == '-' || c == '.'; };
  return is_name(s, true) && !s.contains("--") && !s.contains("..") && !inner(s.front()) && !inner(s.back()) &&
         !s.ends_with(".git");
}

std::unexpected<Error> refuse(std::string_view why) {
  return fail(ErrorCode::kInvalidRequest, "the model reference {}", why);
}

Result<ModelRef> parse_hub(std::string_view text) {
  ModelRef r;
  r.kind = ModelRef::Kind::kHub, r.revision = "main";
  if (const std::size_t colon = text.find(':'); colon != text.npos) {
    r.file = text.substr(colon + 1), text = text.substr(0, colon);
    for (std::string_view rest = r.file; !rest.empty();) {
      const std::string_view part = rest.substr(0, rest.find('/'));
      if (!is_name(part, true)) return refuse("names no file that could be meant");
      rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    }
    if (r.file.empty() || r.file.ends_with('/')) return refuse("ends where a file or quantization should stand");
  }
  if (const std::size_t at = text.find('@'); at != text.npos) {
    r.revision = text.substr(at + 1), text = text.substr(0, at);
    if (!is_name(r.revision, true)) return refuse("has a revision of other characters than A-Z a-z 0-9 . _ -");
  }
  const std::size_t slash = text.find('/');
  if (slash == text.npos || !is_hub_name(text.substr(0, slash)) || !is_hub_name(text.substr(slash + 1)))
    return refuse("must be org/repo[@revision][:file-or-quant], with names that the hub allows");
  r.repo = text;
  return r;
}

Result<ModelRef> parse_kind(std::string_view text) {
  ModelRef r;
  if (text.starts_with("builtin:")) {
    r.kind = ModelRef::Kind::kBuiltin, r.name = text.substr(8);
    if (!is_name(r.name, false)) return refuse("names a builtin of other characters than a-z 0-9 . _ -");
    return r;
  }
  const bool file = text.starts_with("file:");
  if (file || text.starts_with("/") || text.starts_with("./")) {
    r.kind = ModelRef::Kind::kFile, r.path = file ? text.substr(5) : text;
    if (!r.path.starts_with('/')) return refuse("has a path that is not absolute");
    return r;
  }
  if (text.starts_with("hf:")) return parse_hub(text.substr(3));
  if (text.contains('/')) return parse_hub(text);
  if (!is_name(text, false))
    return refuse("is none of builtin:name, file:/path, org/repo, or an alias of a-z 0-9 . _ -");
  r.name = text;
  return r;
}

}  // namespace

std::string ModelRef::text() const {
  switch (kind) {
    case Kind::kBuiltin: return "builtin:" + name;
    case Kind::kFile: return "file:" + path;
    case Kind::kHub: return "hf:" + repo + "@" + revision + (file.empty() ? "" : ":" + file);
    case Kind::kAlias: break;
  }
  return name;
}

std::string ModelRef::short_name() const {
  switch (kind) {
    case Kind::kFile: return path.substr(path.rfind('/') + 1);
    case Kind::kHub: return repo.substr(repo.find('/') + 1);
    case Kind::kBuiltin:
    case Kind::kAlias: break;
  }
  return name;
}

Result<ModelRef> parse_model_ref(std::string_view text) {
  if (const auto flaw = security::check_model_reference(text)) return refuse(security::describe(*flaw));
  Result<ModelRef> r = parse_kind(text);
  // The full spelling is what is stored and told: it must be a reference itself.
  if (r && security::check_model_reference(r->text())) return refuse("is too long once it is spelled out");
  return r;
}

std::string quant_in_name(std::string_view file) {
  static constexpr std::array<std::string_view, 29> kKnown = {
      "Q4_K_M", "Q4_K_S", "Q5_K_M",  "Q5_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K_S", "MXFP4", "NVFP4",
      "IQ4_NL", "IQ4_XS", "IQ3_XXS", "IQ3_XS", "IQ3_S",  "IQ3_M",  "TQ2_0",  "Q4_0",   "Q4_1",  "Q5_0",
      "Q5_1",   "Q8_0",   "Q6_K",    "Q2_K",   "Q3_K",   "Q4_K",   "Q5_K",   "BF16",   "F16"};
  std::string upper(file);
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
  for (const std::string_view quant : kKnown)
    if (upper.contains(quant)) return std::string(quant);
  return upper.contains("F32") ? "F32" : "";
}

}  // namespace llorch::colony
