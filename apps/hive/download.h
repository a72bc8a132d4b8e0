// A model file from a server that speaks the Hugging Face endpoints, into the Hugging Face cache layout (H-21, S-67,
// S-69).
//
// Blocks until done: runs on a thread of its own. The file's commit, size and SHA-256 come from the server's answer;
// what arrives is checked against them. A partial file is kept and resumed. No name that the server says leads out of
// the cache (colony/hub_listing.h, base/contained_folder.h). Errors: kModelNotFound, kDownloadFailed, kCancelled, kIo
// (no room), kModelLoadFailed (a family that is not supported: told from the file's beginning).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>

#include "base/descriptor.h"
#include "colony/hub_listing.h"
#include "hive/hub_client.h"

namespace llorch {
class ContainedFolder;
}

namespace llorch::hive {

/// Of a split file (base/split_name.h): path and name of its first part, size and manifest of all.
struct Fetched {
  std::string path, revision, file, sha256;
  std::string identity;  // of the file whose hash was found (security::identity_of)
  std::int64_t size = 0;
};

class Download {
 public:
  using OnProgress = std::function<void(std::int64_t done, std::int64_t total, double mb_per_s)>;
  Download(HubOptions options, colony::ModelRef ref) : options_(std::move(options)), ref_(std::move(ref)) {}
  /// Never throws: what is thrown on the way is an error.
  [[nodiscard]] Result<Fetched> run(const OnProgress& on_progress);
  /// From any thread: run() ends soon; what is there stays.
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_.request_stop();
    }
    stopped_.notify_all();
  }

 private:
  struct Remote {
    std::string etag, sha256;  // sha256: empty when the server does not say it
    std::int64_t size = 0;
  };
  /// One file of those that the model is split over, or the only one.
  struct Part {
    std::string url;
    Remote remote;
    colony::CacheNames names;
  };
  /// Reads the beginning of a model's file, before gigabytes are fetched. Errors: kModelLoadFailed for a family that is
  /// not supported.
  [[nodiscard]] Status check_family(const Part& first, const ContainedFolder& cache);
  [[nodiscard]] Attempt<std::string> read_beginning(const std::string& url);
  [[nodiscard]] static Status check_room(const std::vector<Part>& parts, const ContainedFolder& cache);
  [[nodiscard]] Result<Fetched> transfer(const OnProgress& on_progress);
  [[nodiscard]] Attempt<colony::HubListing> list();
  [[nodiscard]] Attempt<Remote> look(const std::string& url);
  [[nodiscard]] Attempt<bool> fetch(const std::string& url, const Remote& remote, const ContainedFolder& cache,
                                    const std::string& partial, const OnProgress& on_progress);
  /// The right to write the blob, for one process at a time: others of this cache are waited for. Errors: kCancelled,
  /// kIo.
  [[nodiscard]] Result<Descriptor> lock_blob(const ContainedFolder& cache, const colony::CacheNames& names,
                                             std::int64_t size, const OnProgress& on_progress);
  /// The blob, whole and with the right hash, which is returned.
  [[nodiscard]] Result<std::string> fill_blob(const std::string& url, const Remote& remote,
                                              const ContainedFolder& cache, const colony::CacheNames& names,
                                              const OnProgress& on_progress);
  /// Again and again while its failures are transient, with growing pauses.
  template<class Work>
  [[nodiscard]] auto repeat(Work work) -> Result<typename decltype(work())::value_type>;
  /// False: stopped meanwhile.
  [[nodiscard]] bool wait_ms(std::int64_t ms);

  HubOptions options_;
  colony::ModelRef ref_;
  std::stop_source stop_;
  std::mutex mutex_;
  std::condition_variable stopped_;
};

}  // namespace llorch::hive
