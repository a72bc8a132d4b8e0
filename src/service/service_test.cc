// Processes under supervision, narration, and other daemons asked.
#include <gtest/gtest.h>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "net/http_server.h"
#include "service/flow.h"
#include "service/log.h"
#include "service/narration.h"
#include "service/process.h"
#include "service/remote.h"
#include "service/test_log.h"
#include "service/test_process.h"
#include "service/tone.h"

namespace llorch::service {
namespace {

using namespace std::chrono_literals;

/// Waits for the end of a process that is nobody's child here.
bool gone(int pid) {
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid, 0u));
  if (descriptor < 0) return errno == ESRCH;
  pollfd p{descriptor, POLLIN, 0};
  const bool ended = poll(&p, 1, 10'000) == 1;
  close(descriptor);
  return ended;
}

TEST(Process, lines_come_and_the_end_is_noticed) {
  net::EventLoop loop;
  std::vector<std::string> lines;
  int code = -1;
  char log[] = "/tmp/llorch-process-XXXXXX";
  close(mkstemp(log));
  const auto process = start_process(
      loop, {{"/bin/sh", "-c", "echo one; echo $WORD >&2; printf three; exit 7"}, {{"WORD", "two"}}, log},
      [&](const std::string& line) { lines.push_back(line); },
      [&](int c) {
        code = c;
        loop.stop();
      });
  ASSERT_TRUE(process) << process.error().message;
  loop.run();
  EXPECT_EQ(code, 7);
  EXPECT_EQ(lines, (std::vector<std::string>{"one", "two"})) << "a line that does not end is for the log alone";
  EXPECT_FALSE((*process)->running());
  std::ifstream in(log);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "one\ntwo\nthree");
  unlink(log);
}

TEST(Process, a_signal_for_a_child_that_has_not_begun_yet_is_not_ours) {
  net::EventLoop loop;
  int signals = 0, ended = 0;
  loop.on_signals([&](int) { ++signals; });
  for (int i = 0; i < 200; ++i) {
    const auto process = start_process(loop, {{"/bin/sleep", "1000"}, {}, ""}, {}, [&](int code) {
      EXPECT_EQ(code, 128 + SIGTERM);
      ++ended;
      loop.stop();
    });
    ASSERT_TRUE(process);
    (*process)->signal(SIGTERM);  // most often between fork and exec
    const auto limit = loop.after(5s, [&] { loop.stop(); });
    loop.run();
    ASSERT_EQ(ended, i + 1) << "the child has not taken its signal";
  }
  EXPECT_EQ(ended, 200);
  EXPECT_EQ(signals, 0) << "the child's signal came to its parent";
}

TEST(Process, dies_with_its_owner_and_its_absence_is_an_error) {
  net::EventLoop loop;
  int pid = 0;
  {
    const auto process = start_process(loop, {{"/bin/sleep", "1000"}, {}, ""}, {}, {});
    ASSERT_TRUE(process);
    pid = (*process)->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  // By a thread that nobody waits for.
  for (const auto end = net::Clock::now() + 5s; kill(pid, 0) == 0 && net::Clock::now() < end;)
    std::this_thread::yield();
  EXPECT_EQ(kill(pid, 0), -1) << "it must be reaped";
  EXPECT_FALSE(start_process(loop, {{"/nowhere/program"}, {}, ""}, {}, {}));
}

TEST(RunProgram, output_comes_whole_and_what_takes_too_long_is_ended_with_its_children) {
  const auto ran = run_program({"/bin/sh", "-c", "cat; seq 100000; exit 3"}, -1, Stderr::kNone, {"counting", 60s});
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->exit_code, 3);
  EXPECT_EQ(ran->output.size(), 588895u);
  EXPECT_TRUE(ran->output.ends_with("\n100000\n"));

  char file[] = "/tmp/llorch-pids-XXXXXX";
  close(mkstemp(file));
  const auto late = run_program({"/bin/sh", "-c", std::string("sleep 1000 & echo $! >") + file + "; wait"}, -1,
                                Stderr::kNone, {"sleeping", 1s, true}, true);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kOperationTimeout);
  EXPECT_EQ(late.error().message, "sleeping timed out after 1 seconds");
  int child = 0;
  std::ifstream(file) >> child;
  ASSERT_GT(child, 1);
  EXPECT_TRUE(gone(child));
  unlink(file);
}

TEST(Background, what_was_asked_for_before_the_end_is_done_before_the_end) {
  net::EventLoop loop;
  std::vector<int> done;
  {
    Background background(loop);
    for (int i = 0; i < 100; ++i) background.run([&done, i] { done.push_back(i); });
  }
  ASSERT_EQ(done.size(), 100u);
  EXPECT_TRUE(std::ranges::is_sorted(done));
}

