#include "security/audit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>

#include "base/ids.h"
#include "base/thread_role.h"
#include "format/json.h"
#include "security/audit_chain.h"
#include "security/keys.h"
#include "security/validate.h"

namespace llorch::security {
namespace {

constexpr std::size_t kQueueMax = 1000, kBatch = 100, kKeyDigits = 64;

/// Events that are flushed at once (S-33).
bool critical(const boost::json::object& event) {
  static constexpr std::string_view kTypes[] = {"auth_failure",
                                                "token_revoked",
                                                "policy_violation",
                                                "seal_verification_failed",
                                                "path_traversal_attempt",
                                                "invalid_token_used",
                                                "suspicious_activity",
                                                "integrity_violation",
                                                "malformed_model_rejected",
                                                "resource_limit_violation"};
  return std::ranges::find(kTypes, json::find_text(event, "event_type").value_or("")) != std::end(kTypes);
}

std::unexpected<Error> broken(std::string_view what, const std::string& path) {
  return fail(ErrorCode::kIo, "cannot {} the audit log {}: {}", what, path, std::strerror(errno));
}

}  // namespace

Result<AuditState> verify_audit(const std::string& path, const std::string& key) {
  AuditState state;
  for (const std::string& file : audit_chain::files_of(path)) LLORCH_OK(audit_chain::walk(file, state, key));
  LLORCH_OK(audit_chain::check_manifest(path, state, key));
  return state;
}

Result<std::string> read_audit_key(const std::string& path) {
  LLORCH_TRY(const std::string digits, read_secret_file(path));
  if (check_hex(digits, kKeyDigits))
    return fail(ErrorCode::kInvalidRequest, "{} must hold {} hexadecimal digits (openssl rand -hex 32)", path,
                kKeyDigits);
  return from_hex(digits);
}

bool AuditQuery::fits(const boost::json::object& record) const {
  const auto* event = json::find_object(record, "event");
  const std::string time = json::find_text(record, "timestamp").value_or("");
  return event && (actor.empty() || json::find_text(*event, "actor") == actor) &&
         (type.empty() || json::find_text(*event, "event_type") == type) && (since.empty() || time >= since) &&
         (until.empty() || time < until);
}

Status for_each_record(const std::string& path, const AuditQuery& query,
                       const std::function<void(const boost::json::object&)>& each) {
  for (const std::string& file : audit_chain::files_of(path)) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return fail(ErrorCode::kIo, "cannot read {}", file);
    int number = 0;
    for (std::string line; std::getline(in, line) && !in.eof();) {  // a line without its end is still being written
      ++number;
      const auto record = json::parse(line, "record");
      if (!record || !record->is_object())
        return fail(ErrorCode::kInvalidRequest, "{} line {} is no audit record", file, number);
      if (query.fits(record->get_object())) each(record->get_object());
    }
  }
  return {};
}

Result<std::unique_ptr<AuditLog>> AuditLog::open(const std::string& path, const std::string& service_id,
                                                 AuditOptions options) {
  LLORCH_TRY(StateLock lock, StateLock::take_file(path + ".lock", "the audit log " + path, service_id));
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0600);
  if (fd < 0) return broken("open", path);
  const auto opened = [&]() -> Result<std::pair<audit_chain::Torn, AuditState>> {
    LLORCH_TRY(audit_chain::Torn torn, audit_chain::take_torn_end(fd, path));
    LLORCH_TRY(AuditState state, audit_chain::find_end(path, options.key));
    return std::pair(std::move(torn), std::move(state));
  }();
  if (!opened) {
    close(fd);
    return std::unexpected(opened.error());
  }
  audit_chain::archive_old(path, options);
  std::unique_ptr<AuditLog> log(
      new AuditLog(fd, std::move(lock), path, service_id, opened->second, std::move(options)));
  if (const audit_chain::Torn& torn = opened->first; torn.bytes > 0) {
    log->append({{"event_type", "integrity_violation"},
                 {"reason", "the last record was cut off: it is put aside"},
                 {"bytes", torn.bytes},
                 {"sha256", torn.sha256},
                 {"file", torn.kept}});
    if (Status s = log->flush(); !s) return std::unexpected(std::move(s).error());
  }
  return log;
}

