// A reader that takes nothing holds its own generations up, and loses nothing (J-16).
#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <regex>

#include "worker/test_served.h"
#include "worker/test_socket.h"

namespace llorch::worker {
namespace {

int tokens_made(int port) {
  const std::string page = get_until(port, "/metrics", [](const std::string&) { return false; });
  std::smatch m;
  return std::regex_search(page, m, std::regex("\nllorch_worker_tokens_generated_total (\\d+)")) ? std::stoi(m[1]) : 0;
}

TEST(SlowReader, pauses_what_it_asked_for_and_gets_all_of_it_later) {
  constexpr int kChoices = 8, kTokens = 200;
  ServeOptions options = test_options();
  options.jobs.log.events_max = 64;
  Served served(options);
  served.wait_ready();
  const int fd = connect_to(served.port(), 4096);
  const std::string body = fmt::format(
      R"({{"messages":[{{"role":"user","content":"x"}}],"model":"builtin:haiku","n":{},"max_tokens":{},"ignore_eos":true,"stream":true,"logprobs":true,"top_logprobs":20}})",
      kChoices, kTokens);
  const std::string text = fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "{}\r\n\r\n{}",
      body.size(), body);
  ASSERT_EQ(send(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));

  // Nothing is read: after what sockets and the log hold, no further token is made.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  int made = 0;
  for (int same = 0; same < 20 && std::chrono::steady_clock::now() < until; (void)poll(nullptr, 0, 20)) {
    const int now = tokens_made(served.port());
    same = now > 0 && now == made ? same + 1 : 0;
    made = now;
  }
  EXPECT_GT(made, 0);
  EXPECT_LT(made, kChoices * kTokens) << "the engine ran on although nobody read";

  std::string all;
  char part[65536];
  for (ssize_t n; !all.contains("data: [DONE]") && (n = recv(fd, part, sizeof part, 0)) > 0;)
    all.append(part, static_cast<std::size_t>(n));
  close(fd);
  EXPECT_TRUE(all.contains("data: [DONE]")) << all.substr(all.size() > 300 ? all.size() - 300 : 0);
  int tokens = 0;
  static constexpr std::string_view kMark = R"("logprobs":{"content":[)";
  for (std::size_t at = 0; (at = all.find(kMark, at)) != std::string::npos; at += kMark.size()) ++tokens;
  EXPECT_EQ(tokens, kChoices * kTokens);
  EXPECT_EQ(tokens_made(served.port()), kChoices * kTokens);
}

}  // namespace
}  // namespace llorch::worker
