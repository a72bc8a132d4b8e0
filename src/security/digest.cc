#include "security/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <algorithm>
#include <new>

#include "base/ids.h"
#include "base/thread_slice.h"

namespace llorch::security {

namespace {

/// OpenSSL fails at these for want of memory alone, and a sum that was not computed must be no one's.
void must(bool done) {
  if (!done) throw std::bad_alloc();
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};
Sha256::Sha256() : state_(std::make_unique<State>()) {
  must(state_->context && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
void Sha256::update(std::string_view bytes) {
  constexpr std::size_t kPortion = 65'536;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(kPortion, bytes.size())), give_way())
    must(EVP_DigestUpdate(state_->context, bytes.data(), std::min(kPortion, bytes.size())) == 1);
}
std::string Sha256::finish() {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  must(EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(out.data()), nullptr) == 1);
  return out;
}

std::string sha256(std::string_view bytes) {
  Sha256 sum;
  sum.update(bytes);
  return sum.finish();
}
std::string sha256_hex(std::string_view bytes) { return to_hex(sha256(bytes)); }
std::string hmac_sha256(std::string_view key, std::string_view bytes) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  unsigned int size = 0;
  must(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
            reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
            reinterpret_cast<unsigned char*>(out.data()), &size));
  return out;
}
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace llorch::security