AuditLog::AuditLog(int fd, StateLock lock, std::string path, std::string service_id, AuditState state,
                   AuditOptions options)
    : fd_(fd),
      lock_(std::move(lock)),
      path_(std::move(path)),
      service_id_(std::move(service_id)),
      options_(std::move(options)),
      day_(audit_chain::last_day(path_)),
      state_(state),
      safe_(std::move(state)),
      size_(lseek(fd, 0, SEEK_END)),
      safe_size_(size_),
      thread_([this] { write_loop(); }) {}

AuditLog::~AuditLog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
  close(fd_);
}

void AuditLog::append(boost::json::object event, std::function<void(bool)> done) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() < kQueueMax) {
      if (queue_.empty() && unsynced_ == 0) since_ = std::chrono::steady_clock::now();
      hurry_ = hurry_ || critical(event) || done;
      queue_.push_back({std::move(event), rfc3339(options_.now()), std::move(done)});
      wake_.notify_one();
      return;
    }
    ++dropped_;
  }
  if (done) done(false);
}

std::uint64_t AuditLog::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

std::uint64_t AuditLog::syncs() const {
  const std::lock_guard lock(mutex_);
  return syncs_;
}

bool AuditLog::healthy() const {
  const std::lock_guard lock(mutex_);
  return !failing_;
}

Status AuditLog::flush() {
  std::unique_lock lock(mutex_);
  const auto safe = [this] { return queue_.empty() && unsynced_ == 0 && !writing_; };
  if (!safe()) {
    hurry_ = true;
    wake_.notify_one();
    idle_.wait(lock, safe);
  }
  if (const std::uint64_t lost = dropped_ - std::exchange(flushed_dropped_, dropped_); lost > 0)
    return fail(ErrorCode::kIo, "{} records of the audit log {} were lost", lost, path_);
  return {};
}

bool AuditLog::wait_for_records(std::unique_lock<std::mutex>& lock) {
  const auto waiting = [this] { return !queue_.empty() || unsynced_ > 0; };
  wake_.wait(lock, [&] { return stop_ || waiting(); });
  if (!waiting()) return false;
  if (options_.flush == AuditFlush::kImmediate) return true;
  wake_.wait_until(lock, since_ + options_.batch_time, [&] {
    return stop_ || hurry_ || queue_.size() + unsynced_ >= kBatch ||
           (options_.flush == AuditFlush::kHybrid && !queue_.empty());
  });
  return true;
}

void AuditLog::write_loop() {
  const InRole role(ThreadRole::kHelper);
  std::unique_lock lock(mutex_);
  while (wait_for_records(lock)) {
    const bool safe = options_.flush != AuditFlush::kHybrid || stop_ || hurry_ || queue_.size() + unsynced_ >= kBatch ||
                      std::chrono::steady_clock::now() >= since_ + options_.batch_time;
    write_waiting(lock, safe);
  }
}

Status AuditLog::store(Batch& batch, std::uint64_t& untold, bool safe) noexcept {
  try {
    if (untold > 0)
      batch.push_back({{{"event_type", "audit_overflow"}, {"dropped", untold}}, rfc3339(options_.now()), {}, untold});
    unsafe_.reserve(unsafe_.size() + batch.size());
    if (!batch.empty()) LLORCH_OK(write(batch));
    std::ranges::move(batch, std::back_inserter(unsafe_));
    batch.clear(), untold = 0;
    return safe ? keep() : Status();
  } catch (const std::bad_alloc&) {  // messages so short that they take no memory
    return std::unexpected(Error{ErrorCode::kInsufficientMemory, "out of memory"});
  } catch (...) {
    return std::unexpected(Error{ErrorCode::kInternal, "an exception"});
  }
}

namespace {

/// Calls what may not end the log's thread: without memory, whoever is to be told is not.
void call(const auto& what) noexcept {
  try {
    what();
  } catch (const std::exception&) {
  }
}

}  // namespace

void AuditLog::tell(const Batch& kept, const Batch& lost, const Batch& taken_back, const Status& good) {
  const auto say = [](const Batch& entries, bool is_kept) {
    for (const Entry& e : entries)
      if (e.done) call([&] { e.done(is_kept); });
  };
  say(kept, true), say(lost, false), say(taken_back, false);
  if (failing_ != good.has_value()) return;  // failing_ is changed by this thread alone
  call([&] {
    if (options_.on_state) options_.on_state(good ? std::nullopt : std::optional(good.error()));
  });
}

