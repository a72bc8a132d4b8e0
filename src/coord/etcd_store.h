// CoordStore over etcd (3.4 and later), by its JSON gateway and the one HTTP client.
//
// Calls go to one endpoint as long as that answers, then to the next one; what was sent is repeated elsewhere only
// where that does no harm. The first answer of each endpoint must name the same cluster. With user and password a token
// is asked for, and again when etcd no longer takes it. (Names in certificates do not authenticate at the gateway.) A
// watch is a streamed answer, which would look healthy when its member no longer hears of changes. So each stream also
// watches one key that is written every `pulse`, by whichever store sees that nobody has; a stream that brings nothing
// for `silence` is opened again at another endpoint, from the revision behind the last one that it brought.
// Under `prefix` this program has "<prefix>/data/<key>" and "<prefix>/pulse": an etcd user needs these keys alone.
// Threads: the loop's. Source: etcd's documentation, version 3.4, "API reference" and "gRPC gateway".
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coord/coord_store.h"
#include "coord/store_url.h"
#include "net/tls.h"

namespace llorch::coord {

struct EtcdOptions {
  std::vector<net::Url> endpoints;
  std::string prefix = "/llorch";  // check_prefix()
  std::optional<Credentials> credentials;
  std::shared_ptr<const net::TlsClient> tls;  // as net::ClientRequest::tls: null: the loop's
  std::chrono::milliseconds connect_timeout{1000}, answer_timeout{2000};  // of one endpoint
  std::chrono::milliseconds pulse{2000}, silence{6000};
};

/// Connects with the first call. Errors, there: see coord_store.h.
[[nodiscard]] std::unique_ptr<CoordStore> make_etcd_store(net::EventLoop& loop, EtcdOptions options);

}  // namespace llorch::coord
