// Readers of many event streams of one server, on a thread of their own: sockets, OpenSSL and one search for the time
// that a token carries, so that on a machine of few cores the ends leave room for what is measured between them.
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace llorch::dev {

class StreamReaders {
 public:
  /// Of the server at 127.0.0.1. `root`: the file of the certificate that is believed; empty: plain HTTP.
  [[nodiscard]] static Result<std::unique_ptr<StreamReaders>> make(int port, const std::string& root);
  ~StreamReaders();
  /// GETs the path; from any thread.
  void follow(std::string path);

  std::atomic<int> started = 0, done = 0, broken = 0;
  /// Microseconds from the time in a token ("t") until it was read; gives and forgets those that came so far.
  [[nodiscard]] std::vector<float> take_delays();
  [[nodiscard]] std::string fault();  // of the first that broke

 private:
  struct Stream;
  StreamReaders(int port, std::shared_ptr<SSL_CTX> tls);
  void run();
  void connect_asked();
  [[nodiscard]] Status connect(const std::string& path);
  void read(Stream& s);
  void take(Stream& s);
  void broke(const std::string& why);

  int port_, epoll_, wake_;
  std::shared_ptr<SSL_CTX> tls_;
  std::mutex mutex_;  // of the three below
  std::vector<std::string> asked_;
  std::vector<float> delays_;
  std::string fault_;
  std::unordered_map<int, std::unique_ptr<Stream>> streams_;
  std::atomic<bool> ends_ = false;
  std::thread thread_;  // last: it uses what is above
};

}  // namespace llorch::dev