void AuditLog::write_waiting(std::unique_lock<std::mutex>& lock, bool safe) {
  Batch batch = std::exchange(queue_, {}), kept, taken_back;
  if (safe) hurry_ = false;
  const std::uint64_t unreported = dropped_ - reported_;
  std::uint64_t untold = unreported;
  writing_ = true;
  lock.unlock();
  const Status good = store(batch, untold, safe);  // what is left in `batch` is lost
  if (good && safe) kept = std::exchange(unsafe_, {});
  if (std::exchange(sync_failed_, false)) {  // what the disk did not keep goes, also earlier batches'
    taken_back = std::exchange(unsafe_, {});
    take_back();
  }
  tell(kept, batch, taken_back, good);
  lock.lock();
  failing_ = !good;
  reported_ += unreported - untold;
  for (const Batch* entries : {&batch, &taken_back})
    for (const Entry& e : *entries) dropped_ += e.dropped == 0;
  for (const Entry& e : taken_back) reported_ -= e.dropped;
  unsynced_ = unsafe_.size();
  if (safe && good) ++syncs_;
  if (safe && !queue_.empty()) since_ = std::chrono::steady_clock::now();
  writing_ = false;
  idle_.notify_all();
}

/// Puts a full or a finished day's file aside, once all of it is on disk. The chain goes on in a new one.
Status AuditLog::rotate_before(std::string_view time) {
  const std::string day(time.substr(0, 10));
  const bool over = !day_.empty() && day != day_;
  if (size_ == 0 || (!over && static_cast<std::uint64_t>(size_) < options_.file_bytes_max)) {
    day_ = day;
    return {};
  }
  LLORCH_OK(keep());  // all that the old file holds
  const std::string next = path_ + ".new", full = fmt::format("{}.{:016x}", path_, state_.count);
  const int fresh = ::open(next.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fresh < 0) return {};  // it goes on in the old file; the next batch tries again
  if (rename(path_.c_str(), full.c_str()) != 0 || rename(next.c_str(), path_.c_str()) != 0) {
    (void)rename(full.c_str(), path_.c_str());
    close(fresh);
    return {};
  }
  audit_chain::sync_folder(path_);
  close(fd_);
  fd_ = fresh, size_ = safe_size_ = 0, day_ = day;
  audit_chain::archive_old(path_, options_);
  return {};
}

Status AuditLog::keep() {
  sync_failed_ = true;  // until all is done: a record that the manifest does not know could be cut off unseen
  AuditState kept = state_;
  if (options_.before) options_.before("keep");
  if (fdatasync(fd_) != 0) return broken("sync", path_);
  LLORCH_OK(audit_chain::write_manifest(path_, state_, options_.key));
  safe_ = std::move(kept), safe_size_ = size_;
  sync_failed_ = false;
  return {};
}

void AuditLog::take_back() {
  state_ = safe_, size_ = safe_size_;
  tail_unknown_ = ftruncate(fd_, size_) != 0;
}

Status AuditLog::put(std::string_view lines) {
  if (tail_unknown_) {
    if (ftruncate(fd_, size_) != 0) return broken("mend", path_);
    tail_unknown_ = false;
  }
  for (std::string_view left = lines; !left.empty();) {
    const ssize_t n = ::write(fd_, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n > 0) {
      left.remove_prefix(static_cast<std::size_t>(n));
      continue;
    }
    tail_unknown_ = true;
    const auto problem = broken("write to", path_);
    tail_unknown_ = ftruncate(fd_, size_) != 0;
    return problem;
  }
  size_ += static_cast<off_t>(lines.size());
  return {};
}

Status AuditLog::write(Batch& batch) {
  if (options_.before) options_.before("write");
  struct statvfs disk {};
  if (fstatvfs(fd_, &disk) == 0 && disk.f_bavail * disk.f_frsize < options_.free_bytes_min)
    return fail(ErrorCode::kIo, "the disk of the audit log {} is full", path_);
  LLORCH_OK(rotate_before(batch.front().time));
  AuditState end = state_;
  std::string lines;
  for (Entry& e : batch)
    lines += audit_chain::make_line(end, service_id_, e.time, std::move(e.event), options_.key) + "\n";
  LLORCH_OK(put(lines));
  state_ = std::move(end);
  return {};
}

}  // namespace llorch::security
