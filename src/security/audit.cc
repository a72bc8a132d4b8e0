#include "security/audit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/ids.h"
#include "base/thread_role.h"
#include "format/json.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

constexpr std::size_t kQueueMax = 1000, kBatch = 100;

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

/// Keys sorted, no blanks.
std::string canonical(const boost::json::value& v) {
  if (const auto* o = v.if_object()) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : *o) keys.emplace_back(key);
    std::ranges::sort(keys);
    std::string out = "{";
    for (const std::string& key : keys)
      out +=
          (out.size() > 1 ? "," : "") + boost::json::serialize(boost::json::string(key)) + ":" + canonical(o->at(key));
    return out + "}";
  }
  if (const auto* a = v.if_array()) {
    std::string out = "[";
    for (const auto& item : *a) out += (out.size() > 1 ? "," : "") + canonical(item);
    return out + "]";
  }
  return boost::json::serialize(v);
}

std::string record_hash(std::string_view id, std::string_view time, std::string_view service,
                        const boost::json::value& event, std::string_view previous) {
  return sha256_hex(fmt::format("{}|{}|{}|{}|{}", id, time, service, canonical(event), previous));
}

std::string manifest_of(const std::string& path) { return path + ".manifest"; }

/// Checks one line against what must come before it, and moves `state` on.
Status check_line(std::string_view line, AuditState& state) {
  const std::uint64_t number = state.count + 1;
  const auto broken = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidRequest, "audit record {} is broken: {}", number, why);
  };
  const auto parsed = json::parse(line, "record");
  if (!parsed || !parsed->is_object()) return broken("it is not a JSON object");
  const auto& o = parsed->get_object();
  const auto id = json::find_text(o, "audit_id"), time = json::find_text(o, "timestamp"),
             service = json::find_text(o, "service_id"), previous = json::find_text(o, "prev_hash"),
             hash = json::find_text(o, "hash");
  const auto* event = json::find_object(o, "event");
  if (!id || !time || !service || !previous || !hash || !event) return broken("a field is missing");
  if (!id->ends_with(fmt::format("-{:016x}", number))) return broken("its number does not follow");
  if (*previous != state.hash) return broken("it does not continue the record before it");
  if (*hash != record_hash(*id, *time, *service, *event, *previous)) return broken("its hash does not fit its content");
  state = {number, *hash};
  return {};
}

std::filesystem::path folder_of(const std::string& path) {
  const std::filesystem::path whole(path);
  return whole.has_parent_path() ? whole.parent_path() : std::filesystem::path(".");
}

/// The files in a folder that were put aside.
std::vector<std::filesystem::path> full_files_in(const std::filesystem::path& folder, const std::string& path) {
  const std::string stem = std::filesystem::path(path).filename().string() + ".";
  std::vector<std::filesystem::path> files;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator(folder, problem)) {
    const std::string name = entry.path().filename().string();
    if (name.size() == stem.size() + 16 && name.starts_with(stem) &&
        name.find_first_not_of("0123456789abcdef", stem.size()) == std::string::npos)
      files.push_back(entry.path());
  }
  return files;
}

/// The files of a chain, oldest first: those that were full, by the number of their last record, then the one in use.
std::vector<std::string> files_of(const std::string& path) {
  std::vector<std::filesystem::path> full = full_files_in(folder_of(path), path);
  for (auto& file : full_files_in(folder_of(path) / "archive", path)) full.push_back(std::move(file));
  std::ranges::sort(full, {}, [](const auto& file) { return file.filename(); });  // the numbers are of one length
  std::vector<std::string> files;
  for (const auto& file : full) files.push_back(file.string());
  files.push_back(path);
  return files;
}

/// Moves files that are old enough to the folder "archive".
void archive_old(const std::string& path, const AuditOptions& options) {
  const auto folder = folder_of(path), archive = folder / "archive";
  const auto oldest = std::chrono::file_clock::from_sys(options.now()) - options.archive_after;
  for (const auto& file : full_files_in(folder, path)) {
    std::error_code problem;
    if (std::filesystem::last_write_time(file, problem) > oldest || problem) continue;
    if (std::filesystem::create_directory(archive, problem))
      std::filesystem::permissions(archive, std::filesystem::perms::owner_all, problem);
    std::filesystem::rename(file, archive / file.filename(), problem);  // or it stays where it is
  }
}

