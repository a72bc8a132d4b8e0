#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <vector>

#include "net/tls_state.h"

namespace llorch::net {
namespace {

struct Free {
  void operator()(BIO* p) const { BIO_free_all(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
};
using Memory = std::unique_ptr<BIO, Free>;
using Certificate = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Store = std::unique_ptr<X509_STORE, Free>;

constexpr std::size_t kFingerprintBytes = 32;

std::vector<Certificate> parse_certificates(std::string_view text) {
  const Memory memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::vector<Certificate> all;
  while (memory) {
    Certificate next(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr));
    if (!next) break;
    all.push_back(std::move(next));
  }
  ERR_clear_error();
  return all;
}

struct Pair {
  std::vector<Certificate> chain;
  Key key;
};
Result<Pair> parse_pair(const TlsPair& pair, std::string_view whose) {
  Pair p;
  if (pair.empty()) return p;
  p.chain = parse_certificates(pair.chain);
  if (p.chain.empty()) return fail(ErrorCode::kInvalidRequest, "{}: there is no certificate in it", whose);
  const Memory memory(BIO_new_mem_buf(pair.private_key.data(), static_cast<int>(pair.private_key.size())));
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  p.key.reset(memory ? PEM_read_bio_PrivateKey(memory.get(), nullptr, no_passphrase, nullptr) : nullptr);
  ERR_clear_error();
  if (!p.key) return fail(ErrorCode::kInvalidRequest, "{}: there is no private key (without a passphrase)", whose);
  const bool same = X509_check_private_key(p.chain.front().get(), p.key.get()) == 1;
  ERR_clear_error();
  if (!same) return fail(ErrorCode::kInvalidRequest, "{}: the key is another certificate's", whose);
  return p;
}

Result<Store> parse_authorities(std::string_view text) {
  Store store(X509_STORE_new());
  const auto all = parse_certificates(text);
  if (!store || all.empty()) return fail(ErrorCode::kInvalidRequest, "authorities: there is no certificate in it");
  for (const auto& one : all) X509_STORE_add_cert(store.get(), one.get());
  return store;
}

bool show(const Pair& pair, SSL_CTX* context) {
  if (pair.chain.empty()) return true;
  bool good = SSL_CTX_use_certificate(context, pair.chain.front().get()) == 1 &&
              SSL_CTX_use_PrivateKey(context, pair.key.get()) == 1;
  for (std::size_t i = 1; i < pair.chain.size(); ++i)
    good = good && SSL_CTX_add1_chain_cert(context, pair.chain[i].get()) == 1;
  return good;
}

/// The name that a client asks for; empty: none. Source: RFC 6066, section 3.
std::string_view asked_name(SSL* connection) {
  const unsigned char* at = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(connection, TLSEXT_TYPE_server_name, &at, &size) != 1 || size < 5) return {};
  const std::size_t length = static_cast<std::size_t>(at[3]) << 8 | at[4];
  if (at[2] != TLSEXT_NAMETYPE_host_name || length > size - 5) return {};
  return {reinterpret_cast<const char*>(at + 5), length};
}

/// Before anything is agreed upon: who asks for a name of the colony gets the colony's side.
int choose_side(SSL* connection, int*, void* state) {
  auto& s = *static_cast<TlsServer::State*>(state);
  if (!s.has_colony || !is_colony_name(asked_name(connection))) return SSL_CLIENT_HELLO_SUCCESS;
  SSL_CTX* colony = s.colony.native_handle();
  const bool good = SSL_set_SSL_CTX(connection, colony) && SSL_set_min_proto_version(connection, TLS1_3_VERSION) == 1 &&
                    SSL_set1_verify_cert_store(connection, SSL_CTX_get_cert_store(colony)) == 1;
  SSL_set_verify(connection, SSL_VERIFY_PEER | (s.callers_must_show ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
  return good ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
}

bool prepare(SSL_CTX* context, int lowest) {
  std::array<unsigned char, 16> id;  // NOLINT: sessions are resumed by this process alone
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  return RAND_bytes(id.data(), static_cast<int>(id.size())) == 1 &&
         SSL_CTX_set_session_id_context(context, id.data(), static_cast<unsigned>(id.size())) == 1 &&
         SSL_CTX_set_min_proto_version(context, lowest) == 1;
}

std::string lower_hex(const unsigned char* bytes, std::size_t size) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += kDigits[bytes[i] >> 4], text += kDigits[bytes[i] & 15];
  return text;
}

std::string fingerprint_of(const X509* certificate) {
  std::array<unsigned char, kFingerprintBytes> digest;  // NOLINT
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) return {};
  return lower_hex(digest.data(), size);
}

}  // namespace

struct TlsClient::State {
  Pair own;
  Store authorities;  // null: the system's
  std::string root_fingerprint;
  std::function<bool(const std::string&, const std::string&)> accepts;
};

namespace {

/// What a connection of ours is checked by; belongs to its context.
struct Expectation {
  std::shared_ptr<const TlsClient> client;
  std::string name;
};

void forget(void*, void* expectation, CRYPTO_EX_DATA*, int, long, void*) {
  delete static_cast<Expectation*>(expectation);
}
int expectation_index() {
  static const int kIndex = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, &forget);
  return kIndex;
}

/// Believes the one root whose fingerprint was told, when the other side shows it; then checks as ever.
int verify_pinned(X509_STORE_CTX* context, const std::string& wanted) {
  STACK_OF(X509)* shown = X509_STORE_CTX_get0_untrusted(context);
  STACK_OF(X509)* believed = sk_X509_new_null();
  for (int i = 0; believed && i < sk_X509_num(shown); ++i)
    if (X509* one = sk_X509_value(shown, i); fingerprint_of(one) == wanted) sk_X509_push(believed, one);
  X509_STORE_CTX_set0_trusted_stack(context, believed);
  const int good = believed ? X509_verify_cert(context) : 0;
  X509_STORE_CTX_set0_trusted_stack(context, nullptr);
  sk_X509_free(believed);
  return good;
}

std::string der_of(const X509* certificate) {
  unsigned char* der = nullptr;
  const int size = certificate ? i2d_X509(certificate, &der) : 0;
  if (size <= 0) return {};
  std::string bytes(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return bytes;
}

int verify(X509_STORE_CTX* context, void* expectation) {
  const auto& e = *static_cast<const Expectation*>(expectation);
  const TlsClient::State& s = e.client->state();
  try {
    const int good =
        s.root_fingerprint.empty() ? X509_verify_cert(context) : verify_pinned(context, s.root_fingerprint);
    if (good <= 0 || !s.accepts || s.accepts(der_of(X509_STORE_CTX_get0_cert(context)), e.name)) return good;
    X509_STORE_CTX_set_error(context, X509_V_ERR_APPLICATION_VERIFICATION);
  } catch (const std::exception&) {  // of memory; nothing may go through OpenSSL
    X509_STORE_CTX_set_error(context, X509_V_ERR_OUT_OF_MEM);
  }
  return 0;
}

}  // namespace

bool is_colony_name(std::string_view host) {
  return host.size() > kColonyDomain.size() && host.ends_with(kColonyDomain);
}

TlsServer::TlsServer() : state_(std::make_unique<State>()) {}
TlsServer::~TlsServer() = default;

Result<std::shared_ptr<TlsServer>> TlsServer::make(const Options& o) {
  std::shared_ptr<TlsServer> server(new TlsServer);
  State& s = *server->state_;
  if (o.people.empty() && o.colony.empty()) return fail(ErrorCode::kInvalidRequest, "there is no certificate to show");
  LLORCH_TRY(const Pair people, parse_pair(o.people, "the certificate for people"));
  LLORCH_TRY(const Pair colony, parse_pair(o.colony, "the colony's certificate"));
  SSL_CTX *for_people = s.people.native_handle(), *for_colony = s.colony.native_handle();
  bool good = prepare(for_people, TLS1_2_VERSION) && prepare(for_colony, TLS1_3_VERSION) &&
              show(o.people.empty() ? colony : people, for_people) && show(colony, for_colony);
  s.has_colony = !o.colony.empty(), s.callers_must_show = o.callers_must_show;
  if (s.has_colony && !o.authorities.empty()) {
    LLORCH_TRY(Store store, parse_authorities(o.authorities));
    SSL_CTX_set_cert_store(for_colony, store.release());
  }
  SSL_CTX_set_client_hello_cb(for_people, &choose_side, &s);
  ERR_clear_error();
  if (!good) return fail(ErrorCode::kInvalidRequest, "OpenSSL refuses the certificate");
  return server;
}

TlsClient::TlsClient() : state_(std::make_unique<State>()) {}
TlsClient::~TlsClient() = default;

Result<std::shared_ptr<const TlsClient>> TlsClient::make(const Options& o) {
  std::shared_ptr<TlsClient> client(new TlsClient);
  State& s = *client->state_;
  LLORCH_TRY(s.own, parse_pair(o.own, "the own certificate"));
  if (!o.authorities.empty()) {
    LLORCH_TRY(s.authorities, parse_authorities(o.authorities));
  }
  s.root_fingerprint = o.root_fingerprint, s.accepts = o.accepts;
  std::ranges::transform(s.root_fingerprint, s.root_fingerprint.begin(),
                         [](unsigned char c) { return std::tolower(c); });
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (!s.root_fingerprint.empty() &&
      (s.root_fingerprint.size() != 2 * kFingerprintBytes || !std::ranges::all_of(s.root_fingerprint, hex)))
    return fail(ErrorCode::kInvalidRequest, "a fingerprint has 64 hexadecimal digits");
  return client;
}

namespace {

std::atomic<X509_STORE*> g_system;  // never freed: connections of any thread use it

}  // namespace

void read_system_authorities() {
  static std::once_flag once;
  std::call_once(once, [] {
    Store store(X509_STORE_new());
    if (store) X509_STORE_set_default_paths(store.get());
    ERR_clear_error();
    g_system = store.release();
  });
}
bool system_authorities_were_read() { return g_system.load() != nullptr; }

bool has_own_authorities(const TlsClient* client) {
  return client && (client->state().authorities || !client->state().root_fingerprint.empty());
}

bool apply(const std::shared_ptr<const TlsClient>& client, const std::string& name, SSL_CTX* context) {
  if (!has_own_authorities(client.get())) {
    read_system_authorities();
    if (!g_system) return false;
    SSL_CTX_set1_cert_store(context, g_system);
  }
  if (!client) return true;
  const TlsClient::State& s = client->state();
  if (s.authorities) SSL_CTX_set1_cert_store(context, s.authorities.get());
  auto expectation = std::make_unique<Expectation>(Expectation{client, name});
  if (SSL_CTX_set_ex_data(context, expectation_index(), expectation.get()) != 1) return false;
  SSL_CTX_set_cert_verify_callback(context, &verify, expectation.release());
  const bool good = show(s.own, context);
  ERR_clear_error();
  return good;
}

std::string peer_certificate(const SSL* connection) {
  const Certificate shown(SSL_get1_peer_certificate(connection));
  return der_of(shown.get());
}

}  // namespace llorch::net
