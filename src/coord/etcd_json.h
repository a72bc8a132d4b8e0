// For etcd_*.cc only: what etcd's JSON gateway is sent, and what it answers, checked field by field.
//
// 64-bit numbers are texts of digits, keys and values base64; fields that are zero, empty or false are left out. What
// is of another type, negative, out of order or not asked for is an error that says which field. Threads: any.
// Errors: kIo. Source: etcd's API reference, version 3.4 (rpc.proto, kv.proto), and protobuf's JSON mapping.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "coord/coord_store.h"

namespace llorch::coord::etcd {

namespace bj = boost::json;

[[nodiscard]] std::string to_base64(std::string_view bytes);
/// Padded, without anything else in it.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

// Requests. Keys are etcd's: with the prefix.
struct KeyRange {
  std::string first, end;  // an empty end: that one key
  [[nodiscard]] bool contains(std::string_view key) const {
    return end.empty() ? key == first : key >= first && key < end;
  }
};
[[nodiscard]] std::string range_request(const KeyRange& keys, int limit, Revision revision);
/// On failure it reads each compare's key.
[[nodiscard]] std::string commit_request(const Transaction& transaction);
[[nodiscard]] std::string put_request(std::string_view key, std::string_view value);
/// One field, a whole number: {"ID": "7"}.
[[nodiscard]] std::string number_request(std::string_view name, std::int64_t value);
/// `id` comes back with all that belongs to it. What is too long for one message comes as fragments.
[[nodiscard]] std::string watch_request(const KeyRange& keys, Revision from, std::int64_t id);

// Answers.
[[nodiscard]] Result<bj::object> read_object(std::string_view text);
/// A field that is a whole number, at least 0; 0 where it is absent.
[[nodiscard]] Result<std::int64_t> read_number(const bj::object& o, std::string_view name);
[[nodiscard]] Result<std::string> read_bytes(const bj::object& o, std::string_view name);
/// The header's cluster, a number of 64 bits as text.
[[nodiscard]] Result<std::string> read_cluster(const bj::object& answer);
[[nodiscard]] Result<Revision> read_revision(const bj::object& answer);
[[nodiscard]] Result<Entry> read_entry(const bj::object& kv);
/// Entries lie in `keys`, in order, and are at most `limit`.
[[nodiscard]] Result<Page> read_page(const bj::object& answer, const KeyRange& keys, int limit);
/// Whether the transaction has happened, and if not which compare did not hold: its key's revision.
struct CommitAnswer {
  Revision revision = 0;
  bool succeeded = false;
  std::vector<Revision> modified;  // of each compare's key; where it has not succeeded
};
[[nodiscard]] Result<CommitAnswer> read_commit(const bj::object& answer, std::size_t compares, std::size_t writes);

/// One message of a watch's stream.
struct WatchMessage {
  std::int64_t id = 0;
  bool created = false, canceled = false;
  bool fragment = false;  // more events of the same changes follow
  Revision revision = 0;  // of the store, when the message was made
  Revision compacted = 0;
  std::string reason;
  std::vector<Event> events;
};
[[nodiscard]] Result<WatchMessage> read_watch(std::string_view line);

/// Of an answer that is an error: gRPC's code, -1 where it has none.
struct Refusal {
  std::int64_t code = -1;
  std::string message;
};
[[nodiscard]] Refusal read_refusal(int http_status, std::string_view body);

}  // namespace llorch::coord::etcd
