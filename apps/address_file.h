// The file in which a daemon leaves its address, for programs of this machine: there while it listens; after kill -9 it
// is old until the next start.
//
// Blocks: before the loop runs and after it. Errors: those of security::write_secret_file.
#pragma once

#include <unistd.h>

#include <string>
#include <utility>

#include "colony/address.h"
#include "security/keys.h"
#include "service/front.h"

namespace llorch {

/// In a queen's data directory: "http[s]://address:port", as this machine reaches her.
inline std::string queen_address_file(const std::string& data_dir) { return data_dir + "/queen-url"; }
/// The same in a hive's.
inline std::string hive_address_file(const std::string& data_dir) { return data_dir + "/hive-url"; }

/// Where this machine reaches a daemon that listens on `listen`.
inline std::string own_url(const std::string& listen, int port, bool secure) {
  const std::string host = !colony::is_any_address(listen) ? listen : listen.contains(':') ? "::1" : "127.0.0.1";
  return service::base_url(host, port, secure);
}

class AddressFile {
 public:
  explicit AddressFile(std::string path) : path_(std::move(path)) {}
  ~AddressFile() {
    if (written_) unlink(path_.c_str());
  }
  AddressFile(const AddressFile&) = delete;
  AddressFile& operator=(const AddressFile&) = delete;
  [[nodiscard]] Status write(const std::string& url) {
    LLORCH_OK(security::write_secret_file(path_, url));
    written_ = true;
    return {};
  }

 private:
  std::string path_;
  bool written_ = false;
};

}  // namespace llorch
