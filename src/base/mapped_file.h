// A file mapped read-only into memory, or bytes that live elsewhere (a model compiled into the program).
//
// Ownership: unmaps on destruction; spans taken from bytes() die with it. Threads: bytes() may be read from any thread.
// Errors: kIo with the path and the system's reason.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/open_file.h"
#include "base/result.h"

namespace llorch {

class MappedFile {
 public:
  [[nodiscard]] static Result<MappedFile> open(const std::string& path);
  /// Wraps bytes that outlive the object; nothing is unmapped.
  [[nodiscard]] static MappedFile borrow(std::span<const std::byte> bytes);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  /// Tells the system that these bytes will not be needed again soon, so that their pages may go. Contents stay
  /// readable.
  void release(std::span<const std::byte> part) const;
  /// Copies some of the bytes from the file itself, so that their pages do not come to stay.
  void read(std::span<const std::byte> part, std::byte* to) const;

 private:
  std::span<const std::byte> bytes_;
  int file_ = -1;  // open, where the bytes are mapped
};

/// The file that a byte lies in, or null.
[[nodiscard]] const MappedFile* file_with(std::span<const MappedFile> files, const std::byte* at);
/// Copies bytes as MappedFile::read() does from the file that holds them, or from memory.
void read_bytes(std::span<const MappedFile> files, std::span<const std::byte> part, std::byte* to);

}  // namespace llorch
