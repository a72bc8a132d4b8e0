// The bytes of a model's file, named by addresses and read by pread.
//
// A mapping would be killed by SIGBUS where the file is cut while it is in use. So nothing is mapped: addresses are
// reserved for the file's bytes, that spans can name parts of it, and read() copies. Touching a reserved address
// faults. Bytes that lie in memory (a model compiled into the program) are read the same way.
// Ownership: spans taken from addresses() die with the object. Threads: read() from any thread. Errors: kIo for a file
// that cannot be opened; kModelChanged for what cannot be read afterwards.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/open_file.h"

namespace llorch {

class FileBytes {
 public:
  [[nodiscard]] static Result<FileBytes> open(const std::string& path);
  /// Wraps bytes that outlive the object.
  [[nodiscard]] static FileBytes borrow(std::span<const std::byte> bytes);

  FileBytes() = default;
  FileBytes(FileBytes&& other) noexcept;
  FileBytes& operator=(FileBytes&& other) noexcept;
  ~FileBytes();

  [[nodiscard]] std::span<const std::byte> addresses() const { return addresses_; }
  [[nodiscard]] bool holds(const std::byte* at) const {
    return at >= addresses_.data() && at < addresses_.data() + addresses_.size();
  }
  /// Copies a part of addresses(). Errors: kModelChanged.
  [[nodiscard]] Status read(std::span<const std::byte> part, std::byte* to) const;
  /// Whether the file is what it was when it was opened (RegularFile::unchanged). Errors: kModelChanged.
  [[nodiscard]] Status unchanged();

 private:
  std::span<const std::byte> addresses_;
  RegularFile file_;  // closed: the bytes are in memory
};

/// Reads `part` from the file that holds it.
[[nodiscard]] Status read_part(std::span<const FileBytes> files, std::span<const std::byte> part, std::byte* to);
/// Of the file that holds `part`; of all of them, where it is empty.
[[nodiscard]] Status parts_unchanged(std::span<FileBytes> files, std::span<const std::byte> part);

}  // namespace llorch
