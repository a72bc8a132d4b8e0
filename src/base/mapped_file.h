// A file mapped read-only, whose pages processes share, for what is too large to be copied at every start.
//
// A mapped file that is cut, or that the disk cannot read, raises SIGBUS in whoever touches it. MappedFile::open()
// installs a handler for the process: a fault inside one of these mappings replaces the whole mapping by zeros and is
// remembered, so that the computation under way ends in order; intact() then fails, and nothing that was computed may
// be used. Faults elsewhere go on to whoever handled them before, or end the process as they would have. Ownership:
// unmaps on destruction; spans taken from bytes() die with it. Threads: bytes() from any thread. Errors: kIo with the
// path and the system's reason.
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

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const RegularFile& file() const { return file_; }
  /// Whether all that was read from bytes() so far were the file's bytes when it was opened. Threads: one at a time.
  /// Errors: kModelChanged.
  [[nodiscard]] Status intact();

 private:
  RegularFile file_;
  std::span<const std::byte> bytes_;
  int slot_ = -1;  // of the handler's table
};

}  // namespace llorch
