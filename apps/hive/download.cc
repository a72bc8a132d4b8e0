#include "hive/download.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <random>

#include "arch/architecture.h"
#include "base/contained_folder.h"
#include "base/human.h"
#include "base/integer.h"
#include "format/gguf.h"
#include "net/url.h"
#include "security/manifest.h"
#include "security/validate.h"

namespace llorch::hive {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kRoomBytes = 16 << 20, kDelayMaxMs = 16'000;
constexpr long kListingSecondsMax = 120;
constexpr std::size_t kBeginningBytes = 64u << 10;

std::string unquoted(std::string s) {
  if (s.starts_with("W/")) s.erase(0, 2);
  std::erase(s, '"');
  return s;
}

std::unexpected<Error> stopped() { return fail(ErrorCode::kCancelled, "the download was stopped"); }

/// A file under construction: bytes are appended, or it begins anew.
struct Partial {
  Descriptor file;
  std::int64_t size = 0;

  Status begin_anew() {
    size = 0;
    if (::ftruncate(file.number(), 0) != 0) return fail(ErrorCode::kIo, "cannot write to the model cache");
    return {};
  }
  Status append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(file.number(), bytes.data(), bytes.size(), size);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return fail(ErrorCode::kIo, "cannot write to the model cache: {}", std::strerror(errno));
      bytes.remove_prefix(static_cast<std::size_t>(n)), size += n;
    }
    return {};
  }
};

}  // namespace

bool Download::wait_ms(std::int64_t ms) {
  std::unique_lock lock(mutex_);
  return !stopped_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stop_.stop_requested(); });
}

template<class Work>
auto Download::repeat(Work work) -> Result<typename decltype(work())::value_type> {
  std::minstd_rand random(std::random_device{}());
  for (int attempt = 0;; ++attempt) {
    auto result = work();
    if (result) return *std::move(result);
    if (!result.error().transient || attempt >= options_.retries) return std::unexpected(result.error().error);
    // Half of the pause is drawn, so that many hives do not come back to a server at once.
    const std::int64_t pause = std::min(kDelayMaxMs, options_.first_delay_ms << attempt);
    const auto drawn = std::uniform_int_distribution<std::int64_t>(pause / 2, pause)(random);
    if (!wait_ms(drawn)) return stopped();
  }
}

Attempt<colony::HubListing> Download::list() {
  std::string text;
  HubRequest request;
  request.seconds_max = kListingSecondsMax;
  LLORCH_TRY(
      const HubReply reply,
      HubClient(options_, stop_.get_token())
          .get(options_.endpoint +
                   net::url_path("/api/models").segments(ref_.repo).fixed("/revision").segment(ref_.revision).text(),
               request, [&](const HubReply&, std::string_view bytes) -> Status {
                 if (text.size() + bytes.size() > colony::kHubListingBytesMax)
                   return fail(ErrorCode::kDownloadFailed, "the model server's list of files is too long");
                 text += bytes;
                 return {};
               }));
  LLORCH_TRY(colony::HubListing listing, colony::read_hub_listing(text));
  return listing;
}

/// Size and hash, from the answer before any redirect to where the bytes are.
Attempt<Download::Remote> Download::look(const std::string& url) {
  HubRequest request;
  request.head_only = true, request.follow_redirects = false, request.seconds_max = kListingSecondsMax;
  request.headers = {"Accept-Encoding: identity"};
  LLORCH_TRY(const HubReply reply, HubClient(options_, stop_.get_token()).get(url, request, {}));
  Remote r;
  const bool linked = reply.headers.contains("x-linked-etag");
  r.etag = unquoted(reply.header(linked ? "x-linked-etag" : "etag"));
  const std::string size = reply.header(reply.headers.contains("x-linked-size") ? "x-linked-size" : "content-length");
  r.size = parse_integer<decltype(r.size)>(size).value_or(0);
  if (security::check_object_id(r.etag) || r.size <= 0)
    return fail(ErrorCode::kDownloadFailed, "the model server does not say the file's size and identity");
  if (!security::check_digest(r.etag)) r.sha256 = r.etag;
  return r;
}

