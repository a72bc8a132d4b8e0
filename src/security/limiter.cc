#include "security/limiter.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <cstring>

#include "base/ids.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

constexpr std::size_t kSlots = 1u << 14;  // of each table: 256 KiB
constexpr int kFailuresMax = 10;
constexpr std::int64_t kWindowSeconds = 60;

}  // namespace

std::string network_of(std::string_view address) {
  in6_addr six{};
  const std::string text(address);
  if (inet_pton(AF_INET6, text.c_str(), &six) != 1) return text;
  const char* bytes = reinterpret_cast<const char*>(six.s6_addr);
  if (!IN6_IS_ADDR_V4MAPPED(&six)) return std::string(bytes, 8);
  return fmt::format("{}.{}.{}.{}", six.s6_addr[12], six.s6_addr[13], six.s6_addr[14], six.s6_addr[15]);
}

FailureLimiter::Slot& FailureLimiter::slot(Table& table, std::string_view what, std::int64_t now_s) {
  std::uint64_t number = 0;
  const std::string hash = sha256(fmt::format("{}|{}", secret_, what));
  std::memcpy(&number, hash.data(), sizeof number);
  Slot& s = table[number % kSlots];
  if (s.count == 0 || now_s - s.since_s >= kWindowSeconds) s = {now_s, 0};
  return s;
}

bool FailureLimiter::add(std::string_view address, std::string_view shown, Time now) {
  if (addresses_.empty()) addresses_.resize(kSlots), pairs_.resize(kSlots), secret_ = random_hex(32);
  const std::int64_t now_s = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  const std::string network = network_of(address);
  Slot& pair = slot(pairs_, fmt::format("{}|{}", network, shown), now_s);
  Slot& all = slot(addresses_, network, now_s);
  const bool over = pair.count >= kFailuresMax || all.count >= kFailuresMax;
  if (pair.count == 0 && all.count < kFailuresMax) ++all.count;
  if (pair.count < kFailuresMax) ++pair.count;
  return over;
}

}  // namespace llorch::security