Status walk(const std::string& file, AuditState& state) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(ErrorCode::kIo, "cannot read {}", file);
  for (std::string line; std::getline(in, line);) {
    if (in.eof())
      return fail(ErrorCode::kInvalidRequest, "audit record {} is broken: its line does not end", state.count + 1);
    LLORCH_OK(check_line(line, state));
  }
  return {};
}

/// A file's last record; empty for an empty file.
boost::json::object last_record(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string last;
  for (std::string line; std::getline(in, line);) last = std::move(line);
  const auto parsed = json::parse(last, "record");
  return last.empty() || !parsed || !parsed->is_object() ? boost::json::object() : parsed->get_object();
}

/// The day (UTC) of a file's last record, as YYYY-MM-DD; empty for an empty file.
std::string last_day(const std::string& path) {
  return json::find_text(last_record(path), "timestamp").value_or("").substr(0, 10);
}

/// Holds a chain's end against its manifest.
Status check_manifest(const std::string& path, const AuditState& state) {
  std::ifstream in(manifest_of(path));
  std::uint64_t count = 0;
  std::string hash;
  if (!(in >> count >> hash)) {
    if (state.count == 0) return {};
    return fail(ErrorCode::kInvalidRequest, "the manifest of {} is missing: a cut tail could not be seen", path);
  }
  // A crash between record and manifest leaves the file one or more records ahead, never behind.
  if (count > state.count)
    return fail(ErrorCode::kInvalidRequest, "audit record {} is missing: the file ends after {} of {} records",
                state.count + 1, state.count, count);
  if (count == state.count && hash != state.hash)
    return fail(ErrorCode::kInvalidRequest, "audit record {} is broken: the manifest knows it with another hash",
                count);
  return {};
}

/// The end of a chain, of which only the file in use is walked: years of full files would hold up every start.
Result<AuditState> find_end(const std::string& path) {
  AuditState state;
  if (const auto files = files_of(path); files.size() > 1) {
    const std::string& before = files[files.size() - 2];
    const std::string number = before.substr(before.size() - 16);
    const auto hash = json::find_text(last_record(before), "hash");
    if (!hash) return fail(ErrorCode::kInvalidRequest, "{} has no last record", before);
    state = {std::stoull(number, nullptr, 16), *hash};
  }
  LLORCH_OK(walk(path, state));
  LLORCH_OK(check_manifest(path, state));
  return state;
}

}  // namespace

Result<AuditState> verify_audit(const std::string& path) {
  AuditState state;
  for (const std::string& file : files_of(path)) LLORCH_OK(walk(file, state));
  LLORCH_OK(check_manifest(path, state));
  return state;
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
  for (const std::string& file : files_of(path)) {
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
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return fail(ErrorCode::kIo, "cannot open the audit log {}", path);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return fail(ErrorCode::kIo, "the audit log {} is in use by another process", path);
  }
  // A record that a crash cut off was never acknowledged: it is taken away, so that the chain can go on.
  const off_t size = lseek(fd, 0, SEEK_END);
  off_t end = size;
  for (char c = 0; end > 0 && pread(fd, &c, 1, end - 1) == 1 && c != '\n';) --end;
  if (end < size && ftruncate(fd, end) != 0) {
    close(fd);
    return fail(ErrorCode::kIo, "cannot mend the audit log {}", path);
  }
  auto state = find_end(path);
  if (!state) {
    close(fd);
    return std::unexpected(std::move(state).error());
  }
  archive_old(path, options);
  return std::unique_ptr<AuditLog>(new AuditLog(fd, path, service_id, *state, std::move(options)));
}

AuditLog::AuditLog(int fd, std::string path, std::string service_id, AuditState state, AuditOptions options)
    : fd_(fd),
      path_(std::move(path)),
      service_id_(std::move(service_id)),
      options_(std::move(options)),
      day_(last_day(path_)),
      state_(std::move(state)),
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

