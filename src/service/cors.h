// Which pages of other origins may use a daemon's API (CORS), by --cors-origin. None, unless it is configured.
//
// Keys travel in headers that a page's own script sets; nothing here depends on cookies, so that no answer allows
// credentials, and "*" is safe to send. Source: the Fetch standard, section 3.3. Threads: values only.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/http_types.h"

namespace llorch::service {

/// What one answer says of it.
struct CorsAnswer {
  std::string allow_origin;  // as the request spells it, or "*"; empty: pages of that origin may not
  bool varies = false;       // other origins get another answer

  [[nodiscard]] bool allowed() const { return !allow_origin.empty(); }
  void add_to(net::Headers& headers) const;
};

class CorsPolicy {
 public:
  CorsPolicy() = default;
  /// Each origin is scheme://host[:port], "null", or "*" for all. Errors: kInvalidRequest for anything else.
  [[nodiscard]] static Result<CorsPolicy> make(const std::vector<std::string>& origins);
  /// `origin`: the request's header.
  [[nodiscard]] CorsAnswer answer(const std::optional<std::string>& origin) const;

 private:
  std::vector<std::string> origins_;  // in lower case, without the scheme's own port
  bool all_ = false;
};

/// What the answer to a preflight says besides. `wanted`: Access-Control-Request-Headers.
void add_preflight_headers(net::Headers& headers, const std::string& methods, std::string_view wanted);

}  // namespace llorch::service