Attempt<bool> Download::fetch(const std::string& url, const Remote& remote, const ContainedFolder& cache,
                              const std::string& partial, const OnProgress& on_progress) {
  Partial out;
  LLORCH_TRY(out.file, cache.open_file(partial, O_RDWR | O_CREAT));
  out.size = ::lseek(out.file.number(), 0, SEEK_END);
  if (out.size > remote.size) LLORCH_OK(out.begin_anew());
  const std::int64_t have = out.size;
  if (const auto room = cache.free_bytes(); room && *room < remote.size - have + kRoomBytes)
    return fail(ErrorCode::kIo, "the disk has no room for {}", size_text(static_cast<double>(remote.size - have)));
  if (have == remote.size) return true;
  HubRequest request;
  request.headers = {"Accept-Encoding: identity"};
  if (have > 0) request.headers.push_back(fmt::format("Range: bytes={}-", have));
  const auto start = Clock::now();
  auto reported = start - std::chrono::seconds(1);
  bool first = true;
  const auto take = [&](const HubReply& reply, std::string_view bytes) -> Status {
    if (std::exchange(first, false) && have > 0 && reply.status != 206) LLORCH_OK(out.begin_anew());  // sends it all
    if (out.size + static_cast<std::int64_t>(bytes.size()) > remote.size)
      return fail(ErrorCode::kDownloadFailed, "the model server sends more than the {} bytes it promised", remote.size);
    LLORCH_OK(out.append(bytes));
    if (Clock::now() - reported >= std::chrono::milliseconds(250)) {
      reported = Clock::now();
      const double seconds = std::chrono::duration<double>(reported - start).count();
      on_progress(out.size, remote.size,
                  seconds > 0 ? static_cast<double>(std::max<std::int64_t>(0, out.size - have)) / seconds / 1e6 : 0);
    }
    return {};
  };
  LLORCH_TRY(const HubReply reply, HubClient(options_, stop_.get_token()).get(url, request, take));
  if (out.size != remote.size)
    return std::unexpected(Failure(
        {ErrorCode::kDownloadFailed, fmt::format("the transfer ended after {} of {} bytes", out.size, remote.size)},
        true));
  if (::fdatasync(out.file.number()) != 0) return fail(ErrorCode::kIo, "cannot write to the model cache");
  return true;
}