void AuditLog::append(boost::json::object event) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= kQueueMax) {
      ++dropped_;
      return;
    }
    if (queue_.empty() && unsynced_ == 0) since_ = std::chrono::steady_clock::now();
    hurry_ = hurry_ || critical(event);
    queue_.emplace_back(std::move(event), rfc3339(options_.now()));
  }
  wake_.notify_one();
}

std::uint64_t AuditLog::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

std::uint64_t AuditLog::syncs() const {
  const std::lock_guard lock(mutex_);
  return syncs_;
}

void AuditLog::flush() {
  std::unique_lock lock(mutex_);
  const auto safe = [this] { return queue_.empty() && unsynced_ == 0 && !writing_; };
  if (safe()) return;
  hurry_ = true;
  wake_.notify_one();
  idle_.wait(lock, safe);
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

void AuditLog::write_waiting(std::unique_lock<std::mutex>& lock, bool safe) {
  auto batch = std::exchange(queue_, {});
  if (safe) hurry_ = false;
  if (dropped_ > reported_)
    batch.emplace_back(boost::json::object{{"event_type", "audit_overflow"}, {"dropped", dropped_ - reported_}},
                       rfc3339(options_.now())),
        reported_ = dropped_;
  writing_ = true;
  const auto count = batch.size();
  lock.unlock();
  const bool written = count == 0 || write(std::move(batch));
  if (safe) keep();
  lock.lock();
  if (!written) dropped_ += count;
  unsynced_ = safe ? 0 : unsynced_ + count;
  if (safe) ++syncs_;
  if (safe && !queue_.empty()) since_ = std::chrono::steady_clock::now();
  writing_ = false;
  idle_.notify_all();
}

/// Puts a full or a finished day's file aside. The chain goes on in a new one.
void AuditLog::rotate_before(std::string_view time) {
  const std::string day(time.substr(0, 10));
  const bool over = !day_.empty() && day != day_;
  day_ = day;
  const off_t size = lseek(fd_, 0, SEEK_END);
  if (size == 0 || (!over && static_cast<std::uint64_t>(size) < options_.file_bytes_max)) return;
  const int fresh = ::open((path_ + ".new").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  if (fresh < 0) return;  // goes on in the old file; the next batch tries again
  if (flock(fresh, LOCK_EX | LOCK_NB) != 0 ||
      rename(path_.c_str(), fmt::format("{}.{:016x}", path_, state_.count).c_str()) != 0) {
    close(fresh);
    return;
  }
  rename((path_ + ".new").c_str(), path_.c_str());
  fdatasync(fd_);
  close(fd_);
  fd_ = fresh;
  archive_old(path_, options_);
}

/// Syncs what is written; then the manifest may know of it.
void AuditLog::keep() {
  fdatasync(fd_);
  const std::string fresh = manifest_of(path_) + ".new";
  std::ofstream(fresh) << state_.count << ' ' << state_.hash << '\n';
  rename(fresh.c_str(), manifest_of(path_).c_str());
}

bool AuditLog::write(Batch batch) {
  struct statvfs disk {};
  if (fstatvfs(fd_, &disk) == 0 && disk.f_bavail * disk.f_frsize < options_.free_bytes_min) return false;
  rotate_before(batch.front().second);
  std::string lines;
  for (auto& [event, time] : batch) {
    const std::string id = fmt::format("audit-{}-{:016x}", service_id_, ++state_.count);
    std::string hash = record_hash(id, time, service_id_, event, state_.hash);
    lines += boost::json::serialize(boost::json::object{{"audit_id", id},
                                                        {"timestamp", time},
                                                        {"service_id", service_id_},
                                                        {"event", std::move(event)},
                                                        {"prev_hash", state_.hash},
                                                        {"hash", hash}}) +
             "\n";
    state_.hash = std::move(hash);
  }
  for (std::size_t at = 0; at < lines.size();) {
    const ssize_t n = ::write(fd_, lines.data() + at, lines.size() - at);
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace llorch::security
