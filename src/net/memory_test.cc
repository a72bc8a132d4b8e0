// A server whose thread finds no memory: each allocation in turn fails, alone or with all that follow. Whoever has
// asked gets a whole answer or the end of the connection, soon; the server takes the next request.
#include <gtest/gtest.h>

#include <csignal>
#include <new>

#include "base/test_memory.h"
#include "base/test_own_new.h"
#include "net/test_server.h"

namespace llorch::net {
namespace {

using Which = OthersWithoutMemory::Which;

std::string exchange(Server& server, const std::string& request, bool& late) {
  Raw c(server.port);
  (void)c.send(request);
  std::string all = c.read();
  late = c.late();
  return all;
}

/// Of this exchange, the n-th allocation fails; false: there was none. `n` goes from 0 on.
bool fails_in_order(Server& server, const std::string& request, const std::string& whole, std::int64_t n, Which which) {
  std::int64_t failed = 0;
  {
    const OthersWithoutMemory none(n, which);
    bool late = false;
    const std::string all = exchange(server, request, late);
    EXPECT_FALSE(late) << "nobody ended the connection when allocation " << n
                       << " had failed; so far: " << all.substr(0, 200);
    EXPECT_TRUE(whole.starts_with(all)) << "allocation " << n << " had failed: " << all.substr(0, 200);
    failed = none.failed();
    EXPECT_TRUE(failed > 0 || all == whole);
  }
  Raw next(server.port);
  EXPECT_TRUE(next.send(post(std::string(kKey) + "Content-Length: 2\r\nConnection: close\r\n", "ab")));
  EXPECT_TRUE(next.read().ends_with("\r\n\r\n2")) << "the next request, after allocation " << n << " had failed";
  return failed > 0;
}

/// `end`: of the whole answer.
void fail_each(const std::string& request, std::string_view end) {
  for (const Which which : {Which::kOne, Which::kAllFromThere}) {
    Server server;
    server.faults_expected = true;
    bool late = false;
    const std::string whole = exchange(server, request, late);
    EXPECT_TRUE(whole.ends_with(end) && !late) << whole.substr(0, 200);
    std::int64_t n = 0;
    while (n < 2000 && !testing::Test::HasFailure() && fails_in_order(server, request, whole, n, which)) ++n;
    EXPECT_GE(n, 10) << "so few allocations in one exchange?";
    EXPECT_LT(n, 2000);
    EXPECT_TRUE(server.all_leave());
    server.on_loop([](HttpServer& s) { EXPECT_EQ(s.bodies_bytes(), 0u); });
  }
}

const std::string kLast = std::string(kKey) + "Connection: close\r\n";

TEST(Memory, a_short_request_ends_whichever_allocation_fails) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  fail_each(post(kLast + "Content-Length: 3\r\n", "abc"), "\r\n\r\n3");
}

TEST(Memory, two_requests_of_a_connection_and_a_body_in_chunks_end_whichever_allocation_fails) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  const std::string chunks = "a\r\n0123456789\r\n0\r\n\r\n",
                    first = std::string(kKey) + "Transfer-Encoding: chunked\r\n";
  fail_each(post(first, chunks) + post(kLast + "Content-Length: 0\r\n", ""), "\r\n\r\n0");
}

TEST(Memory, a_long_answer_ends_whichever_allocation_fails) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  fail_each(post(kLast + "Content-Length: 0\r\n", "", "/long"), "yyyy");
}

TEST(Memory, a_stream_ends_whichever_allocation_fails) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  fail_each(post(kLast + "Content-Length: 0\r\n", "", "/later"), "bb\r\n0\r\n\r\n");
}

TEST(Memory, a_refused_body_ends_whichever_allocation_fails) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  fail_each(post(std::string(kKey) + "Content-Length: 8000000\r\n", std::string(100'000, 'x')),
            "the body exceeds 1000 bytes");
}

TEST(Memory, a_signal_is_told_after_one_that_found_none) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  EventLoop loop;
  int told = 0, faults = 0;
  loop.on_fault = [&](const char*) { out_of_memory = false, ++faults, raise(SIGTERM); };
  loop.on_signals([&](int count) {
    told = count;
    if (count == 2) return loop.stop();
    throw std::bad_alloc();
  });
  const auto limit = loop.after(std::chrono::seconds(5), [&] { loop.stop(); });
  loop.post([] { raise(SIGTERM), out_of_memory = true; });
  loop.run();
  out_of_memory = false;
  EXPECT_EQ(told, 2);
  EXPECT_EQ(faults, 1);
}

}  // namespace
}  // namespace llorch::net
