// The messages of a conversation, and how much of the model's window they take.
//
// A turn is what a person said and all that came of it. The oldest turns leave so that a conversation can go on for
// ever; the system message stays. Threads: one.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace llorch::keeper {

class ChatWindow {
 public:
  [[nodiscard]] const std::string& system_message() const { return system_; }
  /// Empty: none.
  void set_system_message(std::string text) { system_ = std::move(text); }
  /// With the system message first.
  [[nodiscard]] boost::json::array messages() const;
  /// A system message at the beginning becomes this one's. How much of the window they take, see set_tokens().
  void set_messages(boost::json::array messages);
  void clear();

  /// A turn of what a person says; until keep() it can be taken back.
  void begin(const std::string& said);
  void add(boost::json::object message) { messages_.push_back(std::move(message)); }
  void keep() { kept_ = messages_.size(); }
  void take_back() { messages_.resize(kept_); }
  /// Lets so many of the oldest turns go, but not the last one. Returns how many went.
  int forget(int turns);

  /// Of an answer's end: `tokens_in`, `tokens_out` and `context`.
  void measure(const boost::json::object& end);
  /// Of the last answer and its prompt; 0: not known, unless nothing was said.
  [[nodiscard]] std::size_t tokens() const { return tokens_; }
  [[nodiscard]] bool tokens_known() const { return tokens_max_ > 0 && (tokens_ > 0 || messages_.empty()); }
  /// As a conversation was kept with.
  void set_tokens(std::size_t tokens, std::size_t tokens_max) { tokens_ = tokens, tokens_max_ = tokens_max; }
  [[nodiscard]] std::size_t tokens_max() const { return tokens_max_; }
  /// Before the next turn: where an answer of `wanted` tokens would hardly fit, turns leave until two thirds of the
  /// window are taken at most, by their share of its text. Returns how many went.
  int make_room(std::optional<std::uint64_t> wanted);

 private:
  [[nodiscard]] std::size_t text_bytes() const;

  std::string system_;
  boost::json::array messages_;
  std::size_t kept_ = 0;  // messages that belong to turns that are over
  std::size_t tokens_ = 0, tokens_max_ = 0;
};

}  // namespace llorch::keeper
