// Tokens, hosts, redaction, errors: what must be refused is refused (S-01 to S-12, O-04); one status per error code
// (J-03).
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "base/ids.h"
#include "security/audit.h"
#include "security/auth.h"
#include "security/digest.h"

/// A disk that does not keep what it was given.
static std::atomic<bool> sync_fails = false;
extern "C" int fdatasync(int descriptor) {
  if (!sync_fails) return static_cast<int>(syscall(SYS_fdatasync, descriptor));
  errno = EIO;
  return -1;
}

namespace llorch::security {
namespace {

using namespace std::chrono_literals;

TEST(Bearer, the_scheme_is_exact) {
  EXPECT_EQ(parse_bearer("Bearer  abc ").value(), "abc");
  for (const std::string& bad :
       {std::string("bearer abc"), std::string("Bearer"), std::string("Bearer "), std::string("Basic abc"),
        std::string("Bearer a\nb"), "Bearer " + std::string(9000, 'x')})
    EXPECT_FALSE(parse_bearer(bad)) << bad.substr(0, 20);
}

/// What an authenticator says to a key.
std::string verdict(Authenticator& a, const std::string& key) {
  const auto who = a.authenticate({.authorization = "Bearer " + key, .peer = key}, Authenticator::Time{});
  return who ? who->label() : std::string(name(who.error().code));
}

std::string text_of_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Keys, a_change_by_hand_is_seen_whatever_it_leaves_as_it_was) {  // 15.16
  const std::string path = testing::TempDir() + "keys-" + random_hex(4);
  const std::string first = create_key(path, {Scope::kInfer}, "a").value();
  const std::string others = text_of_file(path);
  ASSERT_TRUE(revoke_key(path, "a"));
  const std::string second = create_key(path, {Scope::kInfer}, "b").value();
  const std::string seconds = text_of_file(path);
  ASSERT_EQ(others.size(), seconds.size());
  for (const KeysFileMode mode : {KeysFileMode::kBySystem, KeysFileMode::kOwnThread}) {
    std::ofstream(path) << seconds;
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
    const auto file = KeysFile::open(path, mode).value();
    const auto admits = [&](const std::string& key) {
      return std::ranges::any_of(file->keys(), [&](const ApiKey& k) { return k.hash == sha256(key); });
    };
    const auto within = [&](const auto& what) {  // at once, but for a thread that looks twice a second
      const auto end = std::chrono::steady_clock::now() + (mode == KeysFileMode::kOwnThread ? 10s : 0s);
      bool holds = what();
      while (!holds && std::chrono::steady_clock::now() < end) std::this_thread::yield(), holds = what();
      return holds;
    };
    EXPECT_TRUE(admits(second) && !admits(first));
    for (int i = 0; i < 20; ++i) {  // same inode, same size, within a tick of the file system's clock
      std::ofstream(path) << others;
      EXPECT_TRUE(within([&] { return !admits(second) && admits(first); })) << i;
      std::ofstream(path) << seconds;
      EXPECT_TRUE(within([&] { return admits(second) && !admits(first); })) << i;
      if (mode == KeysFileMode::kOwnThread) break;
    }
    // An old file, whose time of modification is put back: only the time of change tells.
    struct stat info {};
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    const timespec old[] = {{1'700'000'000, 0}, {1'700'000'000, 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), old, 0), 0);
    EXPECT_TRUE(within([&] { return admits(second); }));
    std::ofstream(path) << others;
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), old, 0), 0);
    EXPECT_TRUE(within([&] { return admits(first) && !admits(second); }));
    // Readable by others, a folder, gone: nobody.
    ASSERT_EQ(chmod(path.c_str(), 0644), 0);
    EXPECT_TRUE(within([&] { return !admits(first); }));
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
    EXPECT_TRUE(within([&] { return admits(first); }));
    std::filesystem::remove(path);
    ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
    EXPECT_TRUE(within([&] { return !admits(first); }));
    std::filesystem::remove(path);
    EXPECT_TRUE(within([&] { return file->keys().empty(); }));
  }
  std::filesystem::remove(path);
}

