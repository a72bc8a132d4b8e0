// What models there are, and under which names: for OpenAI's clients, for people and for pages.
#include "queen/aliases.h"
#include "queen/queen.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;

/// By any name that resolves to it.
void show_model(Queen& q, const ContextPtr& c) {
  const auto resolved = q.resolve(c->parameters[0], c->principal);
  if (!resolved) return c->fail(not_found_of(resolved.error()), {}, "model");
  for (const auto& m : models(q))
    if (m.at("id") == boost::json::string(resolved->ref.text())) return c->reply(200, m);
  c->fail(colony::no_such_model(), {}, "model");
}

}  // namespace

void add_route_models(Queen& q) {
  using service::Scope;
  auto& r = q.front().router();
  for (const std::string prefix : {"/v1", ""}) {
    r.route<Scope::kInfer>("GET", prefix + "/models", [&q](const ContextPtr& c) {
      c->reply(200, {{"object", "list"}, {"data", models(q)}});
    });
    r.route<Scope::kInfer>("GET", prefix + "/models/{*}", [&q](const ContextPtr& c) { show_model(q, c); });
  }
  r.route<Scope::kInfer>("GET", "/v1/aliases", [&q](const ContextPtr& c) {
    c->reply(200, {{"aliases", boost::json::value_from(q.catalog().aliases)}});
  });
  r.route<Scope::kAdmin>("DELETE", "/v1/aliases/{}", [&q](const ContextPtr& c) {
    const std::string& name = c->parameters[0];
    const auto then = [c, name](const Status& gone) {
      if (!gone) return c->fail(gone.error());
      c->reply(200, {{"name", name}, {"status", "deleted"}});
    };
    if (const Status known = remove_alias(q, name, then); !known) c->fail(known.error(), {}, "name");
  });
}

}  // namespace llorch::queen