TEST(Narration, says_who_did_what_for_which_job_and_in_which_tones) {
  job::Registry jobs;
  const auto job = jobs.create({.operation = "infer", .correlation_id = "c-1"}, {}, {});
  const CapturedLog log("queen");
  ASSERT_TRUE(narrate(jobs, job,
                      {"queen",
                       "q",
                       "worker_spawn",
                       "w starts with api_key=abcdef0123456789abcdef",
                       {{"worker_id", "w"}, {"human", "not this one"}}}));
  const auto event = boost::json::parse(job->log.find(1)->json).as_object();
  EXPECT_EQ(event.at("actor").as_string(), "q");
  EXPECT_EQ(event.at("target").as_string(), job->id);
  EXPECT_EQ(event.at("worker_id").as_string(), "w");
  EXPECT_EQ(event.at("human").as_string(), "w starts with api_key=[REDACTED]");
  EXPECT_EQ(event.at("formatted").as_string(), "[queen] w starts with api_key=[REDACTED]");
  EXPECT_EQ(event.at("cute").as_string(), tone_of("worker_spawn").cute);
  EXPECT_EQ(event.at("story").as_string(), tone_of("worker_spawn").story);
  const auto lines = log.of("worker_spawn");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].at("worker_id").as_string(), "w");
  log.expect_never("abcdef0123456789");
  EXPECT_FALSE(tone_of("worker_spawn").cute.empty());
  EXPECT_TRUE(tone_of("nothing of the kind").cute.empty());
}

Procedure ask_nobody(FlowPtr flow, Peer peer, std::vector<ErrorCode>& codes, std::function<void()> done) {
  const auto answer = co_await ask(flow, peer, Asked("GET", "/health"));
  codes.push_back(answer ? ErrorCode::kInternal : answer.error().code);
  OnEvent ignore = [](std::string_view, const boost::json::object&) {};
  const auto followed = co_await follow(flow, peer, "/stream", ignore);
  codes.push_back(followed ? ErrorCode::kInternal : followed.error().code);
  done();
}

TEST(Remote, nobody_there_is_an_error) {
  net::EventLoop loop;
  std::vector<ErrorCode> codes;
  Gate gate(loop);
  ask_nobody(gate.flow(), make_peer("http://127.0.0.1:1").value(), codes, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(codes, (std::vector{ErrorCode::kIo, ErrorCode::kIo}));
  EXPECT_EQ(check({503, {{"error", {{"code", "LOADING"}, {"message", "m"}}}}, {}}).error().code, ErrorCode::kLoading);
  EXPECT_EQ(check({500, nullptr, {}}).error().code, ErrorCode::kInternal);
  EXPECT_TRUE(check({204, nullptr, {}}));
}

TEST(Log, pretty_lines_command_no_terminal) {  // 15.19
  testing::internal::CaptureStderr();
  start_log("test", "pretty", "info");
  log(Level::kInfo, "said", "a\x1b[31m\xC2\x9B\x07\n00:00:00.000 error a record of its own");
  stop_log();
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_EQ(line.find_first_of("\x1b\x9b\x07"), std::string::npos);
  EXPECT_EQ(std::ranges::count(line, '\n'), 1) << line;
  EXPECT_TRUE(line.contains("[31m")) << line;
}

/// Errors of one call or stream each, in the order of the paths.
Procedure ask_all(FlowPtr flow, Peer peer, std::vector<std::string>& heard, std::function<void()> done) {
  for (const char* path : {"/text", "/long", "/nothing"}) {
    const auto answer = co_await ask(flow, peer, Asked("GET", path));
    heard.push_back(answer ? "" : answer.error().message);
  }
  OnEvent ignore = [](std::string_view, const boost::json::object&) {};
  for (const char* path : {"/broken", "/endless", "/sound"}) {
    const auto followed = co_await follow(flow, peer, path, ignore);
    heard.push_back(followed ? "" : followed.error().message);
  }
  done();
}

TEST(Remote, what_is_no_json_is_an_error_and_so_is_what_is_too_long) {
  net::EventLoop loop;
  Gate gate(loop);
  const auto answer = [](const net::Request& r, const net::ExchangePtr& e) {
    const std::string& path = r.target.path;
    if (path == "/text") return e->send({200, "text/html", "<html>", {}});
    if (path == "/long") return e->send({200, "application/json", '"' + std::string((1u << 20) - 1, 'x') + '"', {}});
    if (path == "/nothing") return e->send({200, "application/json", "", {}});
    e->start({200, "text/event-stream", "", {}});
    if (path == "/broken") e->write("event: token\ndata: {nonsense\n\n");
    if (path == "/endless") e->write("data: \"" + std::string(1u << 20, 'x') + "\"\n\n");
    if (path == "/sound") e->write("event: token\ndata: {}\n\ndata: [DONE]\n\n");
    e->finish();
  };
  const auto server = net::HttpServer::make(loop, {}, answer, [](const Error&) { return net::Response{}; }).value();
  std::vector<std::string> heard;
  ask_all(gate.flow(), make_peer("http://127.0.0.1:" + std::to_string(server->port())).value(), heard,
          [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(heard, (std::vector<std::string>{"the answer is no JSON", "the answer is longer than 1 MiB", "",
                                             "an event of the stream is no JSON object",
                                             "an event of the stream is too long", ""}));
}

TEST(Log, a_long_line_is_whole_json_without_secrets) {
  std::string line;
  start_log("x", [&](const std::string& l) { line = l; });
  log(Level::kInfo, "event", std::string(20'000, 'm') + " Bearer abcdefghijklmnop0123456789", {{"token", "s3cr3t"}});
  stop_log();
  boost::system::error_code problem;
  const auto parsed = boost::json::parse(line, problem);
  EXPECT_FALSE(problem) << line.substr(line.size() - 100);
  EXPECT_GT(line.size(), 20'000u);
  EXPECT_FALSE(line.contains("s3cr3t") || line.contains("abcdefghijklmnop"));
}

}  // namespace
}  // namespace llorch::service