TEST(Keys, are_made_listed_and_revoked_while_a_daemon_runs) {  // S-03
  const std::string path = testing::TempDir() + "keys-" + random_hex(4);
  Authenticator a;
  a.add_token("operator-operator", {Scope::kAdmin});
  std::vector<std::string> told;
  ASSERT_TRUE(a.watch_keys_file(path, [&](auto event, const auto& label, const auto& what) {
    told.push_back(fmt::format("{} {} {}", event, label, what));
  }));
  const std::string first = create_key(path, {Scope::kInfer}, "the laptop").value();
  const std::string second = create_key(path, {Scope::kMetrics, Scope::kNode}, "").value();
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  const auto keys = read_keys(path).value();
  ASSERT_EQ(keys.size(), 2U);
  EXPECT_EQ(keys[0].name, "the laptop");
  EXPECT_EQ(keys[0].hash, sha256(first)) << "the file must hold the hash";
  EXPECT_EQ(text_of(keys[1].scopes), "metrics,node");
  EXPECT_EQ(verdict(a, first), keys[0].label());
  EXPECT_EQ(verdict(a, second), keys[1].label());

  EXPECT_EQ(revoke_key(path, "the desktop").error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(revoke_key(path, "the laptop").value().label(), keys[0].label());
  EXPECT_EQ(verdict(a, first), "INVALID_API_KEY") << "a revoked key still opens";
  EXPECT_EQ(verdict(a, second), keys[1].label());
  const std::vector<std::string> expected = {"token_created " + keys[0].label() + " infer",
                                             "token_created " + keys[1].label() + " metrics,node",
                                             "token_revoked " + keys[0].label() + " infer"};
  EXPECT_EQ(told, expected);

  // A mistake of an editor: the file may have lost a key on purpose, so that none of it is admitted, and it is told.
  std::string text = text_of_file(path);
  std::ofstream(path) << text << "everything 00\n";
  EXPECT_EQ(verdict(a, second), "INVALID_API_KEY");
  EXPECT_EQ(verdict(a, "operator-operator"), "token:" + sha256_hex("operator-operator").substr(0, 6));
  EXPECT_TRUE(std::ranges::any_of(
      told, [](const auto& t) { return t.starts_with("integrity_violation") && t.contains("line 2"); }));
  const std::size_t count = told.size();
  EXPECT_EQ(verdict(a, second), "INVALID_API_KEY");
  EXPECT_EQ(told.size(), count) << "once is enough";
  std::ofstream(path) << text;
  EXPECT_EQ(verdict(a, second), keys[1].label()) << "a failure is not remembered in place of the file";
  std::filesystem::remove(path);
  EXPECT_EQ(verdict(a, second), "INVALID_API_KEY") << "a file that is gone admits nobody";
}

TEST(Authenticator, a_front_proxy_is_believed_only_where_it_is_told_to_be) {  // S-08
  Authenticator a;
  a.add_token("operator-operator", {Scope::kAdmin});
  const Credentials alice{.proxy_user = "alice", .peer = "127.0.0.1"};
  const Authenticator::Time now{};
  EXPECT_EQ(a.authenticate(alice, now).error().code, ErrorCode::kMissingApiKey) << "off by default";
  a.trust_proxy();
  const auto who = a.authenticate(alice, now);
  ASSERT_TRUE(who);
  EXPECT_EQ(who->id, "proxy:alice");
  EXPECT_TRUE(who->may(Scope::kInfer));
  EXPECT_FALSE(who->may(Scope::kAdmin) || who->may(Scope::kMetrics));
  EXPECT_EQ(a.authenticate({.proxy_user = "alice", .peer = "10.0.0.7"}, now).error().code, ErrorCode::kMissingApiKey);
  EXPECT_EQ(a.authenticate({.proxy_user = "a\x1b[2Jb", .peer = "127.0.0.1"}, now).error().code,
            ErrorCode::kInvalidApiKey);
  EXPECT_EQ(
      a.authenticate({.authorization = "Bearer wrong", .proxy_user = "alice", .peer = "127.0.0.1"}, now).error().code,
      ErrorCode::kInvalidApiKey)
      << "a wrong key is not mended by the header";
}

TEST(Authenticator, scopes_failures_and_their_limit) {  // S-03, S-04
  Authenticator a;
  Authenticator::Time now{1000h};
  EXPECT_TRUE(a.authenticate({.peer = "p"}, now).value().may(Scope::kAdmin)) << "no keys: local";
  a.add_token("operator-operator", {Scope::kAdmin});
  a.add_token("only-infer-only-infer", {Scope::kInfer});
  const auto infer = a.authenticate({.authorization = "Bearer only-infer-only-infer", .peer = "p"}, now).value();
  EXPECT_TRUE(infer.may(Scope::kInfer) && infer.may(Scope::kPublic));
  EXPECT_FALSE(infer.may(Scope::kAdmin) || infer.may(Scope::kMetrics) || infer.may(Scope::kNode));
  EXPECT_EQ(infer.label().size(), 12u);
  EXPECT_TRUE(a.authenticate({.api_key = "operator-operator", .peer = "p"}, now).value().may(Scope::kMetrics));
  EXPECT_EQ(a.authenticate({.peer = "p"}, now).error().code, ErrorCode::kMissingApiKey);
}

TEST(Authenticator, wrong_keys_are_held_up_and_right_ones_never) {  // S-04, 15.6
  Authenticator a;
  a.add_token("operator-operator", {Scope::kAdmin});
  const Authenticator::Time start{1000h};
  const auto code = [&](const std::string& key, std::string_view peer, Authenticator::Time now) {
    const auto who = a.authenticate({.authorization = "Bearer " + key, .peer = peer}, now);
    return who ? std::string("ok") : std::string(name(who.error().code));
  };
  // One outdated key, all day: it holds up itself, and nobody else at its address.
  for (int i = 0; i < 10; ++i) EXPECT_EQ(code("outdated", "10.0.0.1", start), "INVALID_API_KEY");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(code("outdated", "10.0.0.1", start), "RATE_LIMITED");
  EXPECT_EQ(code("mistyped", "10.0.0.1", start), "INVALID_API_KEY");
  EXPECT_EQ(code("operator-operator", "10.0.0.1", start), "ok");
  EXPECT_EQ(code("outdated", "10.0.0.1", start + 61s), "INVALID_API_KEY");
  // A key may share its slot with another (16,384), and then does not count: one in five hundred.
  const auto is_held_up = [&](std::string_view key, const char* address) {
    for (int i = 10; i < 14; ++i)
      if (code(fmt::format("{}{}", key, i), address, start) == "RATE_LIMITED") return true;
    return false;
  };
  // Many keys: whoever tries them is held up whatever comes next, unless it is right.
  for (int i = 0; i < 10; ++i) EXPECT_EQ(code(fmt::format("guess-{}", i), "10.0.0.2", start), "INVALID_API_KEY");
  EXPECT_TRUE(is_held_up("guess-", "10.0.0.2"));
  EXPECT_EQ(code("operator-operator", "10.0.0.2", start), "ok");
  EXPECT_EQ(code("guess-11", "10.0.0.3", start), "INVALID_API_KEY");
  EXPECT_EQ(code("guess-12", "10.0.0.2", start + 61s), "INVALID_API_KEY");
  // An IPv6 network has more addresses than anybody can count.
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(code(fmt::format("k{}", i), fmt::format("2001:db8::{}", i), start), "INVALID_API_KEY");
  EXPECT_TRUE(is_held_up("k", "2001:db8:0:0:ffff::1"));
  EXPECT_EQ(code("k10", "2001:db8:0:1::1", start), "INVALID_API_KEY");
}

TEST(Authenticator, a_flood_of_addresses_evicts_nobody_s_count) {  // 15.6
  Authenticator a;
  a.add_token("operator-operator", {Scope::kAdmin});
  const Authenticator::Time now{1000h};
  const auto wrong = [&](const std::string& peer) {
    return a.authenticate({.authorization = "Bearer wrong", .peer = peer}, now).error().code;
  };
  for (int i = 0; i < 11; ++i) (void)wrong("192.0.2.1");
  for (int i = 0; i < 70'000; ++i) (void)wrong(fmt::format("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255));
  EXPECT_EQ(wrong("192.0.2.1"), ErrorCode::kRateLimited);
}

TEST(Redaction, secrets_become_a_mark) {
  EXPECT_EQ(redact("Authorization: Bearer abc.def next"), "Authorization: Bearer [REDACTED] next");
  for (const std::string& secret :
       {std::string("api_key=SEKRET"), std::string("token: SEKRET"), std::string("\"password\":\"SEKRET\""),
        std::string("http://u:SEKRET@host/"), std::string("eyJSEKRET.SEKRET.SEKRET"),
        std::string("-----BEGIN PRIVATE KEY-----\nSEKRET\n-----END PRIVATE KEY-----")}) {
    const std::string out = redact("a " + secret + " b");
    EXPECT_EQ(out.find("SEKRET"), std::string::npos) << out;
    EXPECT_TRUE(out.starts_with("a ") && out.ends_with(" b")) << out;
  }
  for (const char* plain :
       {"12 tokens in 3 ms", "a token", "eyes", "eyJ.x", "Bearer", "http://host:80/a@b", "--- BEGIN"})
    EXPECT_EQ(redact(plain), plain);
  EXPECT_EQ(redact("key llorch-node-" + std::string(48, 'a') + "."), "key [REDACTED].");
  EXPECT_EQ(redact("-----BEGIN RSA PRIVATE KEY-----\nSEKRET, cut off"), "[REDACTED]");
}

TEST(Redaction, a_long_text_is_neither_cut_nor_left_as_it_is) {  // 15.23
  const std::string filler(100'000, 'x');
  EXPECT_EQ(redact(filler + " token=SEKRET " + filler), filler + " token=[REDACTED] " + filler);
  EXPECT_EQ(without_figures(filler + " 12 MB"), filler + " ... MB");
  std::string tokens, jwts, urls;
  for (int i = 0; i < 50'000; ++i) tokens += "token ", jwts += "eyJ", urls += "://a:";
  EXPECT_EQ(redact(tokens), tokens);
  EXPECT_EQ(redact(jwts), jwts);
  EXPECT_EQ(redact(urls), urls);
}

TEST(Redaction, values_are_redacted_before_they_are_escaped) {  // 15.23
  boost::json::value v{{"message", "said \"password\": \"SEKRET\" and\nBearer SEKRET"},
                       {"token", "SEKRET"},
                       {"list", {"http://u:SEKRET@h/", 7, boost::json::object{{"Api_Key", "SEKRET"}}}}};
  redact_values(v);
  const std::string text = boost::json::serialize(v);
  EXPECT_EQ(text.find("SEKRET"), std::string::npos) << text;
  EXPECT_EQ(v.at("list").at(1), 7);
}

TEST(Redaction, amounts_of_memory_are_not_for_everyone) {
  EXPECT_EQ(without_figures("needs 1200 MB with 4096 tokens of context, 300.5 MB are free on cpu:0"),
            "needs ... MB with 4096 tokens of context, ... MB are free on cpu:0");
  EXPECT_EQ(without_figures("17179869184 bytes, 16GiB"), "... bytes, ...GiB");
  EXPECT_EQ(without_figures("1.25 GB are needed, 0 B are free for a-8B"), "... GB are needed, ... B are free for a-8B");
  EXPECT_EQ(without_figures("12 tokens in 3 ms, MB"), "12 tokens in 3 ms, MB");
}

class Audit : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(directory_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::string path() const { return directory_ + "/audit.jsonl"; }
  void write(int count, AuditOptions options) const {
    const auto log = AuditLog::open(path(), "test", options);
    ASSERT_TRUE(log) << log.error().message;
    for (int i = 0; i < count; ++i) {
      (*log)->append({{"event_type", "task_submitted"}, {"number", i}});
      ASSERT_TRUE((*log)->flush());
    }
  }
  std::string directory_ = "/tmp/llorch-audit-XXXXXX";
};

TEST_F(Audit, the_chain_goes_on_through_full_files_and_restarts) {
  write(7, {.file_bytes_max = 700});
  write(5, {.file_bytes_max = 700});
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) files.push_back(entry.path().filename());
  EXPECT_GE(files.size(), 4u) << "12 records of some 400 bytes in files of 700";
  EXPECT_EQ(verify_audit(path()).value().count, 12u);
  // Without one of the full files, its first record is missed.
  std::ranges::sort(files);
  const auto full = std::ranges::find_if(files, [](const std::string& f) { return f.size() == 11 + 1 + 16; });
  ASSERT_NE(full, files.end());
  std::filesystem::remove(directory_ + "/" + *full);
  const auto broken = verify_audit(path());
  ASSERT_FALSE(broken);
  EXPECT_NE(broken.error().message.find("audit record 1 is broken"), std::string::npos) << broken.error().message;
}

TEST_F(Audit, a_file_ends_with_its_day) {
  for (const int day : {0, 0, 1, 3})
    write(2,
          {.now = [day] { return std::chrono::sys_days(std::chrono::year(2026) / 3 / 1) + std::chrono::days(day); }});
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) files.push_back(entry.path().filename());
  std::ranges::sort(files);
  EXPECT_EQ(files,
            (std::vector<std::string>{"audit.jsonl", "audit.jsonl.0000000000000004", "audit.jsonl.0000000000000006",
                                      "audit.jsonl.lock", "audit.jsonl.manifest"}));
  EXPECT_EQ(verify_audit(path()).value().count, 8u);
}

TEST_F(Audit, old_files_are_archived_and_stay_in_the_chain) {
  for (int i = 0; i < 3; ++i) write(2, {.file_bytes_max = 1});
  std::vector<std::filesystem::path> full;
  for (const auto& entry : std::filesystem::directory_iterator(directory_))
    if (entry.path().filename().string().size() == 11 + 1 + 16) full.push_back(entry.path());
  ASSERT_EQ(full.size(), 5u);
  std::ranges::sort(full);
  const auto age = [&](const std::filesystem::path& file, int days) {
    std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - std::chrono::days(days));
  };
  age(full[0], 91), age(full[1], 95), age(full[2], 89);
  write(1, {});
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/archive/" + full[0].filename().string()));
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/archive/" + full[1].filename().string()));
  EXPECT_TRUE(std::filesystem::exists(full[2])) << "not old enough";
  EXPECT_EQ(std::filesystem::status(directory_ + "/archive").permissions(), std::filesystem::perms::owner_all);
  EXPECT_EQ(verify_audit(path()).value().count, 7u) << "the archive is a part of the chain";
  std::filesystem::remove(directory_ + "/archive/" + full[1].filename().string());
  const auto broken = verify_audit(path());
  ASSERT_FALSE(broken);
  EXPECT_NE(broken.error().message.find("audit record 2 is broken"), std::string::npos) << broken.error().message;
}

TEST_F(Audit, batches_wait_but_critical_events_do_not) {
  const auto lines = [&] {
    std::ifstream in(path());
    std::string line;
    int count = 0;
    while (std::getline(in, line)) ++count;
    return count;
  };
  const auto until = [](const auto& what) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!what() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return what();
  };
  for (const AuditFlush mode : {AuditFlush::kBatched, AuditFlush::kHybrid}) {
    std::filesystem::remove(path()), std::filesystem::remove(path() + ".manifest");
    auto log = AuditLog::open(path(), "test", {.flush = mode}).value();
    const auto start = std::chrono::steady_clock::now();
    log->append({{"event_type", "task_submitted"}});
    EXPECT_TRUE(until([&] { return log->syncs() == 1; })) << "a second is long enough to wait";
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    EXPECT_EQ(lines(), 1);
    // Nine and then a critical one: all ten are safe, though their time is an hour.
    log.reset();
    log = AuditLog::open(path(), "test", {.flush = mode, .batch_time = std::chrono::hours(1)}).value();
    for (int i = 0; i < 9; ++i) log->append({{"event_type", "task_submitted"}});
    if (mode == AuditFlush::kHybrid) {
      EXPECT_TRUE(until([&] { return lines() == 10; })) << "written, if not synced";
    }
    EXPECT_EQ(log->syncs(), 0u);
    log->append({{"event_type", "auth_failure"}});
    EXPECT_TRUE(until([&] { return log->syncs() == 1; }));
    EXPECT_EQ(lines(), 11);
    // A hundred do not wait either.
    for (int i = 0; i < 100; ++i) log->append({{"event_type", "task_completed"}});
    EXPECT_TRUE(until([&] { return lines() == 111; }));
    log->append({{"event_type", "task_submitted"}});
    EXPECT_TRUE(log->flush());
    EXPECT_EQ(lines(), 112);
    EXPECT_EQ(verify_audit(path()).value().count, 112u);
  }
}

