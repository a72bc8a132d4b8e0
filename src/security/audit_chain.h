// The records of an audit log: their hashes, the files that they lie in, what the manifest beside them knows.
//
// Used by audit.cc alone. A chain is keyed (HMAC-SHA-256) or not (SHA-256); what was begun one way goes on that way.
#pragma once

#include <boost/json.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "security/audit.h"

namespace llorch::security::audit_chain {

/// A record as a line without its end; moves `state` on. `key`: 32 bytes, or empty.
[[nodiscard]] std::string make_line(AuditState& state, const std::string& service, const std::string& time,
                                    boost::json::object event, const std::string& key);
/// The files of a chain, oldest first: those that were full, by the number of their last record, then the one in use.
[[nodiscard]] std::vector<std::string> files_of(const std::string& path);
/// Checks a file's records against what must come before them, and moves `state` on.
[[nodiscard]] Status walk(const std::string& file, AuditState& state, const std::string& key);
/// Holds a chain's end against its manifest.
[[nodiscard]] Status check_manifest(const std::string& path, const AuditState& state, const std::string& key);
[[nodiscard]] Status write_manifest(const std::string& path, const AuditState& state, const std::string& key);
/// The end of a chain, of which only the file in use is walked: years of full files would hold up every start.
[[nodiscard]] Result<AuditState> find_end(const std::string& path, const std::string& key);
/// The day (UTC) of a file's last record, as YYYY-MM-DD; empty for an empty file.
[[nodiscard]] std::string last_day(const std::string& path);
/// Moves files that are old enough to the folder "archive".
void archive_old(const std::string& path, const AuditOptions& options);
/// Makes the names in a file's folder safe, as far as the file system can.
void sync_folder(const std::string& path);

/// What a crash or a full disk left of a last record: it was never acknowledged.
struct Torn {
  std::size_t bytes = 0;
  std::string sha256, kept;  // kept: the name of the file beside the log that holds it now
};
/// Moves a last record without an end out of an open log. Errors: kIo.
[[nodiscard]] Result<Torn> take_torn_end(int descriptor, const std::string& path);

}  // namespace llorch::security::audit_chain
