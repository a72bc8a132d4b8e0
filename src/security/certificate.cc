#include "security/certificate.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "base/colony_name.h"
#include "security/digest.h"
#include "security/validate.h"

namespace llorch::security {
namespace {

template<auto Free>
struct Freed {
  template<class T>
  void operator()(T* p) const {
    Free(p);
  }
};
void free_names(STACK_OF(GENERAL_NAME) * names) { sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free); }
void free_text(char* text) { OPENSSL_free(text); }

using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Request = std::unique_ptr<X509_REQ, Freed<X509_REQ_free>>;
using Memory = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Names = std::unique_ptr<STACK_OF(GENERAL_NAME), Freed<free_names>>;

constexpr std::size_t kTextMax = 64u << 10, kLabelMax = 63;  // of a host name: RFC 1035

std::unexpected<Error> broken(std::string_view what) {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return fail(ErrorCode::kInternal, "{}: {}", what, reason ? reason : "no reason given");
}

Memory reader(std::string_view text) { return Memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }
std::string written(BIO* memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  return {data, static_cast<std::size_t>(size)};
}
template<class Write>
Result<std::string> pem(Write write) {
  const Memory memory(BIO_new(BIO_s_mem()));
  if (!memory || write(memory.get()) != 1) return broken("cannot write PEM");
  return written(memory.get());
}

std::unexpected<Error> unreadable(std::string_view what) {
  ERR_clear_error();
  return fail(ErrorCode::kInvalidRequest, "not {} in PEM", what);
}
Result<Key> parse_key(std::string_view text) {
  const Memory memory = text.size() > kTextMax ? nullptr : reader(text);
  const auto none = [](char*, int, int, void*) { return 0; };  // no passphrase is asked for
  Key key(memory ? PEM_read_bio_PrivateKey(memory.get(), nullptr, none, nullptr) : nullptr);
  if (!key) return unreadable("a private key");
  return key;
}
Result<std::vector<Certificate>> parse_chain(std::string_view text) {
  const Memory memory = text.size() > kTextMax ? nullptr : reader(text);
  std::vector<Certificate> all;
  while (memory)
    if (Certificate next(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr)); next)
      all.push_back(std::move(next));
    else
      break;
  ERR_clear_error();
  if (all.empty()) return unreadable("a certificate");
  return all;
}

std::string line_of(const X509_NAME* name) {
  const Memory memory(BIO_new(BIO_s_mem()));
  if (!memory || X509_NAME_print_ex(memory.get(), name, 0, XN_FLAG_ONELINE & ~XN_FLAG_SPC_EQ) < 0) return {};
  return written(memory.get());
}
CertificateTime time_of(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return CertificateTime(std::chrono::seconds(timegm(&parts)));
}
std::string text_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<std::size_t>(ASN1_STRING_length(text))};
}
std::string address_of(const ASN1_STRING* bytes) {
  char text[INET6_ADDRSTRLEN] = {};
  const int family = ASN1_STRING_length(bytes) == 4 ? AF_INET : AF_INET6;
  return inet_ntop(family, ASN1_STRING_get0_data(bytes), text, sizeof text) ? text : "";
}

std::optional<DaemonName> parse_daemon(std::string_view uri) {
  for (const auto kind : {DaemonKind::kQueen, DaemonKind::kHive})
    if (const std::string prefix = DaemonName{kind, ""}.uri(); uri.starts_with(prefix) && uri.size() > prefix.size())
      return DaemonName{kind, std::string(uri.substr(prefix.size()))};
  return std::nullopt;
}

