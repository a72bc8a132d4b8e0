// Requests to a model server when libcurl finds no memory for a part of them, or its callbacks find none: this program
// has a curl_slist_append() and a curl_easy_setopt() of its own, that fail when a test says so.
#include "hive/hub_client.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdarg>
#include <new>
#include <thread>

#include "base/test_memory.h"
#include "base/test_own_new.h"
#include "hive/transfers.h"
#include "net/http_server.h"

namespace llorch::hive {
namespace {

int appends_before = -1, options_before = -1;  // so many calls still succeed; -1: all

bool fails(int& before) { return before >= 0 && before-- == 0; }

}  // namespace
}  // namespace llorch::hive

extern "C" curl_slist* curl_slist_append(curl_slist* list, const char* text) {
  static const auto real = reinterpret_cast<decltype(&curl_slist_append)>(dlsym(RTLD_NEXT, "curl_slist_append"));
  return llorch::hive::fails(llorch::hive::appends_before) ? nullptr : real(list, text);
}
#undef curl_easy_setopt
extern "C" CURLcode curl_easy_setopt(CURL* curl, CURLoption option, ...) {
  using Set = CURLcode (*)(CURL*, CURLoption, ...);
  static const auto real = reinterpret_cast<Set>(dlsym(RTLD_NEXT, "curl_easy_setopt"));
  std::va_list values;
#ifdef __clang__
#pragma clang diagnostic ignored "-Wvarargs"  // an enumeration before the dots: libcurl has it so, too
#endif
  va_start(values, option);
  void* const value = va_arg(values, void*);  // or a long, which is as wide
  va_end(values);
  return llorch::hive::fails(llorch::hive::options_before) ? CURLE_OUT_OF_MEMORY : real(curl, option, value);
}

namespace llorch::hive {
namespace {

/// A model server on a thread of its own.
class Hub {
 public:
  Hub() {
    const auto answer = [this](const net::Request& r, const net::ExchangePtr& e) {
      ++requests;
      whole = whole && r.headers.get("Range") == "bytes=0-" && r.headers.get("Authorization") == "Bearer secret";
      net::Response response{200, "text/plain", std::string(50'000, 'x'), {}};
      response.headers.add("X-Repo-Commit", std::string(40, 'c'));
      e->send(std::move(response));
    };
    server_ = net::HttpServer::make(loop_, {}, answer, [](const Error&) { return net::Response{}; }).value();
    options.endpoint = "http://127.0.0.1:" + std::to_string(server_->port());
    options.token = "secret";
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Hub() {
    loop_.post([this] { server_.reset(), loop_.post([this] { loop_.stop(); }); });
    thread_.join();
  }
  [[nodiscard]] Attempt<HubReply> get(std::size_t& received) {
    HubRequest request;
    request.headers = {"Range: bytes=0-"};
    received = 0;
    return HubClient(options, {}).get(options.endpoint + "/f", request, [&](const HubReply&, std::string_view bytes) {
      received += bytes.size();
      return Status();
    });
  }
  HubOptions options;
  std::atomic<int> requests = 0;
  std::atomic<bool> whole = true;  // no request lacked anything

 private:
  net::EventLoop loop_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
};

TEST(HubClient, a_request_that_cannot_be_made_whole_is_not_sent) {  // 15.11
  Hub hub;
  std::size_t received = 0;
  ASSERT_TRUE(hub.get(received));
  EXPECT_EQ(received, 50'000u);
  for (int* before : {&appends_before, &options_before}) {
    int failed = 0;
    for (;; ++failed) {
      *before = failed;
      const int sent = hub.requests;
      const auto reply = hub.get(received);
      const bool all_succeeded = *before >= 0;
      *before = -1;
      if (all_succeeded) break;
      ASSERT_FALSE(reply) << "call " << failed;
      EXPECT_EQ(reply.error().error.code, ErrorCode::kInsufficientMemory);
      EXPECT_EQ(hub.requests, sent) << "call " << failed;
    }
    EXPECT_GE(failed, before == &appends_before ? 2 : 15);
  }
  EXPECT_TRUE(hub.whole);
}

TEST(HubClient, an_exchange_ends_whichever_allocation_fails_and_no_exception_passes_through_curl) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  Hub hub;
  int failed = 0, errors = 0;
  for (bool all_succeeded = false; !all_succeeded; ++failed) {
    ASSERT_LT(failed, 1000);
    std::size_t received = 0;
    failing_allocation = allocations + 1 + failed;
    try {
      const auto reply = hub.get(received);
      all_succeeded = allocations < failing_allocation;
      failing_allocation = 0;
      if (!reply) ++errors;
      EXPECT_TRUE(all_succeeded || !reply || received == 50'000u);
      EXPECT_TRUE(reply || reply.error().error.code == ErrorCode::kInsufficientMemory) << reply.error().error.message;
    } catch (const std::bad_alloc&) {  // before or after curl; Download::run() makes it an error
      failing_allocation = 0;
    }
  }
  EXPECT_GE(failed, 5);
  EXPECT_GE(errors, 1) << "no callback of curl's has asked for memory";
}

TEST(Transfers, the_end_of_one_whose_thread_has_no_memory_is_told) {  // 15.11
  LLORCH_NEEDS_OWN_NEW();
  net::EventLoop loop;
  std::optional<ErrorCode> end;
  HubOptions options;
  options.endpoint = "http://127.0.0.1:1", options.home = testing::TempDir() + "no-home";
  Transfers transfers(loop, options,
                      {[] {},
                       [&](const Result<Fetched>& outcome) {
                         end = outcome ? ErrorCode::kInternal : outcome.error().code;
                         loop.stop();
                       }});
  const OthersWithoutMemory none;
  const auto transfer = transfers.join(colony::parse_model_ref("org/repo:file.gguf").value());
  const auto limit = loop.after(std::chrono::seconds(10), [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(end, ErrorCode::kInsufficientMemory);
}

}  // namespace
}  // namespace llorch::hive
