// While a model is being loaded, its progress is streamed, and nothing else is served (W-10, W-11).
#include <gtest/gtest.h>

#include <regex>
#include <semaphore>

#include "test_data.h"
#include "worker/test_served.h"
#include "worker/test_socket.h"

namespace llorch::worker {
namespace {

TEST(Loading, progress_is_streamed_layer_by_layer_while_the_loader_is_held) {
  std::counting_semaphore<> tensors{0};  // the loader takes one for each tensor
  ServeOptions options = test_options();
  options.engine.model.progress = [&](const LoadProgress&) { tensors.acquire(); };
  Served served(options);
  const int port = served.port();
  const auto everything = [](const std::string&) { return false; };

  EXPECT_TRUE(get_until(port, "/health", everything).starts_with("HTTP/1.1 503"));
  bool released = false;
  const std::string stream = get_until(port, "/v1/loading/progress", [&](const std::string& so_far) {
    if (!released) {
      released = so_far.contains(R"("layers_loaded":1,)");
      EXPECT_FALSE(so_far.contains(R"("stage":"ready")")) << "ready while its loader is held";
      tensors.release(released ? 1'000'000 : 1);
    }
    return false;
  });
  served.wait_ready();
  EXPECT_TRUE(released) << stream;
  static const std::regex kLine(
      R"re("stage":"loading_to_ram","layers_loaded":(\d+),"layers_total":(\d+).*"vram_mb":0)re");
  int last = -1, total = 0, events = 0;
  for (std::sregex_iterator i(stream.begin(), stream.end(), kLine), end; i != end; ++i, ++events) {
    EXPECT_GE(std::stoi((*i)[1]), last);
    last = std::stoi((*i)[1]), total = std::stoi((*i)[2]);
  }
  EXPECT_GE(events, total);
  EXPECT_GE(total, 2);
  EXPECT_EQ(last, total);
  EXPECT_LT(stream.find(R"("stage":"ready")"), stream.find("data: [DONE]")) << stream;
  EXPECT_TRUE(get_until(port, "/v1/loading/progress", everything).starts_with("HTTP/1.1 503"));
  EXPECT_TRUE(get_until(port, "/health", everything).starts_with("HTTP/1.1 200"));
}

}  // namespace
}  // namespace llorch::worker
