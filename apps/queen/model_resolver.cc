#include "queen/model_resolver.h"

namespace llorch::queen {

constexpr std::string_view kBuiltin = "builtin:haiku";  // the only one

Result<ResolvedModel> ModelResolver::resolve(std::string_view model, const security::Principal& who) const {
  const bool admin = who.may(security::Scope::kAdmin);
  ResolvedModel r;
  LLORCH_TRY(r.ref, colony::parse_model_ref(model));
  r.access = admin ? colony::ModelAccess::all() : colony::ModelAccess{false, infer_may_fetch_};
  if (r.ref.kind == colony::ModelRef::Kind::kAlias) {
    const auto it = aliases_.find(r.ref.name);
    if (it == aliases_.end()) return std::unexpected(colony::no_such_model());
    LLORCH_TRY(r.ref, colony::parse_model_ref(it->second));
  }
  const std::string text = r.ref.text();
  if (r.ref.kind == colony::ModelRef::Kind::kBuiltin && text != kBuiltin)
    return std::unexpected(colony::no_such_model());
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