Result<CertificateFacts> facts_of(X509* c) {
  CertificateFacts f;
  f.subject = line_of(X509_get_subject_name(c)), f.issuer = line_of(X509_get_issuer_name(c));
  f.not_before = time_of(X509_get0_notBefore(c)), f.not_after = time_of(X509_get0_notAfter(c));
  f.authority = X509_check_ca(c) == 1;
  const std::unique_ptr<BIGNUM, Freed<BN_free>> serial(ASN1_INTEGER_to_BN(X509_get0_serialNumber(c), nullptr));
  const std::unique_ptr<char, Freed<free_text>> hex(serial ? BN_bn2hex(serial.get()) : nullptr);
  unsigned char* der = nullptr;
  const int size = i2d_X509(c, &der);
  if (!hex || size <= 0) return broken("cannot read a certificate");
  f.serial = hex.get();
  f.fingerprint = sha256_hex({reinterpret_cast<const char*>(der), static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  const Names names(static_cast<STACK_OF(GENERAL_NAME)*>(X509_get_ext_d2i(c, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) f.hosts.push_back(text_of(name->d.dNSName));
    if (name->type == GEN_IPADD) f.hosts.push_back(address_of(name->d.iPAddress));
    if (name->type == GEN_URI)
      if (auto daemon = parse_daemon(text_of(name->d.uniformResourceIdentifier))) f.daemon = *std::move(daemon);
  }
  return f;
}

bool set_time(ASN1_TIME* to, CertificateTime time) {
  return ASN1_TIME_set(to, static_cast<time_t>(time.time_since_epoch().count())) != nullptr;
}
bool set_serial(X509* c) {
  const std::unique_ptr<BIGNUM, Freed<BN_free>> number(BN_new());
  return number && BN_rand(number.get(), 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(c)) != nullptr;
}
bool set_name(X509* c, const std::string& name) {
  return X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(name.data()), static_cast<int>(name.size()),
                                    -1, 0) == 1;
}

/// A certificate that waits for its extensions and signature.
struct Draft {
  Certificate certificate;
  const X509* issuer = nullptr;
  bool sound = false;
  void extend(int what, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, const_cast<X509*>(issuer), certificate.get(), nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>> extension(
        X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str()));
    sound = sound && extension && X509_add_ext(certificate.get(), extension.get(), -1) == 1;
  }
};
struct Validity {
  CertificateTime from, until;
};
/// `issuer` null: it will sign itself.
Draft draft(const std::string& name, EVP_PKEY* key, const X509* issuer, const Validity& validity) {
  Draft d{Certificate(X509_new()), issuer, true};
  X509* c = d.certificate.get();
  if (!issuer) d.issuer = c;
  // An authority's name may be in UTF-8; X509_NAME of a null issuer is the subject itself, set before.
  d.sound = c && X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) && set_name(c, name) &&
            X509_set_issuer_name(c, X509_get_subject_name(d.issuer)) == 1 &&
            set_time(X509_getm_notBefore(c), validity.from) && set_time(X509_getm_notAfter(c), validity.until) &&
            X509_set_pubkey(c, key) == 1;
  return d;
}
Result<std::string> signed_by(Draft d, EVP_PKEY* key) {
  d.extend(NID_subject_key_identifier, "hash");
  d.extend(NID_authority_key_identifier, "keyid:always");
  if (!d.sound || X509_sign(d.certificate.get(), key, EVP_sha256()) == 0) return broken("cannot sign a certificate");
  return pem([&](BIO* to) { return PEM_write_bio_X509(to, d.certificate.get()); });
}

Result<Signer> make_authority(const Signer* issuer, const AuthoritySubject& subject, const Validity& validity) {
  Signer made;
  LLORCH_TRY(made.private_key, make_private_key());
  LLORCH_TRY(const Key key, parse_key(made.private_key));
  Key issuer_key;
  std::vector<Certificate> issuer_chain;
  if (issuer) {
    LLORCH_TRY(issuer_key, parse_key(issuer->private_key));
    LLORCH_TRY(issuer_chain, parse_chain(issuer->certificate));
  }
  Draft d = draft(subject.name, key.get(), issuer ? issuer_chain.front().get() : nullptr, validity);
  d.extend(NID_basic_constraints, fmt::format("critical,CA:TRUE,pathlen:{}", subject.path_length));
  d.extend(NID_key_usage, "critical,keyCertSign,cRLSign");
  LLORCH_TRY(made.certificate, signed_by(std::move(d), issuer ? issuer_key.get() : key.get()));
  return made;
}

