#include "queen/model_resolver.h"

#include "base/nearest.h"
#include "security/validate.h"

namespace llorch::queen {

constexpr std::string_view kBuiltin = "builtin:haiku";  // the only one

const std::map<std::string, std::string>& builtin_aliases() {
  static const std::map<std::string, std::string> all{{"haiku", std::string(kBuiltin)}};
  return all;
}

Error not_found_of(const Error& error) {
  return error.code == ErrorCode::kModelNotFound ? error : colony::no_such_model();
}

/// A name that is none is told with the nearest: names are the operator's own.
std::unexpected<Error> ModelResolver::unknown(std::string_view model, bool admin) const {
  std::vector<std::string> names{std::string(kBuiltin)};
  for (const auto& [name, ref] : aliases_) names.push_back(name);
  const std::string hint = admin ? did_you_mean(model, names) : "";
  if (hint.empty()) return std::unexpected(colony::no_such_model());
  return fail(ErrorCode::kModelNotFound, "there is no model '{}'{}", security::sanitize(model, 96), hint);
}

Result<ResolvedModel> ModelResolver::resolve(std::string_view model, const security::Principal& who) const {
  const bool admin = who.may(security::Scope::kAdmin);
  ResolvedModel r;
  auto parsed = colony::parse_model_ref(model);
  if (!parsed && !model.contains('/') && model.size() <= 96) {
    Error near = unknown(model, admin).error();
    if (near.message != colony::no_such_model().message) return std::unexpected(std::move(near));
  }
  LLORCH_TRY(r.ref, std::move(parsed));
  r.access = admin ? colony::ModelAccess::all() : colony::ModelAccess{false, infer_may_fetch_};
  if (r.ref.kind == colony::ModelRef::Kind::kAlias) {
    const auto it = aliases_.find(r.ref.name);
    if (it == aliases_.end()) return unknown(model, admin);
    LLORCH_TRY(r.ref, colony::parse_model_ref(it->second));
  }
  const std::string text = r.ref.text();
  if (r.ref.kind == colony::ModelRef::Kind::kBuiltin && text != kBuiltin) return unknown(model, admin);
  // Aliases are the operator's: a file that one names may be opened, under either spelling.
  if (r.ref.kind == colony::ModelRef::Kind::kFile && !admin)
    for (const auto& [name, ref] : aliases_) r.access.file |= ref == text;
  if (r.access.allows(r.ref, false)) return r;
  switch (presence_(text)) {
    case Presence::kHere: return r;
    // Hives sleep: the one that is placed on looks into its own catalog, and opens and fetches nothing.
    case Presence::kUnknown:
      if (r.ref.kind == colony::ModelRef::Kind::kHub) return r;
      break;
    case Presence::kAbsent: break;
  }
  return std::unexpected(colony::no_such_model());
}

}  // namespace llorch::queen
