// Where a fleet's store is, as people write it, and who may open it.
//
//   sqlite                    a file of the program's own choice
//   sqlite:/var/lib/fleet.db
//   etcd://a:2379,b:2379,c    endpoints of one cluster; without a port 2379
//   etcds://a:2379            the same over TLS
// Errors: kInvalidRequest saying what is wrong with which part. Threads: any; read_credentials() blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/url.h"

namespace llorch::coord {

struct StoreUrl {
  enum class Kind { kSqlite, kEtcd };
  Kind kind = Kind::kSqlite;
  std::string file;                 // of SQLite; empty: the program's choice
  std::vector<net::Url> endpoints;  // of etcd: at least one, at most 16
};
[[nodiscard]] Result<StoreUrl> parse_store_url(std::string_view text);

/// What keys of this program begin with in etcd: "/" and at least one more character, no "/" at the end.
[[nodiscard]] Status check_prefix(std::string_view prefix);

struct Credentials {
  std::string user, password;
};
/// One line, "user:password", in a file that only its owner can read. Errors: also kIo.
[[nodiscard]] Result<Credentials> read_credentials(const std::string& path);

}  // namespace llorch::coord
