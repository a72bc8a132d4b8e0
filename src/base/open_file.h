// Regular files, opened without ever waiting, and what tells one state of a file from another.
//
// What a path names may be anything: a FIFO blocks open() until somebody writes, a device has effects, a directory
// cannot be read. open_regular_file() refuses those by the name of their kind. Threads: reading is safe from any
// thread. Errors: kIo with the path and the system's reason.
#pragma once

#include <sys/stat.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"

namespace llorch {

/// What a file would have to keep for its bytes to be trusted unread.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  std::int64_t size = 0, modified_ns = 0, changed_ns = 0;  // times since 1970: of the bytes, and of the inode

  [[nodiscard]] static FileIdentity of(const struct stat& info);
  /// Follows links. Errors: kIo: there is no such file.
  [[nodiscard]] static Result<FileIdentity> of(const std::string& path);
  /// "device:inode:size:modified:changed"
  [[nodiscard]] std::string text() const;
  auto operator<=>(const FileIdentity&) const = default;
};

/// "a FIFO", "a directory", ...
[[nodiscard]] std::string_view file_kind(mode_t mode);

/// An open descriptor of a regular file. Closed on destruction.
class RegularFile {
 public:
  RegularFile() = default;
  RegularFile(RegularFile&& o) noexcept
      : path_(std::move(o.path_)),
        descriptor_(std::exchange(o.descriptor_, -1)),
        mode_(o.mode_),
        owner_(o.owner_),
        links_(o.links_),
        identity_(o.identity_) {}
  RegularFile& operator=(RegularFile&& o) noexcept;
  ~RegularFile();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] mode_t mode() const { return mode_; }  // permission bits
  [[nodiscard]] uid_t owner() const { return owner_; }
  /// As it was when it was opened.
  [[nodiscard]] const FileIdentity& identity() const { return identity_; }
  [[nodiscard]] std::uint64_t size() const { return static_cast<std::uint64_t>(identity_.size); }

  /// Up to `to.size()` bytes from `offset` on; 0 at the end of the file.
  [[nodiscard]] Result<std::size_t> read_some(std::uint64_t offset, std::span<std::byte> to) const;
  /// All of `to`. Errors: kIo, also when the file ends before.
  [[nodiscard]] Status read(std::uint64_t offset, std::span<std::byte> to) const;
  /// Fails when size or times are no longer those of when it was opened. A name that came or went (the file was
  /// replaced by rename, or removed) changes nothing: an open file keeps its bytes. Threads: one at a time.
  [[nodiscard]] Status unchanged();

 private:
  friend Result<RegularFile> open_regular_file(const std::string& path);
  std::string path_;
  int descriptor_ = -1;
  mode_t mode_ = 0;
  uid_t owner_ = 0;
  nlink_t links_ = 0;
  FileIdentity identity_;
};

[[nodiscard]] Result<RegularFile> open_regular_file(const std::string& path);

/// The whole of a small text file. Errors: kIo; kInvalidRequest above `bytes_max`.
[[nodiscard]] Result<std::string> read_text_file(const std::string& path, std::size_t bytes_max);

}  // namespace llorch
