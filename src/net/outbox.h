// A TCP socket that takes whatever is written to it: what the system does not take at once waits here and is sent when
// the system does. So a TLS stream on top of it encrypts and sends in one call, without an operation that must be
// waited for; whoever writes looks at waiting() before it writes more.
//
// Threads: the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/asio.h"

namespace llorch::net {

class Outbox {
 public:
  using executor_type = tcp::socket::executor_type;
  using lowest_layer_type = tcp::socket::lowest_layer_type;

  explicit Outbox(tcp::socket socket) : state_(std::make_shared<State>(std::move(socket))) {}

  [[nodiscard]] executor_type get_executor() { return state_->socket.get_executor(); }
  [[nodiscard]] lowest_layer_type& lowest_layer() { return state_->socket.lowest_layer(); }
  [[nodiscard]] tcp::socket& socket() { return state_->socket; }
  /// Bytes that the system has not taken yet.
  [[nodiscard]] std::size_t waiting() const { return state_->unsent.size() - state_->sent; }
  /// Called, from the loop, whenever the system has taken some of what waited, or never will: then with an error.
  void on_sent(std::function<void(const error_code&)> told) { state_->on_sent = std::move(told); }

  /// All of `buffers`, or an error.
  template<class Buffers>
  std::size_t write_some(const Buffers& buffers, error_code& problem) {
    return state_->write(asio::buffer_sequence_begin(buffers), asio::buffer_sequence_end(buffers), problem);
  }
  template<class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(error_code, std::size_t)>(
        [this](auto handler, const Buffers& given) {
          error_code problem;
          const std::size_t size = write_some(given, problem);
          asio::post(get_executor(),
                     [handler = std::move(handler), problem, size]() mutable { handler(problem, size); });
        },
        token, buffers);
  }
  template<class Buffers>
  std::size_t read_some(const Buffers& buffers, error_code& problem) {
    return state_->socket.read_some(buffers, problem);
  }
  template<class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return state_->socket.async_read_some(buffers, std::forward<Token>(token));
  }

 private:
  struct State : std::enable_shared_from_this<State> {
    explicit State(tcp::socket s) : socket(std::move(s)) {}
    template<class Iterator>
    std::size_t write(Iterator at, Iterator end, error_code& problem) {
      std::size_t size = 0;
      for (; at != end && !problem; ++at) size += write(asio::const_buffer(*at), problem);
      return size;
    }
    std::size_t write(asio::const_buffer bytes, error_code& problem);
    void wait();
    void send();

    tcp::socket socket;
    std::string unsent;  // from `sent` on
    std::size_t sent = 0;
    error_code broken;
    std::function<void(const error_code&)> on_sent;
  };
  std::shared_ptr<State> state_;  // of the operation that waits for the system, too
};

}  // namespace llorch::net
