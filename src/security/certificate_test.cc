// Certificates: what is put in, what is refused and why. What the openssl program says of them: service/tls_test.cc.
#include "security/certificate.h"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <set>

namespace llorch::security {
namespace {

using namespace std::chrono_literals;

CertificateTime now() { return now_in_seconds(); }

struct Colony {
  Signer root = make_root({"llorch colony", 1}, now() - 1h, now() + 24h * 3650).value();
  Signer issuer = make_intermediate(root, {"llorch queen", 0}, now() - 1h, now() + 24h * 365).value();
  std::string key = make_private_key().value();
  [[nodiscard]] std::string leaf(CertificateTime from, CertificateTime until,
                                 const std::vector<std::string>& hosts = {"10.0.0.7", "mac.lan", "::1"}) const {
    return sign_daemon(issuer, make_certificate_request(key).value(), {DaemonKind::kHive, "mac"}, hosts, from, until)
        .value();
  }
};

TEST(Certificate, what_it_says_is_read_back) {
  const Colony c;
  const auto from = now() - 1h, until = now() + 1h;
  const auto facts = check_chain(c.leaf(from, until) + c.issuer.certificate, c.root.certificate, now());
  ASSERT_TRUE(facts) << facts.error().message;
  EXPECT_EQ(facts->daemon, (DaemonName{DaemonKind::kHive, "mac"}));
  EXPECT_EQ(facts->hosts, (std::vector<std::string>{"10.0.0.7", "mac.lan", "::1"}));
  EXPECT_EQ(facts->not_before, from);
  EXPECT_EQ(facts->not_after, until);
  EXPECT_FALSE(facts->authority);
  EXPECT_EQ(facts->fingerprint.size(), 64u);
  EXPECT_TRUE(read_certificate(c.root.certificate)->authority);
  EXPECT_NE(read_certificate(c.leaf(from, until))->serial, facts->serial)
      << "every certificate has a number of its own";
  EXPECT_TRUE(check_pair(c.leaf(from, until), c.key));
  EXPECT_FALSE(check_pair(c.leaf(from, until), c.root.private_key));
}

TEST(Certificate, each_reason_to_refuse_one_is_told) {
  const Colony c, other;
  const std::string good = c.leaf(now() - 1h, now() + 1h);
  const auto why = [&](const std::string& chain) {
    const auto checked = check_chain(chain, c.root.certificate, now());
    return checked ? "good" : checked.error().message;
  };
  EXPECT_EQ(why(good + c.issuer.certificate), "good");
  EXPECT_NE(why(c.leaf(now() - 2h, now() - 1h) + c.issuer.certificate).find("expired"), std::string::npos);
  EXPECT_NE(why(c.leaf(now() + 1h, now() + 2h) + c.issuer.certificate).find("not valid yet"), std::string::npos);
  EXPECT_NE(why(other.leaf(now() - 1h, now() + 1h) + other.issuer.certificate).find("another authority"),
            std::string::npos);
  EXPECT_NE(why(other.leaf(now() - 1h, now() + 1h) + c.issuer.certificate).find("another authority"),
            std::string::npos);
  EXPECT_NE(why(good).find("another authority"), std::string::npos) << "nobody vouches for it";
  EXPECT_NE(why(other.root.certificate).find("signed by itself"), std::string::npos);
  EXPECT_NE(why(c.issuer.certificate).find("no daemon's"), std::string::npos);
  EXPECT_NE(why("rubbish").find("not a certificate"), std::string::npos);
  // A daemon is no authority: what it signs is worth nothing.
  const Signer forger{good, c.key};
  const auto forged = sign_daemon(forger, make_certificate_request(other.key).value(), {DaemonKind::kQueen, "q"}, {},
                                  now() - 1h, now() + 1h);
  EXPECT_NE(why(*forged + good + c.issuer.certificate), "good");
}

TEST(Certificate, no_two_hives_are_called_alike) {
  const auto name = [](const std::string& id) { return DaemonName{DaemonKind::kHive, id}.tls_name(); };
  EXPECT_EQ(name("mac-2"), "mac-2.hive.llorch.internal");
  EXPECT_EQ((DaemonName{DaemonKind::kQueen, "q"}.tls_name()), "queen.llorch.internal");
  std::set<std::string> names;
  const std::vector<std::string> ids{
      "mac", "Mac", "MAC", "m_ac", "x-1", std::string(64, 'a'), std::string(63, 'a'), name("Mac").substr(0, 42)};
  for (const std::string& id : ids) {
    const std::string n = name(id);
    EXPECT_LE(n.find('.'), 63u);
    EXPECT_EQ(n.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-."), std::string::npos) << n;
    names.insert(n);
  }
  EXPECT_EQ(names.size(), ids.size());
}

TEST(Certificate, requests_that_lie_are_refused) {
  const Colony c;
  const auto sign = [&](const std::string& request, const std::string& id, const std::vector<std::string>& hosts) {
    return sign_daemon(c.issuer, request, {DaemonKind::kHive, id}, hosts, now(), now() + 1h);
  };
  const std::string request = make_certificate_request(c.key).value();
  EXPECT_TRUE(sign(request, "mac", {"mac.lan"}));
  for (const std::string host : {"a,DNS:b", "a b", "", "*.lan", "a\nb", "[::1]"})
    EXPECT_FALSE(sign(request, "mac", {host})) << host;
  for (const std::string id : {"", "a,URI:llorch:queen:q", "../x", "a b"}) EXPECT_FALSE(sign(request, id, {})) << id;
  std::string bent = request;
  const std::size_t at = bent.size() / 2;
  bent[at] = bent[at] == 'A' ? 'B' : 'A';
  EXPECT_FALSE(sign(bent, "mac", {}));
  EXPECT_FALSE(sign("", "mac", {}));
  EXPECT_FALSE(sign(std::string(1u << 20, 'x'), "mac", {}));
}

/// A request that its own key has signed, of any kind of key.
std::string request_of(EVP_PKEY* key) {
  X509_REQ* request = X509_REQ_new();
  EXPECT_TRUE(X509_REQ_set_pubkey(request, key) == 1 && X509_REQ_sign(request, key, EVP_sha256()) > 0);
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_X509_REQ(memory, request);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free_all(memory), X509_REQ_free(request), EVP_PKEY_free(key);
  return text;
}

/// What others can be made of costs the queen 15 ms and more to verify.
TEST(Certificate, requests_are_of_keys_on_p_256_and_no_others) {
  EXPECT_TRUE(check_certificate_request(request_of(EVP_EC_gen("P-256"))));
  for (EVP_PKEY* key : {EVP_EC_gen("P-384"), EVP_EC_gen("P-521"), EVP_EC_gen("brainpoolP256r1"), EVP_RSA_gen(2048)}) {
    const Status checked = check_certificate_request(request_of(key));
    ASSERT_FALSE(checked);
    EXPECT_TRUE(checked.error().message.contains("P-256")) << checked.error().message;
  }
}

}  // namespace
}  // namespace llorch::security