TEST_F(Audit, a_full_disk_loses_records_but_no_chain) {
  write(2, {});
  {
    const auto log = AuditLog::open(path(), "test", {.free_bytes_min = ~std::uint64_t{0}}).value();
    log->append({{"event_type", "task_submitted"}});
    EXPECT_EQ(log->flush().error().code, ErrorCode::kIo) << "it says so";
    EXPECT_EQ(log->dropped(), 1u);
  }
  write(1, {});
  EXPECT_EQ(verify_audit(path()).value().count, 3u);
}

/// Of all records of a log, oldest first.
std::vector<std::string> types_in(const std::string& path) {
  std::vector<std::string> types;
  EXPECT_TRUE(for_each_record(path, {}, [&](const boost::json::object& record) {
    types.emplace_back(record.at("event").at("event_type").as_string());
  }));
  return types;
}

TEST_F(Audit, what_was_written_in_part_is_taken_back_and_told) {  // 15.22
  write(1, {});
  {
    std::vector<bool> states;
    AuditOptions options;
    options.on_state = [&](const auto& problem) { states.push_back(!problem); };
    const auto log = AuditLog::open(path(), "test", options).value();
    rlimit whole{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &whole), 0);
    struct sigaction ignore {
    }, before{};
    ignore.sa_handler = SIG_IGN;
    ASSERT_EQ(sigaction(SIGXFSZ, &ignore, &before), 0);
    rlimit small = whole;
    small.rlim_cur = std::filesystem::file_size(path()) + 100;  // a record has some 400 bytes
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    bool kept = true;
    log->append({{"event_type", "task_submitted"}}, [&](bool k) { kept = k; });
    const Status said = log->flush();
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &whole), 0);
    ASSERT_EQ(sigaction(SIGXFSZ, &before, nullptr), 0);
    EXPECT_FALSE(said || kept || log->healthy());
    EXPECT_EQ(log->dropped(), 1u);
    log->append({{"event_type", "task_completed"}}, [&](bool k) { kept = k; });
    EXPECT_TRUE(log->flush());
    EXPECT_TRUE(kept && log->healthy());
    EXPECT_EQ(states, (std::vector<bool>{false, true}));
  }
  write(1, {});  // it opens
  EXPECT_EQ(verify_audit(path()).value().count, 4u);
  EXPECT_EQ(types_in(path()),
            (std::vector<std::string>{"task_submitted", "task_completed", "audit_overflow", "task_submitted"}));
}

