// Tokens, hosts, redaction, errors: what must be refused is refused (S-01 to S-12, O-04); one status per error code
// (J-03).
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/ids.h"
#include "security/audit.h"
#include "security/auth.h"
#include "security/digest.h"
#include "security/manifest.h"

namespace llorch::security {
namespace {

using namespace std::chrono_literals;

TEST(Digest, known_answers) {  // FIPS 180-2, appendix B
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_TRUE(equal_in_constant_time("ab", "ab"));
  EXPECT_FALSE(equal_in_constant_time("ab", "ac"));
  EXPECT_FALSE(equal_in_constant_time("ab", "abc"));
}

TEST(Manifest, of_a_file_and_of_a_folder) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("llorch-manifest-{}", getpid());
  std::filesystem::create_directories(folder / "below");
  std::ofstream(folder / "b.json") << "abc";
  const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  EXPECT_EQ(manifest_of(folder / "b.json").value(), abc);
  EXPECT_EQ(manifest_of(folder).value(), sha256_hex(abc + "  b.json\n"));
  std::ofstream(folder / ".hidden") << "x";
  std::ofstream(folder / "below/c.json") << "x";
  EXPECT_EQ(manifest_of(folder).value(), sha256_hex(abc + "  b.json\n")) << "no model is read from these";
  std::ofstream(folder / "a.json") << "abc";
  for (int i = 0; i < 8; ++i) std::filesystem::create_symlink("nowhere", folder / fmt::format("link-{}", i));
  EXPECT_EQ(manifest_of(folder).value(), sha256_hex(abc + "  a.json\n" + abc + "  b.json\n"));
  EXPECT_EQ(manifest_of(folder / "none").error().code, ErrorCode::kIo);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(manifest_of(folder / "b.json", stop.get_token()).error().code, ErrorCode::kCancelled);
  const std::string before = identity_of(folder / "b.json");
  EXPECT_FALSE(before.empty());
  EXPECT_EQ(identity_of(folder / "b.json"), before);
  std::ofstream(folder / "b.json") << "abd";
  EXPECT_NE(identity_of(folder / "b.json"), before);
  EXPECT_EQ(identity_of(folder / "none"), "");
  std::filesystem::remove_all(folder);
}

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
  return who ? who->id : std::string(name(who.error().code));
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

  std::ofstream(path) << "everything 00\n";  // a mistake of an editor neither admits nor shuts out
  EXPECT_EQ(verdict(a, second), keys[1].label());
  EXPECT_TRUE(told.back().starts_with("integrity_violation") && told.back().contains("line 1")) << told.back();
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
  EXPECT_EQ(infer.id.size(), 12u);
  EXPECT_TRUE(a.authenticate({.api_key = "operator-operator", .peer = "p"}, now).value().may(Scope::kMetrics));
  EXPECT_EQ(a.authenticate({.peer = "p"}, now).error().code, ErrorCode::kMissingApiKey);
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(a.authenticate({.authorization = "Bearer wrong", .peer = "q"}, now).error().code,
              ErrorCode::kInvalidApiKey);
  EXPECT_EQ(a.authenticate({.authorization = "Bearer operator-operator", .peer = "q"}, now).error().code,
            ErrorCode::kRateLimited);
  EXPECT_TRUE(a.authenticate({.authorization = "Bearer operator-operator", .peer = "p"}, now));
  EXPECT_TRUE(a.authenticate({.authorization = "Bearer operator-operator", .peer = "q"}, now + 61s));
}

TEST(Hosts, loopback_and_what_is_allowed) {
  for (const char* ok :
       {"localhost", "localhost:80", "127.0.0.1:8601", "127.9.9.9", "[::1]:80", "box.lan:1", "10.0.0.5"})
    EXPECT_TRUE(host_allowed(ok, "10.0.0.5", {"box.lan"})) << ok;
  for (const char* bad : {"", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.6", "127.1"})
    EXPECT_FALSE(host_allowed(bad, "10.0.0.5", {"box.lan"})) << bad;
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
  EXPECT_EQ(redact("12 tokens in 3 ms"), "12 tokens in 3 ms");
}

TEST(Redaction, amounts_of_memory_are_not_for_everyone) {
  EXPECT_EQ(without_figures("needs 1200 MB with 4096 tokens of context, 300.5 MB are free on cpu:0"),
            "needs ... MB with 4096 tokens of context, ... MB are free on cpu:0");
  EXPECT_EQ(without_figures("17179869184 bytes, 16GiB"), "... bytes, ...GiB");
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
      (*log)->flush();
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
  EXPECT_EQ(files, (std::vector<std::string>{"audit.jsonl", "audit.jsonl.0000000000000004",
                                             "audit.jsonl.0000000000000006", "audit.jsonl.manifest"}));
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
    log->flush();
    EXPECT_EQ(lines(), 112);
    EXPECT_EQ(verify_audit(path()).value().count, 112u);
  }
}

TEST_F(Audit, a_full_disk_loses_records_but_no_chain) {
  write(2, {});
  {
    const auto log = AuditLog::open(path(), "test", {.free_bytes_min = ~std::uint64_t{0}}).value();
    log->append({{"event_type", "task_submitted"}});
    log->flush();
    EXPECT_EQ(log->dropped(), 1u);
  }
  write(1, {});
  EXPECT_EQ(verify_audit(path()).value().count, 3u);
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
