// Chat templates: our subset of Jinja, with budgets, for templates that come out of untrusted model files (E-33, S-55).
//
// Rendering equals Jinja's ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True) with loopcontrols, a
// tojson that does not escape HTML, raise_exception and strftime_now. There is no way from a template to the host.
// Threads: const after construction, safe from any thread. Errors: kInvalidRequest, naming line and reason, never
// quoting the request.
#pragma once

#include <boost/json.hpp>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/work_limit.h"
#include "jinja/value.h"

namespace llorch::jinja {

struct Statement;

class Template {
 public:
  /// Errors: kModelLoadFailed for what cannot be parsed or is not supported.
  [[nodiscard]] static Result<Template> parse(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  /// `variables` are untrusted JSON; `trusted` (bos_token and the like) take precedence. `now`: what strftime_now
  /// tells. Errors also: those of `limit` (kOperationTimeout, kCancelled). Without one: kRenderUnitsMax units.
  [[nodiscard]] Result<Text> render(const boost::json::object& variables,
                                    const std::vector<std::pair<std::string, Value>>& trusted, std::time_t now,
                                    WorkLimit& limit) const;
  [[nodiscard]] Result<Text> render(const boost::json::object& variables,
                                    const std::vector<std::pair<std::string, Value>>& trusted, std::time_t now) const;

 private:
  Template();
  std::shared_ptr<const std::vector<Statement>> statements_;
};

/// The messages of a conversation, for render(). Untrusted but for their roles, which the request's check has held
/// against a fixed set. Errors: kInvalidRequest, and those of `limit`.
[[nodiscard]] Result<Value> read_messages(const boost::json::array& messages, WorkLimit& limit);

}  // namespace llorch::jinja