TEST_F(Audit, what_the_disk_does_not_keep_is_no_success) {  // 15.22
  for (const AuditFlush mode : {AuditFlush::kImmediate, AuditFlush::kHybrid, AuditFlush::kBatched}) {
    std::filesystem::remove(path()), std::filesystem::remove(path() + ".manifest");
    write(1, {});
    AuditOptions options{.flush = mode};
    options.batch_time = std::chrono::hours(1);
    {
      const auto log = AuditLog::open(path(), "test", options).value();
      sync_fails = true;
      bool kept = true;
      log->append({{"event_type", "task_submitted"}});
      log->append({{"event_type", "token_revoked"}}, [&](bool k) { kept = k; });
      EXPECT_EQ(log->flush().error().code, ErrorCode::kIo);
      sync_fails = false;
      EXPECT_FALSE(kept || log->healthy());
      EXPECT_EQ(log->dropped(), 2u);
      EXPECT_EQ(types_in(path()).size(), 1u) << "what may not be there is not counted on";
      log->append({{"event_type", "task_completed"}});
      EXPECT_TRUE(log->flush());
    }
    EXPECT_EQ(verify_audit(path()).value().count, 3u);
  }
}

TEST_F(Audit, an_exception_while_it_writes_loses_the_batch_and_not_the_process) {  // 15.22
  for (const std::string_view failing : {"write", "keep"}) {
    std::filesystem::remove(path()), std::filesystem::remove(path() + ".manifest");
    write(1, {});
    bool full = false, kept = true;
    std::vector<std::string> told;
    AuditOptions options;
    options.before = [&](std::string_view step) {
      if (full && step == failing) throw std::bad_alloc();
    };
    options.on_state = [&](const auto& problem) {
      told.push_back(problem ? problem->message : "kept again");
      throw std::bad_alloc();
    };
    {
      const auto log = AuditLog::open(path(), "test", options).value();
      full = true;
      log->append({{"event_type", "task_submitted"}}, [&](bool k) { kept = k, throw std::bad_alloc(); });
      EXPECT_EQ(log->flush().error().code, ErrorCode::kIo);
      full = false;
      EXPECT_FALSE(kept || log->healthy());
      EXPECT_EQ(log->dropped(), 1u);
      EXPECT_EQ(types_in(path()).size(), 1u);
      log->append({{"event_type", "task_completed"}});
      EXPECT_TRUE(log->flush());
      EXPECT_TRUE(log->healthy());
    }
    EXPECT_EQ(told, (std::vector<std::string>{"out of memory", "kept again"}));
    EXPECT_EQ(types_in(path()), (std::vector<std::string>{"task_submitted", "task_completed", "audit_overflow"}));
    EXPECT_EQ(verify_audit(path()).value().count, 3u);
  }
}

