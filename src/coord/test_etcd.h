// For tests: members of etcd as child processes on loopback, which end with the test.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "coord/etcd_json.h"
#include "format/json.h"
#include "net/http_client.h"

namespace llorch::coord {

using namespace std::chrono_literals;

inline bool etcd_is_installed() {
  std::string_view folders = std::getenv("PATH") ? std::getenv("PATH") : "";
  while (!folders.empty()) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    if (access(fmt::format("{}/etcd", folder).c_str(), X_OK) == 0) return true;
    folders.remove_prefix(std::min(folders.size(), folder.size() + 1));
  }
  return false;
}
inline constexpr const char* kNoEtcd = "not run: no etcd on this machine (Debian package etcd-server)";

inline std::uint16_t free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  bind(fd, reinterpret_cast<sockaddr*>(&at), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
  close(fd);
  return ntohs(at.sin_port);
}

inline void pass_time(std::chrono::milliseconds time) { (void)poll(nullptr, 0, static_cast<int>(time.count())); }

inline bool wait_until(const std::function<bool()>& what, std::chrono::milliseconds limit = 10s) {
  for (const auto end = std::chrono::steady_clock::now() + limit; std::chrono::steady_clock::now() < end;) {
    if (what()) return true;
    pass_time(10ms);
  }
  return what();
}

struct TestFolder {
  TestFolder() { EXPECT_NE(mkdtemp(path.data()), nullptr); }
  ~TestFolder() {
    std::error_code problem;
    std::filesystem::remove_all(path, problem);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  std::string path = "/tmp/llorch-coord-XXXXXX";
};

class EtcdCluster {
 public:
  struct Tls {
    std::string certificate, key;  // files
  };
  explicit EtcdCluster(int members = 1, Tls tls = {}) : tls_(std::move(tls)) {
    for (int i = 0; i < members; ++i) members_.push_back({free_port(), free_port()});
    for (int i = 0; i < members; ++i) start(i);
    EXPECT_TRUE(wait_until([&] {
      for (int i = 0; i < members; ++i)
        if (!answers(i)) return false;
      return true;
    })) << "etcd does not start";
  }
  ~EtcdCluster() {
    for (std::size_t i = 0; i < members_.size(); ++i) kill_now(static_cast<int>(i));
  }
  EtcdCluster(const EtcdCluster&) = delete;
  EtcdCluster& operator=(const EtcdCluster&) = delete;

  void start(int i) {
    Member& m = members_[static_cast<std::size_t>(i)];
    const std::string scheme = tls_.certificate.empty() ? "http" : "https";
    const auto at = [](std::string_view s, std::uint16_t port) { return fmt::format("{}://127.0.0.1:{}", s, port); };
    std::string all;
    for (std::size_t k = 0; k < members_.size(); ++k)
      all += fmt::format("{}m{}={}", k == 0 ? "" : ",", k, at("http", members_[k].peer_port));
    const bool alone = members_.size() == 1;
    std::vector<std::string> args{"etcd",
                                  "--name",
                                  fmt::format("m{}", i),
                                  "--data-dir",
                                  fmt::format("{}/m{}", folder_.path, i),
                                  "--listen-client-urls",
                                  at(scheme, m.port),
                                  "--advertise-client-urls",
                                  at(scheme, m.port),
                                  "--listen-peer-urls",
                                  at("http", m.peer_port),
                                  "--initial-advertise-peer-urls",
                                  at("http", m.peer_port),
                                  "--initial-cluster",
                                  all,
                                  "--heartbeat-interval",
                                  alone ? "10" : "50",
                                  "--election-timeout",
                                  alone ? "100" : "500",
                                  "--unsafe-no-fsync",
                                  "--logger",
                                  "zap"};
    if (!tls_.certificate.empty()) args.insert(args.end(), {"--cert-file", tls_.certificate, "--key-file", tls_.key});
    std::vector<char*> argv;
    for (std::string& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    const std::string log = fmt::format("{}/m{}.log", folder_.path, i);
    m.pid = fork();
    if (m.pid != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int out = open(log.c_str(), O_CREAT | O_APPEND | O_WRONLY, 0600);
    dup2(out, 1), dup2(out, 2);
    execvp("etcd", argv.data());
    _exit(127);
  }
  void kill_now(int i) {
    Member& m = members_[static_cast<std::size_t>(i)];
    if (m.pid <= 0) return;
    kill(m.pid, SIGKILL);
    waitpid(m.pid, nullptr, 0);
    m.pid = 0;
  }
  void pause(int i) { kill(members_[static_cast<std::size_t>(i)].pid, SIGSTOP); }
  void resume(int i) { kill(members_[static_cast<std::size_t>(i)].pid, SIGCONT); }
  [[nodiscard]] std::uint16_t port(int i) const { return members_[static_cast<std::size_t>(i)].port; }
  [[nodiscard]] std::vector<net::Url> endpoints() const {
    std::vector<net::Url> urls;
    for (const Member& m : members_) urls.push_back({"127.0.0.1", m.port, "/", !tls_.certificate.empty()});
    return urls;
  }
  /// -1: none is known.
  [[nodiscard]] int leader() const {
    for (std::size_t i = 0; i < members_.size(); ++i) {
      const auto status = etcd::read_object(post(static_cast<int>(i), "/v3/maintenance/status", "{}"));
      const auto* header = status ? json::find_object(*status, "header") : nullptr;
      if (header && json::find_text(*header, "member_id") == json::find_text(*status, "leader"))
        return static_cast<int>(i);
    }
    return -1;
  }
  /// Straight to a member, without the code under test; nothing: no answer.
  [[nodiscard]] std::string post(int i, const std::string& path, const std::string& body) const {
    auto answer = net::fetch({.method = "POST",
                              .url = {"127.0.0.1", port(i), path},
                              .headers = {},
                              .body = body,
                              .connect_timeout = 1s,
                              .idle_timeout = 3s});
    return answer && answer->status == 200 ? answer->body : "";
  }

 private:
  [[nodiscard]] bool answers(int i) const {
    if (tls_.certificate.empty()) return !post(i, "/v3/kv/range", R"({"key":"YQ=="})").empty();
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET, at.sin_port = htons(port(i)), at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool open = connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
    close(fd);
    return open;
  }
  struct Member {
    std::uint16_t port, peer_port;
    pid_t pid = 0;
  };
  TestFolder folder_;
  Tls tls_;
  std::vector<Member> members_;
};

}  // namespace llorch::coord
