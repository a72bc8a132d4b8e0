// What a worker tells of its life, from start to end (O-05), and what of a request stands in it.
#include <gtest/gtest.h>

#include "service/test_log.h"
#include "worker/test_served.h"
#include "worker/test_socket.h"

namespace llorch::worker {
namespace {

TEST(Narration, a_worker_tells_its_life_in_order_and_nothing_of_the_prompt) {
  const service::CapturedLog log("worker");
  {
    Served served(test_options());
    served.wait_ready();
    const std::string answer =
        post(served.port(), "/v1/completions",
             R"({"model":"builtin:haiku","prompt":"xyzzy-canary","max_tokens":3,"ignore_eos":true})");
    ASSERT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
    EXPECT_TRUE(post(served.port(), "/v1/shutdown", "{}").starts_with("HTTP/1.1 202"));
  }
  log.expect_in_order({"startup", "model_load_start", "model_load_progress", "model_load_complete", "ready",
                       "execute_start", "execute_end", "shutdown"});
  log.expect_never("xyzzy");
  const auto ended = log.of("execute_end");
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].at("tokens_out"), 3);
  EXPECT_GT(ended[0].at("decode_time_ms").as_double(), 0);
  EXPECT_EQ(ended[0].at("correlation_id").as_string(), "posted-1");
  EXPECT_EQ(log.of("model_load_progress").back().at("percent"), 100);
}

}  // namespace
}  // namespace llorch::worker
