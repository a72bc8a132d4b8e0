#include "net/resolver.h"

#include <netdb.h>

#include "net/tls_state.h"

namespace llorch::net {
namespace {

constexpr std::size_t kLookupsAtOnce = 4;

Result<std::vector<std::string>> look_up(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  int problem = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (problem == EAI_NONAME || problem == EAI_ADDRFAMILY) {  // a machine that has nothing but loopback
    hints.ai_flags = 0;
    problem = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  }
  if (problem != 0) return fail(ErrorCode::kIo, "{}", gai_strerror(problem));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> keep(list, freeaddrinfo);
  std::vector<std::string> found;
  for (const addrinfo* a = list; a; a = a->ai_next) {
    std::array<char, NI_MAXHOST> text;  // NOLINT
    if (getnameinfo(a->ai_addr, a->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) continue;
    found.push_back(a->ai_family == AF_INET6 ? fmt::format("[{}]", text.data()) : text.data());
  }
  if (found.empty()) return fail(ErrorCode::kIo, "the name has no address");
  return found;
}

}  // namespace

Resolver::Lookup Resolver::find(const std::string& host, bool authorities, Done done) {
  if (!threads_) threads_ = std::make_unique<asio::thread_pool>(kLookupsAtOnce);
  Lookup lookup;
  lookup.done_ = std::make_shared<Done>(std::move(done));
  asio::post(*threads_, [&inbox = inbox_, host, authorities, weak = std::weak_ptr<Done>(lookup.done_)] {
    if (weak.expired()) return;
    if (authorities) read_system_authorities();
    auto found = look_up(host);
    inbox.post([weak, found = std::move(found)]() mutable {
      if (const auto told = weak.lock()) (*told)(std::move(found));
    });
  });
  return lookup;
}

}  // namespace llorch::net
