// TLS of servers and of our own client: what is shown, who is believed. By OpenSSL.
//
// Inside a colony a daemon is called by a name that only the colony knows ("attic.hive.llorch.internal"), wherever it
// is: that name is asked for (SNI), must stand in the certificate, and gets the colony's own certificate, over TLS 1.3,
// with the caller's certificate asked for. Every other name gets the certificate for people, where there is one, over
// TLS 1.2 or 1.3. All texts are PEM. What was made is immutable and may be shared by threads; a server's is replaced
// as a whole. Errors: kInvalidRequest saying which text cannot be used. Source: RFC 8446, RFC 6066.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/colony_name.h"
#include "base/result.h"

namespace llorch::net {

[[nodiscard]] bool is_colony_name(std::string_view host);

/// A certificate with those that lead to its root, and its key. Empty: none.
struct TlsPair {
  std::string chain, private_key;
  [[nodiscard]] bool empty() const { return chain.empty(); }
};

/// What a server does.
class TlsServer {
 public:
  struct Options {
    TlsPair people, colony;          // without one for people, they get the colony's
    std::string authorities;         // whose certificates callers of the colony may show
    bool callers_must_show = false;  // one, when they ask for a name of the colony
  };
  [[nodiscard]] static Result<std::shared_ptr<TlsServer>> make(const Options& options);
  ~TlsServer();

  struct State;
  [[nodiscard]] State& state() const { return *state_; }

 private:
  TlsServer();
  std::unique_ptr<State> state_;
};

/// What our client does.
class TlsClient {
 public:
  struct Options {
    TlsPair own;                   // shown to servers that ask
    std::string authorities;       // whose certificates are believed; empty: the system's
    std::string root_fingerprint;  // SHA-256, 64 hex digits: the one root that is believed, though nobody has seen it
    /// Asked last: the server's certificate in DER, and the name that it was called by. Any thread; does not throw.
    std::function<bool(const std::string& certificate, const std::string& name)> accepts;
  };
  [[nodiscard]] static Result<std::shared_ptr<const TlsClient>> make(const Options& options);
  ~TlsClient();

  struct State;
  [[nodiscard]] const State& state() const { return *state_; }

 private:
  TlsClient();
  std::unique_ptr<State> state_;
};

}  // namespace llorch::net
