// The prefix cache's level on disk: a file for each page and checkpoint, so that a process that starts finds what
// another has computed.
//
// FOLDER/NAME-DIGEST/ holds what belongs to one model, build and instruction set (`owner`). In it HASH.GROUP is a head
// (magic, bytes, SHA-256 over key and content) and the content. A file is written under a name of its own and renamed
// when whole, so a process that dies leaves no half of one; what is read is checked, and a file that is wrong is
// removed. Nothing is synchronised to the disk: after a power failure the check finds what is missing. Processes share
// a folder without locks: they write the same bytes under the same names, and a file that another has removed is not
// there. All of FOLDER keeps below its limit, the longest unused files going first (each process counts anew when it
// has written a sixteenth of the limit); files with names of other forms are left alone.
//
// The content tells what a conversation was about: folders and files are their owner's alone (0700, 0600), and a folder
// NAME-DIGEST that another user has made is refused. Salts are
// not written; they are part of every hash. Threads: any. Blocks.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/result.h"
#include "cache/content.h"

namespace llorch {

class DiskLevel {
 public:
  struct Options {
    std::string folder;
    std::string name;   // of the model, for people who look into the folder
    std::string owner;  // a text that differs where contents must not be shared
    std::int64_t bytes_max = 0;
  };
  enum class Found { kNo, kYes, kDamaged };

  /// Makes the folder where it is missing. Errors: kIo.
  [[nodiscard]] static Result<std::unique_ptr<DiskLevel>> open(Options options);

  [[nodiscard]] bool has(const ContentKey& key);
  /// Fills `to`, whose size the content must have. kDamaged: the file was removed.
  [[nodiscard]] Found get(const ContentKey& key, std::span<std::byte> to);
  /// Errors: kIo (a full disk, a content above the limit); there is no new file then.
  [[nodiscard]] Status put(const ContentKey& key, std::span<const std::byte> content);
  /// Of all models, as far as this process knows.
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  explicit DiskLevel(Options options);
  [[nodiscard]] std::string path_of(const ContentKey& key) const;
  void note(const ContentKey& key, bool there);
  /// Counts all files, for others write, too; above the limit removes the longest unused ones, until a tenth of it is
  /// free.
  void make_room();

  Options options_;
  std::string place_;                                      // the folder of this owner
  std::atomic<std::int64_t> bytes_{0}, written_since_{0};  // since all files were counted
  struct Seen {
    bool there;
    std::chrono::steady_clock::time_point when;
  };
  std::mutex mutex_;                  // guards what follows
  std::map<ContentKey, Seen> known_;  // files that were looked for
};

}  // namespace llorch
