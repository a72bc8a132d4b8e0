#include "security/audit_chain.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/folder.h"
#include "base/ids.h"
#include "format/json.h"
#include "security/digest.h"

namespace llorch::security::audit_chain {
namespace {

constexpr std::string_view kMac = "hmac-sha256";

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

std::string hash_of(std::string_view text, const std::string& key) {
  return key.empty() ? sha256_hex(text) : to_hex(hmac_sha256(key, text));
}

std::string record_hash(std::string_view id, std::string_view time, std::string_view service,
                        const boost::json::value& event, std::string_view previous, const std::string& key) {
  return hash_of(fmt::format("{}|{}|{}|{}|{}", id, time, service, canonical(event), previous), key);
}

std::string manifest_of(const std::string& path) { return path + ".manifest"; }

/// "<count> <hash>", and with a key its own hash, so that nobody else can write one.
std::string manifest_text(const AuditState& state, const std::string& key) {
  const std::string text = fmt::format("{} {}", state.count, state.hash);
  return key.empty() ? text : text + " " + hash_of("manifest|" + text, key);
}

/// Checks one line against what must come before it, and moves `state` on.
Status check_line(std::string_view line, AuditState& state, const std::string& key) {
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
  const bool keyed = json::find_text(o, "mac") == kMac;
  if (keyed && key.empty())
    return fail(ErrorCode::kInvalidRequest, "audit record {} is keyed: give the log's key (--audit-key-file)", number);
  if (!keyed && !key.empty())
    return broken("it is not keyed, and the log should be (a keyed log begins with a new file)");
  if (!id->ends_with(fmt::format("-{:016x}", number))) return broken("its number does not follow");
  if (*previous != state.hash) return broken("it does not continue the record before it");
  if (!equal_in_constant_time(*hash, record_hash(*id, *time, *service, *event, *previous, key)))
    return broken("its hash does not fit its content");
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
  for (const auto& entry : entries_of(folder.string()).value_or(std::vector<std::filesystem::directory_entry>())) {
    const std::string name = entry.path().filename().string();
    if (name.size() == stem.size() + 16 && name.starts_with(stem) &&
        name.find_first_not_of("0123456789abcdef", stem.size()) == std::string::npos)
      files.push_back(entry.path());
  }
  return files;
}

/// A file's last record; empty for an empty file.
boost::json::object last_record(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string last;
  for (std::string line; std::getline(in, line);) last = std::move(line);
  const auto parsed = json::parse(last, "record");
  return last.empty() || !parsed || !parsed->is_object() ? boost::json::object() : parsed->get_object();
}

/// Writes a new file as a whole, onto the disk.
Status write_new(const std::string& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  bool good = fd >= 0;
  while (good && !text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    good = n > 0;
    if (good) text.remove_prefix(static_cast<std::size_t>(n));
  }
  good = good && ::fdatasync(fd) == 0;
  const int why = errno;
  if (fd >= 0) ::close(fd);
  if (good) return {};
  return fail(ErrorCode::kIo, "cannot write {}: {}", path, std::strerror(why));
}

}  // namespace

std::string make_line(AuditState& state, const std::string& service, const std::string& time, boost::json::object event,
                      const std::string& key) {
  const std::string id = fmt::format("audit-{}-{:016x}", service, state.count + 1);
  std::string hash = record_hash(id, time, service, event, state.hash, key);
  boost::json::object record{{"audit_id", id},          {"timestamp", time},
                             {"service_id", service},   {"event", std::move(event)},
                             {"prev_hash", state.hash}, {"hash", hash}};
  if (!key.empty()) record["mac"] = kMac;
  state = {state.count + 1, std::move(hash)};
  return boost::json::serialize(record);
}

std::vector<std::string> files_of(const std::string& path) {
  std::vector<std::filesystem::path> full = full_files_in(folder_of(path), path);
  for (auto& file : full_files_in(folder_of(path) / "archive", path)) full.push_back(std::move(file));
  std::ranges::sort(full, {}, [](const auto& file) { return file.filename(); });  // the numbers are of one length
  std::vector<std::string> files;
  for (const auto& file : full) files.push_back(file.string());
  files.push_back(path);
  return files;
}

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

void sync_folder(const std::string& path) {
  const int folder = ::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  (void)::fsync(folder);
  ::close(folder);
}

Status walk(const std::string& file, AuditState& state, const std::string& key) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(ErrorCode::kIo, "cannot read {}", file);
  for (std::string line; std::getline(in, line);) {
    if (in.eof())
      return fail(ErrorCode::kInvalidRequest, "audit record {} is broken: its line does not end", state.count + 1);
    LLORCH_OK(check_line(line, state, key));
  }
  return {};
}

