#include "security/digest.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/ids.h"

namespace llorch::security {

std::string sha256(std::string_view bytes) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(out.data()));
  return out;
}
std::string sha256_hex(std::string_view bytes) { return to_hex(sha256(bytes)); }
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace llorch::security
