// A model file from a server that speaks the Hugging Face endpoints, into the Hugging Face cache layout (H-21, S-67,
// S-69).
//
// Blocks until done: runs on a thread of its own. The file's commit, size and SHA-256 come from the server's answer;
// what arrives is checked against them. A partial file is kept and resumed. Credentials go to the endpoint's own host
// alone. Errors: kModelNotFound, kDownloadFailed, kCancelled, kIo (no room).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "colony/model_ref.h"

namespace llorch::hive {

struct HubOptions {
  std::string endpoint = "https://huggingface.co", token, home;  // home: $HF_HOME
  std::vector<std::string> allowed_hosts;                        // besides the endpoint's and public ones
  int retries = 6;
  std::int64_t first_delay_ms = 500;
};
/// HF_ENDPOINT, HF_TOKEN (or the token file), HF_HOME, LLORCH_DOWNLOAD_HOSTS.
[[nodiscard]] HubOptions hub_from_environment();

struct Fetched {
  std::string path, revision, file, sha256;
  std::string identity;  // of the file whose hash was found (security::identity_of)
  std::int64_t size = 0;
};

class Download {
 public:
  using OnProgress = std::function<void(std::int64_t done, std::int64_t total, double mb_per_s)>;
  Download(HubOptions options, colony::ModelRef ref) : options_(std::move(options)), ref_(std::move(ref)) {}
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
  struct Http;
  struct Remote {
    std::string commit, etag, sha256;
    std::int64_t size = 0;
  };
  [[nodiscard]] Result<std::string> choose_file(std::string& commit);
  [[nodiscard]] Result<Remote> look(const std::string& url);
  [[nodiscard]] Status fetch(const std::string& url, const Remote& remote, const std::string& partial,
                             const OnProgress& on_progress);

  HubOptions options_;
  colony::ModelRef ref_;
  std::stop_source stop_;
  std::mutex mutex_;
  std::condition_variable stopped_;
};

}  // namespace llorch::hive