TEST_F(Audit, a_record_that_was_cut_off_is_put_aside_and_the_chain_says_so) {  // 15.22
  write(2, {});
  const std::string torn = R"({"audit_id":"audit-test-0000000000000003","timest)";
  std::ofstream(path(), std::ios::app) << torn;
  write(1, {});
  EXPECT_EQ(types_in(path()),
            (std::vector<std::string>{"task_submitted", "task_submitted", "integrity_violation", "task_submitted"}));
  EXPECT_EQ(verify_audit(path()).value().count, 4u);
  boost::json::object event;
  EXPECT_TRUE(for_each_record(path(), {.type = "integrity_violation"},
                              [&](const boost::json::object& record) { event = record.at("event").as_object(); }));
  EXPECT_EQ(event.at("bytes").to_number<std::size_t>(), torn.size());
  EXPECT_EQ(event.at("sha256").as_string(), sha256_hex(torn));
  std::ifstream aside(directory_ + "/" + std::string(event.at("file").as_string()));
  EXPECT_EQ(std::string((std::istreambuf_iterator<char>(aside)), {}), torn);
  // Of what was acknowledged, nothing is ever a torn end: the manifest knows it.
  std::filesystem::resize_file(path(), std::filesystem::file_size(path()) - 5);
  EXPECT_EQ(AuditLog::open(path(), "test").error().code, ErrorCode::kInvalidRequest);
}

