#include "hive/queens.h"

#include <algorithm>

#include "net/url.h"
#include "security/auth.h"

namespace llorch::hive {

Queens::Queens(const std::string& given) {
  for (std::size_t at = 0; at < given.size();) {
    const std::size_t comma = std::min(given.find(',', at), given.size());
    if (const std::string url = given.substr(at, comma - at); !url.empty()) given_.push_back(url);
    at = comma + 1;
  }
  all_ = given_;
}

bool Queens::learn(const std::vector<std::string>& urls) {
  const auto teller = net::parse_url(now());
  std::vector<std::string> all = given_;
  for (const std::string& url : urls) {
    const auto read = net::parse_url(url);
    if (!read || !teller || (teller->tls && !read->tls)) continue;
    if (security::is_loopback(read->host) && !security::is_loopback(teller->host)) continue;
    if (all.size() < kMax && std::ranges::find(all, url) == all.end()) all.push_back(url);
  }
  // Who is spoken to stays in the list until she does not answer: she may know of herself by another address.
  if (std::ranges::find(all, now()) == all.end()) all.push_back(now());
  const auto sorted = [](std::vector<std::string> v) { return std::ranges::sort(v), v; };
  if (sorted(all) == sorted(all_)) return false;
  const std::string current = now();
  all_ = std::move(all);
  at_ = static_cast<std::size_t>(std::ranges::find(all_, current) - all_.begin());
  return true;
}

void Queens::next() {
  if (!all_.empty()) at_ = (at_ + 1) % all_.size();
}

}  // namespace llorch::hive