/// "DNS:queen.lan" or "IP:10.0.0.1". Nothing may be slipped in behind a comma.
Result<std::string> alternative_name(const std::string& host) {
  in6_addr unused{};
  if (inet_pton(AF_INET, host.c_str(), &unused) == 1 || inet_pton(AF_INET6, host.c_str(), &unused) == 1)
    return "IP:" + host;
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  if (host.empty() || host.size() > 253 || !std::ranges::all_of(host, good))
    return fail(ErrorCode::kInvalidRequest, "no certificate can be made for the host '{}'", host.substr(0, 64));
  return "DNS:" + host;
}

std::string words_of(int problem) {
  switch (problem) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return "has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID: return "is not valid yet: one of the clocks is wrong";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return "is signed by itself alone";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: return "is of another authority than this colony's";
    default: return fmt::format("is refused: {}", X509_verify_cert_error_string(problem));
  }
}

}  // namespace

std::string DaemonName::uri() const { return (kind == DaemonKind::kQueen ? "llorch:queen:" : "llorch:hive:") + id; }

std::string DaemonName::tls_name() const {
  if (kind == DaemonKind::kQueen) return fmt::format("queen{}", kColonyDomain);
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  const bool fits = id.size() <= kLabelMax && std::ranges::all_of(id, plain) && !id.starts_with("x-");
  return fmt::format("{}.hive{}", fits ? id : "x-" + sha256_hex(id).substr(0, 40), kColonyDomain);
}

