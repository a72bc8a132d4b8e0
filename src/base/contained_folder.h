// A folder that no name from outside can leave: files below it are opened, made, renamed, linked and removed relative
// to its descriptor, and no symbolic link on the way is followed.
//
// Every name goes through check_relative_path() first. The kernel resolves it (openat2 with RESOLVE_BENEATH and
// RESOLVE_NO_SYMLINKS); where it cannot (before Linux 5.6, or forbidden by a sandbox), the same is done one component
// at a time. Threads: any. Blocks. Errors: kInvalidRequest for a bad name; kIo.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include "base/result.h"

namespace llorch {

class ContainedFolder {
 public:
  enum class Lookup { kKernel, kWalk };  // kWalk: one component at a time, for tests too
  struct Entry {
    bool regular = false, link = false;
    std::int64_t size = 0;
  };
  struct Listed {
    std::string name;
    bool folder = false, link = false;
  };

  /// Opens `path`, which is trusted; it is made, with its parents, where it is missing.
  [[nodiscard]] static Result<ContainedFolder> open(const std::string& path, Lookup lookup = Lookup::kKernel);

  /// A regular file, with the flags of open(2). Never blocks on a FIFO, and refuses everything else.
  [[nodiscard]] Result<Descriptor> open_file(std::string_view name, int flags) const;
  /// What the name stands for, a link itself included; nothing when it is free.
  [[nodiscard]] Result<std::optional<Entry>> find(std::string_view name) const;
  /// The text of a link: where it leads is not looked at. Errors: kIo also for what is no link.
  [[nodiscard]] Result<std::string> read_link(std::string_view name) const;
  /// What is in a folder, at most `count_max` (more is an error). A folder that is not there is empty.
  [[nodiscard]] Result<std::vector<Listed>> list(std::string_view name, std::size_t count_max) const;
  /// The folder and its parents.
  [[nodiscard]] Status make_folders(std::string_view name) const;
  /// A file that is there already is replaced.
  [[nodiscard]] Status rename(std::string_view from, std::string_view to) const;
  /// A name that is free already is no error. No folders.
  [[nodiscard]] Status remove(std::string_view name) const;
  /// The file gets this content at once or not at all.
  [[nodiscard]] Status write_text(std::string_view name, std::string_view text) const;
  /// `name` becomes a relative link to `target`, both below this folder. A file or link that is there is replaced.
  [[nodiscard]] Status link(std::string_view name, std::string_view target) const;
  /// Bytes that are free on the disk, for us.
  [[nodiscard]] std::optional<std::int64_t> free_bytes() const;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  struct Place;
  ContainedFolder(std::string path, Descriptor root, Lookup lookup)
      : path_(std::move(path)), root_(std::move(root)), lookup_(lookup) {}
  /// The folder that holds `name`, opened, and the last component.
  [[nodiscard]] Result<Place> place_of(std::string_view name) const;
  [[nodiscard]] Result<Descriptor> open_folder(std::string_view name) const;

  std::string path_;
  Descriptor root_;
  Lookup lookup_;
};

}  // namespace llorch
