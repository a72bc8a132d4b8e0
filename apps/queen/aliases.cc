#include "queen/aliases.h"

#include "base/nearest.h"
#include "queen/queen.h"
#include "security/validate.h"
#include "service/log.h"

namespace llorch::queen {
namespace {

/// Writes in the background; what could not be written is taken back by `undo`.
void write(Queen& q, std::function<Status()> work, std::function<void()> undo,
           std::function<void(const Status&)> then) {
  const auto written = std::make_shared<Status>();
  q.background().run([written, work = std::move(work)] { *written = work(); },
                     [written, undo = std::move(undo), then = std::move(then)](const Status& done) {
                       const Status& outcome = done ? *written : done;
                       if (!outcome) undo();
                       then(outcome);
                     });
}

}  // namespace

Status check_alias(const std::string& name) {
  const auto as_ref = colony::parse_model_ref(name);
  if (!as_ref || as_ref->kind != colony::ModelRef::Kind::kAlias)
    return fail(ErrorCode::kInvalidRequest, "name must be of a-z 0-9 . _ -");
  if (const auto builtin = builtin_aliases().find(name); builtin != builtin_aliases().end())
    return fail(ErrorCode::kInvalidRequest, "'{}' is the name of {}, which every colony has", name, builtin->second);
  return {};
}

void set_alias(Queen& q, const std::string& name, const std::string& ref,
               std::function<void(const Result<std::string>&)> then) {
  const auto told = [name, ref](const std::string& before) {
    const std::string text = fmt::format("{} means {} from now on", name, ref);
    return before.empty() || before == ref ? text : text + ", and no longer " + before;
  };
  if (Sharing* sharing = q.sharing())
    return sharing->set_alias(name, ref, [told, then = std::move(then)](const Status& kept, const std::string& before) {
      then(kept ? Result<std::string>(told(before)) : std::unexpected(kept.error()));
    });
  auto& aliases = q.catalog().aliases;
  const auto known = aliases.find(name);
  const std::string before = known == aliases.end() ? "" : known->second;
  aliases[name] = ref;
  const auto undo = [&aliases, name, ref, before] {
    const auto now = aliases.find(name);
    if (now == aliases.end() || now->second != ref) return;
    if (before.empty())
      aliases.erase(now);
    else
      now->second = before;
  };
  write(
      q, [&q, name, ref] { return q.catalog().save_alias(name, ref); }, undo,
      [told, before, then = std::move(then)](const Status& kept) {
        then(kept ? Result<std::string>(told(before)) : std::unexpected(kept.error()));
      });
}

void give_alias(Queen& q, const std::string& name, const std::string& ref) {
  if (q.catalog().aliases.contains(name) || !check_alias(name)) return;
  set_alias(q, name, ref, [name](const Result<std::string>& kept) {
    if (!kept)
      service::log(service::Level::kWarn, "catalog_failed",
                   fmt::format("the name {} cannot be kept: {}", name, kept.error().message));
  });
}

Status remove_alias(Queen& q, const std::string& name, std::function<void(const Status&)> then) {
  auto& aliases = q.catalog().aliases;
  if (!aliases.contains(name)) {
    std::vector<std::string> names;
    for (const auto& [known, ref] : aliases) names.push_back(known);
    return fail(ErrorCode::kModelNotFound, "no model has the name '{}'{}", security::sanitize(name, 96),
                did_you_mean(name, names));
  }
  LLORCH_OK(check_alias(name));
  if (Sharing* sharing = q.sharing()) return sharing->remove_alias(name, std::move(then)), Status();
  const std::string before = aliases.at(name);
  aliases.erase(name);
  write(
      q, [&q, name] { return q.catalog().delete_alias(name); },
      [&aliases, name, before] { aliases.try_emplace(name, before); }, std::move(then));
  return {};
}

}  // namespace llorch::queen
