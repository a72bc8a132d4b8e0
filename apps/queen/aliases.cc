#include "queen/aliases.h"

#include "base/nearest.h"
#include "queen/queen.h"
#include "security/validate.h"

namespace llorch::queen {
namespace {

Status check_name(const std::string& name) {
  const auto as_ref = colony::parse_model_ref(name);
  if (!as_ref || as_ref->kind != colony::ModelRef::Kind::kAlias)
    return fail(ErrorCode::kInvalidRequest, "name must be of a-z 0-9 . _ -");
  if (const auto builtin = builtin_aliases().find(name); builtin != builtin_aliases().end())
    return fail(ErrorCode::kInvalidRequest, "'{}' is the name of {}, which every colony has", name, builtin->second);
  return {};
}

}  // namespace

Result<std::string> set_alias(Queen& q, const std::string& name, const std::string& ref) {
  LLORCH_OK(check_name(name));
  auto& aliases = q.catalog().aliases;
  const auto before = aliases.find(name);
  const std::string was = before == aliases.end() || before->second == ref ? "" : before->second;
  aliases[name] = ref;
  q.background().run([&q, name, ref] { (void)q.catalog().save_alias(name, ref); });
  std::string told = fmt::format("{} means {} from now on", name, ref);
  return was.empty() ? told : told + ", and no longer " + was;
}

Status remove_alias(Queen& q, const std::string& name) {
  auto& aliases = q.catalog().aliases;
  if (!aliases.contains(name)) {
    std::vector<std::string> names;
    for (const auto& [known, ref] : aliases) names.push_back(known);
    return fail(ErrorCode::kModelNotFound, "no model has the name '{}'{}", security::sanitize(name, 96),
                did_you_mean(name, names));
  }
  LLORCH_OK(check_name(name));
  aliases.erase(name);
  q.background().run([&q, name] { (void)q.catalog().delete_alias(name); });
  return {};
}

}  // namespace llorch::queen