TEST_F(Audit, a_keyed_chain_cannot_be_made_without_its_key) {             // 15.22
  EXPECT_EQ(to_hex(hmac_sha256("Jefe", "what do ya want for nothing?")),  // RFC 4231, 4.3
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  AuditOptions keyed, unkeyed, other;
  keyed.key = sha256("the key"), other.key = sha256("another key");
  keyed.file_bytes_max = 700;
  write(3, keyed);
  EXPECT_EQ(verify_audit(path(), keyed.key).value().count, 3u);
  EXPECT_EQ(verify_audit(path(), other.key).error().code, ErrorCode::kInvalidRequest);
  EXPECT_TRUE(verify_audit(path()).error().message.contains("give the log's key"));
  EXPECT_FALSE(AuditLog::open(path(), "test", unkeyed));
  EXPECT_FALSE(AuditLog::open(path(), "test", other));
  // The manifest too: without the key nobody can say that there were fewer.
  std::ofstream(path() + ".manifest") << "1 " << std::string(64, 'a') << "\n";
  EXPECT_TRUE(verify_audit(path(), keyed.key).error().message.contains("manifest"));
  // A whole new log, made without it.
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) std::filesystem::remove(entry.path());
  write(3, unkeyed);
  EXPECT_EQ(verify_audit(path()).value().count, 3u);
  EXPECT_TRUE(verify_audit(path(), keyed.key).error().message.contains("audit record 1 is broken: it is not keyed"));

  const std::string file = directory_ + "/key";
  ASSERT_TRUE(write_secret_file(file, to_hex(keyed.key) + "\n"));
  EXPECT_EQ(read_audit_key(file).value(), keyed.key);
  ASSERT_TRUE(write_secret_file(file, "00ff"));
  EXPECT_EQ(read_audit_key(file).error().code, ErrorCode::kInvalidRequest);
}

TEST_F(Audit, a_log_belongs_to_one_process_which_is_named) {  // 15.5
  const auto log = AuditLog::open(path(), "llorch-test").value();
  const auto second = AuditLog::open(path(), "another");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kResourceInUse);
  EXPECT_TRUE(second.error().message.contains(fmt::format("llorch-test (process {})", getpid())))
      << second.error().message;
}

TEST(ErrorCodes, one_status_and_one_type_each_and_retriable_ones_are_temporary) {
  std::map<std::string_view, int> seen;
  for (const ErrorKind& k : kErrorKinds) {
    EXPECT_EQ(seen[k.name]++, 0) << k.name << " twice";
    EXPECT_TRUE(k.http_status >= 400 && k.http_status <= 504 && k.http_status != 408) << k.name;
    const bool temporary = k.http_status == 429 || k.http_status >= 500;
    EXPECT_TRUE(temporary || !k.retriable) << k.name;
  }
  EXPECT_EQ(kind(ErrorCode::kQueueFull).type, "rate_limit_error");
}

}  // namespace
}  // namespace llorch::security