/// Others wait here, or take over when the holder dies: the kernel frees its lock. huggingface_hub locks the same file.
Result<Descriptor> Download::lock_blob(const ContainedFolder& cache, const colony::CacheNames& names, std::int64_t size,
                                       const OnProgress& on_progress) {
  constexpr int kLookEveryMs = 100;  // nothing tells when a lock is free
  LLORCH_OK(cache.make_folders(names.locks));
  LLORCH_TRY(Descriptor file, cache.open_file(names.lock, O_RDWR | O_CREAT));
  while (::flock(file.number(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return fail(ErrorCode::kIo, "cannot lock the model cache: {}", std::strerror(errno));
    LLORCH_TRY(const auto part, cache.find(names.partial));
    if (part) on_progress(part->size, size, 0);  // what another one has fetched so far
    if (!wait_ms(kLookEveryMs)) return stopped();
  }
  return file;
}

Result<std::string> Download::fill_blob(const std::string& url, const Remote& remote, const ContainedFolder& cache,
                                        const colony::CacheNames& names, const OnProgress& on_progress) {
  const auto hash_of = [&](const std::string& name) {
    return security::manifest_of(cache.path() + "/" + name, stop_.get_token());
  };
  const auto is_right = [&](const std::string& hash) { return remote.sha256.empty() || hash == remote.sha256; };
  LLORCH_TRY(const Descriptor lock, lock_blob(cache, names, remote.size, on_progress));
  LLORCH_TRY(const auto before, cache.find(names.blob));  // from an earlier time, or of another program
  if (before && before->regular) {
    LLORCH_TRY(std::string hash, hash_of(names.blob));
    if (is_right(hash)) return hash;
  }
  if (before) LLORCH_OK(cache.remove(names.blob));
  LLORCH_TRY(const bool done, repeat([&] { return fetch(url, remote, cache, names.partial, on_progress); }));
  if (!done) return stopped();
  LLORCH_TRY(std::string hash, hash_of(names.partial));
  if (!is_right(hash)) {
    LLORCH_OK(cache.remove(names.partial));
    return fail(ErrorCode::kDownloadFailed, "what arrived is not the file that the model server promised (SHA-256)");
  }
  LLORCH_OK(cache.rename(names.partial, names.blob));
  return hash;
}

Attempt<std::string> Download::read_beginning(const std::string& url) {
  HubRequest request;
  request.seconds_max = kListingSecondsMax;
  request.headers = {"Accept-Encoding: identity", fmt::format("Range: bytes=0-{}", kBeginningBytes - 1)};
  std::string beginning;
  const auto take = [&](const HubReply&, std::string_view bytes) -> Status {
    beginning += bytes.substr(0, kBeginningBytes - beginning.size());
    if (beginning.size() < kBeginningBytes) return {};
    return fail(ErrorCode::kCancelled, "the beginning is there");  // of a server that sends it all
  };
  const auto reply = HubClient(options_, stop_.get_token()).get(url, request, take);
  if (!reply && beginning.size() < kBeginningBytes) return std::unexpected(reply.error());
  return beginning;
}

Status Download::check_family(const Part& first, const ContainedFolder& cache) {
  for (const std::string& begun : {first.names.blob, first.names.partial}) {  // whose first bytes have been seen
    LLORCH_TRY(const auto there, cache.find(begun));
    if (there) return {};
  }
  LLORCH_TRY(const std::string beginning, repeat([&] { return read_beginning(first.url); }));
  const std::string family = gguf_architecture(std::as_bytes(std::span(beginning)));
  if (family.empty()) return {};  // whoever loads it says more
  LLORCH_OK(arch::find(family));
  return {};
}

/// For all that is not there yet.
Status Download::check_room(const std::vector<Part>& parts, const ContainedFolder& cache) {
  std::int64_t missing = 0;
  for (const Part& part : parts) {
    LLORCH_TRY(const auto whole, cache.find(part.names.blob));
    LLORCH_TRY(const auto begun, cache.find(part.names.partial));
    if (!whole) missing += std::max<std::int64_t>(0, part.remote.size - (begun ? begun->size : 0));
  }
  if (const auto room = cache.free_bytes(); room && missing > 0 && *room < missing + kRoomBytes)
    return fail(ErrorCode::kIo, "the disk has no room for {}", size_text(static_cast<double>(missing)));
  return {};
}

Result<Fetched> Download::transfer(const OnProgress& on_progress) {
  LLORCH_TRY(const colony::HubListing listing, repeat([&] { return list(); }));
  Fetched out;
  out.revision = listing.commit;
  LLORCH_TRY(const std::vector<std::string> files, colony::choose_files(listing, ref_.file));
  std::vector<Part> parts;
  for (const std::string& file : files) {
    Part part;
    part.url = options_.endpoint +
               net::url_path("").segments(ref_.repo).fixed("/resolve").segment(out.revision).segments(file).text();
    LLORCH_TRY(part.remote, repeat([&] { return look(part.url); }));
    LLORCH_TRY(part.names, colony::cache_names(ref_, out.revision, file, part.remote.etag));
    if (part.remote.size > std::numeric_limits<std::int64_t>::max() - out.size)
      return fail(ErrorCode::kDownloadFailed, "the model server's sizes are too large");
    out.size += part.remote.size;
    parts.push_back(std::move(part));
  }
  LLORCH_TRY(const ContainedFolder cache, ContainedFolder::open(options_.home + "/hub"));
  for (const Part& part : parts)
    for (const std::string& folder : {part.names.blobs, part.names.snapshot_folder, part.names.refs})
      LLORCH_OK(cache.make_folders(folder));
  LLORCH_OK(check_family(parts.front(), cache));
  LLORCH_OK(check_room(parts, cache));
  std::int64_t before = 0;
  std::vector<std::string> hashes;
  for (const Part& part : parts) {
    const auto of_all = [&](std::int64_t done, std::int64_t, double mb_per_s) {
      on_progress(before + done, out.size, mb_per_s);
    };
    LLORCH_TRY(hashes.emplace_back(), fill_blob(part.url, part.remote, cache, part.names, of_all));
    before += part.remote.size;
    on_progress(before, out.size, 0);
    LLORCH_OK(cache.link(part.names.snapshot, part.names.blob));
  }
  LLORCH_OK(cache.write_text(parts.front().names.ref, out.revision));
  out.file = files.front(), out.path = cache.path() + "/" + parts.front().names.snapshot;
  out.sha256 = security::manifest_of_parts(files, hashes);
  out.identity = security::identity_of(out.path);
  return out;
}

Result<Fetched> Download::run(const OnProgress& on_progress) {
  try {
    return transfer(on_progress);
  } catch (const std::bad_alloc&) {
    return std::unexpected(Error{ErrorCode::kInsufficientMemory, "no memory"});  // short: it needs none itself
  } catch (const std::exception& e) {
    try {
      return fail(ErrorCode::kInternal, "the download failed: {}", e.what());
    } catch (...) {
      return std::unexpected(Error{ErrorCode::kInsufficientMemory, "no memory"});
    }
  }
}

}  // namespace llorch::hive
