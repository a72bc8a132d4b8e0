// Sums under an OpenSSL that has no memory left: its allocator is the test's, for the whole program.
#include "security/digest.h"

#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include <cstdlib>
#include <new>

#include "base/ids.h"

namespace llorch::security {
namespace {

bool exhausted = false;
int left = 0;  // allocations that still succeed

bool may() { return !exhausted || left-- > 0; }
const int installed = CRYPTO_set_mem_functions(
    [](std::size_t n, const char*, int) { return may() ? std::malloc(n) : nullptr; },
    [](void* p, std::size_t n, const char*, int) { return may() ? std::realloc(p, n) : nullptr; },
    [](void* p, const char*, int) { std::free(p); });

TEST(Digest, known_answers) {  // FIPS 180-2, appendix B
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_TRUE(equal_in_constant_time("ab", "ab"));
  EXPECT_FALSE(equal_in_constant_time("ab", "ac"));
  EXPECT_FALSE(equal_in_constant_time("ab", "abc"));
}

TEST(Digest, without_memory_there_is_no_sum) {
  ASSERT_EQ(installed, 1) << "OpenSSL had allocated before";
  const std::string expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";  // FIPS 180-2
  EXPECT_EQ(sha256_hex("abc"), expected);
  const std::string mac = hmac_sha256("key", "abc");
  int failed = 0, failed_macs = 0;
  for (int n = 0; n < 20; ++n) {
    exhausted = true, left = n;
    std::string sum, other;
    try {
      sum = sha256("abc");
    } catch (const std::bad_alloc&) {
      ++failed;
    }
    left = n;
    try {
      other = hmac_sha256("key", "abc");
    } catch (const std::bad_alloc&) {
      ++failed_macs;
    }
    exhausted = false;
    EXPECT_TRUE(sum.empty() || to_hex(sum) == expected) << n;
    EXPECT_TRUE(other.empty() || other == mac) << n;
  }
  EXPECT_GT(failed, 0);
  EXPECT_LT(failed, 20);
  EXPECT_GT(failed_macs, 0);
}

}  // namespace
}  // namespace llorch::security
