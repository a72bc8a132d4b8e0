// The file that says where this queen is (queen_address.h): there while she listens.
//
// Blocks: before the loop runs and after it. Errors: those of security::write_secret_file.
#pragma once

#include <unistd.h>

#include <string>
#include <utility>

#include "security/keys.h"

namespace llorch::queen {

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

}  // namespace llorch::queen
