// TLS between our client and our server, and what `openssl s_client` sees of it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "base/ids.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "security/certificate.h"
#include "service/process.h"
#include "service/tls_files.h"

namespace llorch::service {
namespace {

using namespace std::chrono_literals;
using security::CertificateTime;
using security::DaemonKind;
using security::Signer;

CertificateTime now() { return security::now_in_seconds(); }

struct Colony {
  Signer root = security::make_root({"colony", 1}, now() - 1h, now() + 24h).value();
  Signer issuer = security::make_intermediate(root, {"queen", 0}, now() - 1h, now() + 24h).value();
  [[nodiscard]] net::TlsPair pair(DaemonKind kind, const std::string& id, const std::vector<std::string>& hosts,
                                  CertificateTime until = now() + 1h) const {
    const std::string key = security::make_private_key().value();
    return {security::sign_daemon(issuer, security::make_certificate_request(key).value(), {kind, id}, hosts,
                                  now() - 1h, until)
                    .value() +
                issuer.certificate + root.certificate,
            key};
  }
  [[nodiscard]] std::string fingerprint() const { return security::read_certificate(root.certificate)->fingerprint; }
};

/// A server whose answer is the name of the daemon that asks.
class Server {
 public:
  explicit Server(const net::TlsServer::Options& options) {
    net::ServerOptions o;
    o.tls = net::TlsServer::make(options).value();
    server_ = net::HttpServer::make(
                  loop_, o,
                  [](const net::Request& r, const net::ExchangePtr& e) {
                    const auto facts =
                        r.certificate ? security::read_certificate_der(*r.certificate) : security::CertificateFacts{};
                    e->send({200, "text/plain", facts ? facts->daemon.id : "?", {}});
                  },
                  [](const Error& e) {
                    return net::Response{500, "text/plain", e.message, {}};
                  })
                  .value();
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Server() {
    loop_.post([this] { server_.reset(), loop_.post([this] { loop_.stop(); }); });
    thread_.join();
  }
  [[nodiscard]] std::uint16_t port() const { return server_->port(); }
  /// What a client hears, or why it hears nothing.
  [[nodiscard]] std::string ask(const net::TlsClient::Options& client, const std::string& name = "") const {
    net::ClientRequest r;
    r.url = {"127.0.0.1", port(), "/", true};
    r.tls_name = name;
    r.tls = net::TlsClient::make(client).value();
    const auto answer = net::fetch(std::move(r));
    return answer ? answer->body : "error: " + answer.error().message;
  }
  /// What `openssl s_client` says when a program types into it.
  [[nodiscard]] std::string openssl(const std::string& arguments, const std::string& typist = "true") const {
    const auto ran = run_program(
        {"sh", "-c",
         fmt::format("{} | timeout 20 openssl s_client -connect 127.0.0.1:{} {} 2>&1", typist, port(), arguments)});
    return ran ? ran->output : ran.error().message;
  }
  void replace(const net::TlsServer::Options& options) {
    std::promise<void> done;
    loop_.post([&] { server_->set_tls(net::TlsServer::make(options).value()), done.set_value(); });
    done.get_future().wait();
  }

 private:
  net::EventLoop loop_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
};

bool says(const std::string& text, std::string_view words) { return text.find(words) != std::string::npos; }

TEST(Tls, both_sides_of_a_colony_show_and_check_certificates) {
  const Colony c;
  const Server hive(
      {{}, c.pair(DaemonKind::kHive, "attic", {"attic.hive.llorch.internal", "127.0.0.1"}), c.root.certificate});
  const net::TlsPair queen = c.pair(DaemonKind::kQueen, "q1", {"queen.llorch.internal"});
  EXPECT_EQ(hive.ask({queen, c.root.certificate, ""}, "attic.hive.llorch.internal"), "q1");
  EXPECT_EQ(hive.ask({{}, c.root.certificate, ""}, "attic.hive.llorch.internal"), "") << "keys are shown instead";
  EXPECT_EQ(hive.ask({{}, c.root.certificate, ""}), "") << "by its address, as people call it";
  EXPECT_TRUE(says(hive.ask({queen, c.root.certificate, ""}, "cellar.hive.llorch.internal"), "no secure connection"))
      << "another hive";
}

TEST(Tls, strangers_are_refused_on_either_side) {
  const Colony c, other;
  const net::TlsServer::Options good{
      {}, c.pair(DaemonKind::kHive, "attic", {"attic.hive.llorch.internal"}), c.root.certificate};
  const Server hive(good);
  const std::string name = "attic.hive.llorch.internal";
  const net::TlsPair queen = c.pair(DaemonKind::kQueen, "q1", {});
  EXPECT_TRUE(says(hive.ask({queen, other.root.certificate, ""}, name), "error:")) << "the server is of another colony";
  EXPECT_TRUE(says(hive.ask({queen, "", ""}, name), "error:")) << "no public authority knows it";
  EXPECT_TRUE(says(hive.ask({other.pair(DaemonKind::kQueen, "q1", {}), c.root.certificate, ""}, name), "error:"))
      << "the caller is";
  EXPECT_TRUE(
      says(hive.ask({c.pair(DaemonKind::kQueen, "q1", {}, now() - 1s), c.root.certificate, ""}, name), "error:"))
      << "expired";
  const Server late({{}, c.pair(DaemonKind::kHive, "attic", {name}, now() - 1s), c.root.certificate});
  EXPECT_TRUE(says(late.ask({queen, c.root.certificate, ""}, name), "expired"));
}

TEST(Tls, the_first_contact_believes_the_root_that_the_token_names) {
  const Colony c, other;
  const std::string name = "queen.llorch.internal";
  const Server queen({{}, c.pair(DaemonKind::kQueen, "q1", {name}), c.root.certificate});
  EXPECT_EQ(queen.ask({{}, "", c.fingerprint()}, name), "");
  EXPECT_TRUE(says(queen.ask({{}, "", other.fingerprint()}, name), "error:")) << "somebody in the middle";
  // Who shows the true root beside a chain of its own has not got its key.
  net::TlsPair forged = other.pair(DaemonKind::kQueen, "q1", {name});
  forged.chain += c.root.certificate;
  const Server middle({{}, forged, other.root.certificate});
  EXPECT_TRUE(says(middle.ask({{}, "", c.fingerprint()}, name), "error:"));
  EXPECT_FALSE(net::TlsClient::make({{}, "", "abc"}));
}

TEST(Tls, people_get_their_certificate_and_daemons_theirs) {
  const Colony c, people;
  const Server queen({people.pair(DaemonKind::kQueen, "public", {"127.0.0.1"}),
                      c.pair(DaemonKind::kQueen, "q1", {"queen.llorch.internal"}), c.root.certificate});
  EXPECT_EQ(queen.ask({{}, people.root.certificate, ""}), "");
  EXPECT_EQ(queen.ask({c.pair(DaemonKind::kHive, "attic", {}), c.root.certificate, ""}, "queen.llorch.internal"),
            "attic");
  EXPECT_TRUE(says(queen.ask({{}, c.root.certificate, ""}), "error:"));
}

TEST(Tls, versions_and_renegotiation_are_what_they_should_be) {
  const Colony c;
  const Server queen({{}, c.pair(DaemonKind::kQueen, "q1", {"queen.llorch.internal"}), c.root.certificate});
  EXPECT_TRUE(says(queen.openssl("-tls1_2"), "Protocol  : TLSv1.2"));
  EXPECT_TRUE(says(queen.openssl("-tls1_3"), "TLSv1.3"));
  EXPECT_TRUE(says(queen.openssl("-tls1_1 -cipher ALL:@SECLEVEL=0"), "alert protocol version"));
  const std::string inside = " -servername queen.llorch.internal";
  EXPECT_TRUE(says(queen.openssl("-tls1_3" + inside), "Acceptable client certificate CA names") ||
              says(queen.openssl("-tls1_3" + inside), "Requested Signature Algorithms"));
  EXPECT_TRUE(says(queen.openssl("-tls1_2" + inside), "alert protocol version")) << "between daemons 1.3 only";
  EXPECT_TRUE(says(queen.openssl("-tls1_2", "(sleep 0.5; echo R; sleep 1)"), "no renegotiation"));
}

TEST(Tls, a_new_certificate_is_shown_without_a_restart) {
  const Colony c, renewed;
  Server queen({{}, c.pair(DaemonKind::kQueen, "q1", {"127.0.0.1"}), c.root.certificate});
  EXPECT_EQ(queen.ask({{}, c.root.certificate, ""}), "");
  queen.replace({{}, renewed.pair(DaemonKind::kQueen, "q1", {"127.0.0.1"}), renewed.root.certificate});
  EXPECT_EQ(queen.ask({{}, renewed.root.certificate, ""}), "");
  EXPECT_TRUE(says(queen.ask({{}, c.root.certificate, ""}), "error:"));
}

TEST(Tls, files_that_are_none_are_named) {
  const Colony c;
  const net::TlsPair good = c.pair(DaemonKind::kQueen, "q1", {});
  for (const net::TlsPair& bad :
       {net::TlsPair{"x", good.private_key}, {good.chain, "x"}, {good.chain, c.root.private_key}}) {
    const auto made = net::TlsServer::make({bad, {}, ""});
    ASSERT_FALSE(made);
    EXPECT_TRUE(says(made.error().message, "the certificate for people: ")) << made.error().message;
  }
  EXPECT_FALSE(net::TlsServer::make({}));
  EXPECT_FALSE(net::TlsClient::make({{}, "rubbish", ""}));
}

TEST(Tls, a_name_of_the_colony_is_believed_of_the_daemon_that_has_it_and_only_while_it_passes) {
  const Colony c;
  // Signed by the authority, with the queen's name, and yet no queen.
  const Server thief({.people = {},
                      .colony = c.pair(DaemonKind::kHive, "mac", {"queen.llorch.internal", "mac.hive.llorch.internal"}),
                      .authorities = c.root.certificate});
  net::TlsClient::Options client{{}, c.root.certificate, "", accept_daemons()};
  EXPECT_TRUE(says(thief.ask(client, "queen.llorch.internal"), "application verification failure"));
  EXPECT_EQ(thief.ask(client, "mac.hive.llorch.internal"), "");
  client.accepts = accept_daemons([](const security::CertificateFacts& f) -> Status {
    return fail(ErrorCode::kForbidden, "{} was revoked", f.daemon.id);
  });
  EXPECT_TRUE(says(thief.ask(client, "mac.hive.llorch.internal"), "application verification failure"));
  client.root_fingerprint = c.fingerprint(), client.authorities = "", client.accepts = accept_daemons();
  EXPECT_TRUE(says(thief.ask(client, "queen.llorch.internal"), "application verification failure"))
      << "at the first contact, too";
}

TEST(Tls, a_session_is_resumed_by_the_daemon_that_began_it_and_by_no_other) {
  const Colony c;
  const net::TlsServer::Options options{.people = c.pair(DaemonKind::kQueen, "q", {"127.0.0.1"}),
                                        .colony = c.pair(DaemonKind::kQueen, "q", {}),
                                        .authorities = c.root.certificate};
  const Server one(options), another(options);
  const std::string session = testing::TempDir() + "session-" + random_hex(4);
  for (const char* version : {"-tls1_2", "-tls1_3"}) {
    const std::string keep = fmt::format("{} -sess_out {}", version, session),
                      show = fmt::format("{} -sess_in {}", version, session);
    (void)one.openssl(keep);
    EXPECT_EQ(another.openssl(show).find("Reused,"), std::string::npos) << version;
    if (version == std::string("-tls1_2")) {  // a session of 1.3 comes after the handshake: s_client is gone by then
      EXPECT_NE(one.openssl(show).find("Reused,"), std::string::npos) << "the check sees what is resumed";
    }
  }
}

TEST(Tls, handshakes_that_never_end_hold_neither_a_thread_nor_the_others) {
  const Colony c;
  const Server server(
      {.people = {}, .colony = c.pair(DaemonKind::kQueen, "q", {"127.0.0.1"}), .authorities = c.root.certificate});
  const auto threads = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}); };
  ASSERT_EQ(server.ask({{}, c.root.certificate, ""}), "");
  const auto before = threads();
  std::vector<int> silent;
  sockaddr_in to{};
  to.sin_family = AF_INET, to.sin_port = htons(server.port()), to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < 300; ++i) {
    silent.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(silent.back(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    // A record that says that a client's greeting of 512 bytes follows, and nothing of it.
    if (i % 2 == 0) ASSERT_EQ(write(silent.back(), "\x16\x03\x01\x02\x00", 5), 5);
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(server.ask({{}, c.root.certificate, ""}), "");
  EXPECT_LE(threads(), before + 1);
  for (const int fd : silent) close(fd);
}

TEST(TlsDeathTest, without_authorities_of_its_own_a_client_believes_whom_the_system_believes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // in a process that has not read them yet
  const auto look = [] {
    const Colony known, unknown;
    const std::string file = testing::TempDir() + "roots-" + random_hex(4);
    std::ofstream(file) << known.root.certificate;
    setenv("SSL_CERT_FILE", file.c_str(), 1);
    for (const Colony* c : {&known, &unknown}) {
      const Server server({.people = c->pair(DaemonKind::kQueen, "q", {"127.0.0.1"}), .colony = {}, .authorities = {}});
      net::ClientRequest r;
      r.url = {"127.0.0.1", server.port(), "/", true};
      const auto answer = net::fetch(std::move(r));
      if (answer.has_value() != (c == &known)) std::exit(1);
    }
    std::exit(0);
  };
  EXPECT_EXIT(look(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace llorch::service
