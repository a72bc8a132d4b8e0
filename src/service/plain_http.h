// Plain HTTP from our own clients, keeper and hive: what they send is for the other daemon alone.
#pragma once

#include "base/result.h"
#include "net/url.h"

namespace llorch::service {

/// Errors: kInvalidRequest for http:// to another machine unless `insecure` (--insecure-http), saying what it would
/// give away.
[[nodiscard]] Status check_plain_http(const net::Url& url, bool insecure);

}  // namespace llorch::service