std::string last_day(const std::string& path) {
  return json::find_text(last_record(path), "timestamp").value_or("").substr(0, 10);
}

Status check_manifest(const std::string& path, const AuditState& state, const std::string& key) {
  std::ifstream in(manifest_of(path));
  AuditState known;
  std::string mac;
  if (!(in >> known.count >> known.hash)) {
    if (state.count == 0) return {};
    return fail(ErrorCode::kInvalidRequest, "the manifest of {} is missing: a cut tail could not be seen", path);
  }
  in >> mac;
  if (!key.empty() && manifest_text(known, key) != fmt::format("{} {} {}", known.count, known.hash, mac))
    return fail(ErrorCode::kInvalidRequest, "the manifest of {} was not written with the log's key", path);
  // A crash between record and manifest leaves the file one or more records ahead, never behind.
  if (known.count > state.count)
    return fail(ErrorCode::kInvalidRequest, "audit record {} is missing: the file ends after {} of {} records",
                state.count + 1, state.count, known.count);
  if (known.count == state.count && known.hash != state.hash)
    return fail(ErrorCode::kInvalidRequest, "audit record {} is broken: the manifest knows it with another hash",
                known.count);
  return {};
}

Status write_manifest(const std::string& path, const AuditState& state, const std::string& key) {
  const std::string fresh = manifest_of(path) + ".new";
  LLORCH_OK(write_new(fresh, manifest_text(state, key) + "\n"));
  if (::rename(fresh.c_str(), manifest_of(path).c_str()) == 0) return {};
  return fail(ErrorCode::kIo, "cannot write {}: {}", manifest_of(path), std::strerror(errno));
}

Result<AuditState> find_end(const std::string& path, const std::string& key) {
  AuditState state;
  if (const auto files = files_of(path); files.size() > 1) {
    const std::string& before = files[files.size() - 2];
    const std::string number = before.substr(before.size() - 16);
    const auto hash = json::find_text(last_record(before), "hash");
    if (!hash) return fail(ErrorCode::kInvalidRequest, "{} has no last record", before);
    state = {std::stoull(number, nullptr, 16), *hash};
  }
  LLORCH_OK(walk(path, state, key));
  LLORCH_OK(check_manifest(path, state, key));
  return state;
}

Result<Torn> take_torn_end(int descriptor, const std::string& path) {
  const off_t size = ::lseek(descriptor, 0, SEEK_END);
  std::string torn;
  char part[4096];
  for (off_t end = size; end > 0;) {
    const auto n = static_cast<std::size_t>(std::min<off_t>(end, sizeof part));
    if (::pread(descriptor, part, n, end - static_cast<off_t>(n)) != static_cast<ssize_t>(n))
      return fail(ErrorCode::kIo, "cannot read the audit log {}: {}", path, std::strerror(errno));
    const std::string_view text(part, n);
    const std::size_t line = text.rfind('\n');
    torn.insert(0, text.substr(line + 1));  // npos + 1 is 0
    if (line != std::string_view::npos) break;
    end -= static_cast<off_t>(n);
  }
  if (torn.empty()) return Torn{};
  Torn out{torn.size(), sha256_hex(torn), ""};
  // Names by content: the same piece, found again after a crash right here, is the same file.
  const std::string aside = path + ".torn-" + out.sha256.substr(0, 12);
  LLORCH_OK(write_new(aside, torn));
  out.kept = std::filesystem::path(aside).filename().string();
  if (::ftruncate(descriptor, size - static_cast<off_t>(torn.size())) != 0 || ::fdatasync(descriptor) != 0)
    return fail(ErrorCode::kIo, "cannot mend the audit log {}: {}", path, std::strerror(errno));
  return out;
}

}  // namespace llorch::security::audit_chain