Result<std::string> make_private_key() {
  const Key key(EVP_EC_gen("P-256"));
  if (!key) return broken("cannot make a key");
  return pem(
      [&](BIO* to) { return PEM_write_bio_PKCS8PrivateKey(to, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
}

Result<std::string> make_certificate_request(const std::string& private_key) {
  LLORCH_TRY(const Key key, parse_key(private_key));
  const Request request(X509_REQ_new());
  if (!request || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_pubkey(request.get(), key.get()) != 1 || X509_REQ_sign(request.get(), key.get(), EVP_sha256()) == 0)
    return broken("cannot make a certificate request");
  return pem([&](BIO* to) { return PEM_write_bio_X509_REQ(to, request.get()); });
}

Result<CertificateFacts> read_certificate(std::string_view text) {
  LLORCH_TRY(const auto chain, parse_chain(text));
  return facts_of(chain.front().get());
}

Result<CertificateFacts> read_certificate_der(std::string_view bytes) {
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  const Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(bytes.size())));
  ERR_clear_error();
  if (!certificate) return fail(ErrorCode::kInvalidRequest, "not a certificate in DER");
  return facts_of(certificate.get());
}

Status check_pair(std::string_view certificate, std::string_view private_key) {
  LLORCH_TRY(const auto chain, parse_chain(certificate));
  LLORCH_TRY(const Key key, parse_key(private_key));
  const bool same = X509_check_private_key(chain.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (!same) return fail(ErrorCode::kInvalidRequest, "the private key does not belong to the certificate");
  return {};
}

Result<Signer> make_root(const AuthoritySubject& subject, CertificateTime from, CertificateTime until) {
  return make_authority(nullptr, subject, {from, until});
}
Result<Signer> make_intermediate(const Signer& issuer, const AuthoritySubject& subject, CertificateTime from,
                                 CertificateTime until) {
  return make_authority(&issuer, subject, {from, until});
}

namespace {

/// Keys of other kinds, or curves, can be made to cost much when what they signed is verified.
bool is_p256(const EVP_PKEY* key) {
  std::array<char, 32> group{};
  std::size_t size = 0;
  return EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) == 1 &&
         std::string_view(group.data(), size) == "prime256v1";
}

/// A request whose key has signed it.
Result<Request> parse_request(std::string_view text) {
  const Memory memory = text.size() > kTextMax ? nullptr : reader(text);
  Request request(memory ? PEM_read_bio_X509_REQ(memory.get(), nullptr, nullptr, nullptr) : nullptr);
  if (!request) return unreadable("a certificate request");
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (!key || !is_p256(key)) {
    ERR_clear_error();
    return fail(ErrorCode::kInvalidRequest, "a certificate is made for a key on the curve P-256 alone");
  }
  if (X509_REQ_verify(request.get(), key) != 1) {
    ERR_clear_error();
    return fail(ErrorCode::kInvalidRequest, "the certificate request is not signed by its own key");
  }
  return request;
}

}  // namespace

Status check_certificate_request(std::string_view text) {
  const auto request = parse_request(text);
  return request ? Status() : std::unexpected(request.error());
}

bool check_issuer(const std::string& issuer_text, const std::string& root_text) {
  const auto issuer = parse_chain(issuer_text), root = parse_chain(root_text);
  if (!issuer || !root || issuer->empty() || root->empty()) return false;
  const bool good = X509_verify(issuer->front().get(), X509_get0_pubkey(root->front().get())) == 1;
  ERR_clear_error();
  return good;
}

Result<std::string> sign_daemon(const Signer& issuer, std::string_view request_text, const DaemonName& daemon,
                                const std::vector<std::string>& hosts, CertificateTime from, CertificateTime until) {
  LLORCH_TRY(const Request request, parse_request(request_text));
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (check_identifier(daemon.id, 64))
    return fail(ErrorCode::kInvalidRequest, "no certificate can be made for this id");
  std::string names = "URI:" + daemon.uri();
  for (const std::string& host : hosts) {
    LLORCH_TRY(const std::string name, alternative_name(host));
    names += "," + name;
  }
  LLORCH_TRY(const Key issuer_key, parse_key(issuer.private_key));
  LLORCH_TRY(const auto issuer_chain, parse_chain(issuer.certificate));
  Draft d = draft(daemon.uri(), key, issuer_chain.front().get(), {from, until});
  d.extend(NID_basic_constraints, "critical,CA:FALSE");
  d.extend(NID_key_usage, "critical,digitalSignature");
  d.extend(NID_ext_key_usage, "serverAuth,clientAuth");
  d.extend(NID_subject_alt_name, names);
  return signed_by(std::move(d), issuer_key.get());
}

Result<CertificateFacts> check_chain(std::string_view chain_text, std::string_view root_text, CertificateTime now) {
  LLORCH_TRY(const auto chain, parse_chain(chain_text));
  LLORCH_TRY(const auto roots, parse_chain(root_text));
  const std::unique_ptr<X509_STORE, Freed<X509_STORE_free>> store(X509_STORE_new());
  const std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>> context(X509_STORE_CTX_new());
  struct Free {
    void operator()(STACK_OF(X509) * s) const { sk_X509_free(s); }
  };
  const std::unique_ptr<STACK_OF(X509), Free> between(sk_X509_new_null());
  if (!store || !context || !between) return broken("cannot check a certificate");
  for (const auto& root : roots) X509_STORE_add_cert(store.get(), root.get());
  for (std::size_t i = 1; i < chain.size(); ++i) sk_X509_push(between.get(), chain[i].get());
  if (X509_STORE_CTX_init(context.get(), store.get(), chain.front().get(), between.get()) != 1)
    return broken("cannot check a certificate");
  X509_STORE_CTX_set_time(context.get(), 0, static_cast<time_t>(now.time_since_epoch().count()));
  const int good = X509_verify_cert(context.get());
  const int problem = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  if (good != 1) return fail(ErrorCode::kForbidden, "the certificate {}", words_of(problem));
  LLORCH_TRY(CertificateFacts facts, facts_of(chain.front().get()));
  if (facts.daemon.id.empty()) return fail(ErrorCode::kForbidden, "the certificate is no daemon's");
  return facts;
}

}  // namespace llorch::security
