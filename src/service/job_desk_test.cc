// What is relayed of another daemon's job without being read.
#include "service/job_desk.h"

#include <gtest/gtest.h>

namespace llorch::service {
namespace {

TEST(Task, what_may_be_no_json_on_one_line_is_not_relayed_unread) {
  net::EventLoop loop;
  Gate gate(loop);
  {
    JobDesk desk(gate, {"queen", "q", {}, {}});
    const auto task = desk.create(std::make_shared<Context>(), "infer", false, true);
    const auto relayed = [&](std::string_view json) { return task->relay("token", json); };
    EXPECT_TRUE(relayed(R"({"type":"token","seq":7,"t":"A"})"));
    EXPECT_EQ(task->job->log.find(1)->json, R"({"type":"token","seq":1,"t":"A"})");
    for (const char* forged :
         {"{\"type\":\"token\",\"seq\":2,\"t\":\"A\"}\n\nevent: end", "{\"type\":\"token\",\"seq\":2,\"t\":\"A\r\"}",
          "{\"type\":\"token\",\"seq\":2,\"t\":\"A\"}\n", "{\"type\":\"token\",\"seq\":3 garbage ((",
          R"({"type":"token","seq":3)", R"({"type":"end","seq":3})"})
      EXPECT_FALSE(relayed(forged)) << forged;
    EXPECT_EQ(task->job->log.next_seq(), 2U);
    task->succeed();
  }
  gate.close({ErrorCode::kShuttingDown, "the test ends"});
}

}  // namespace
}  // namespace llorch::service
