// What of a conversation a model still sees.
#include "keeper/chat_window.h"

#include <gtest/gtest.h>

namespace llorch::keeper {
namespace {

void say(ChatWindow& window, const std::string& text) {
  window.begin(text);
  window.add({{"role", "assistant"}, {"content", "to " + text}});
  window.keep();
}

std::string texts(const ChatWindow& window) {
  std::string all;
  for (const auto& message : window.messages()) all += std::string(message.at("content").as_string()) + ";";
  return all;
}

TEST(ChatWindow, WholeTurnsLeaveAndTheLastOneStays) {
  ChatWindow window;
  window.set_system_message("S");
  say(window, "a");
  window.begin("b");
  window.add({{"role", "assistant"}, {"content", "call"}});
  window.add({{"role", "tool"}, {"content", "result"}});
  window.keep();
  say(window, "c");
  EXPECT_EQ(window.forget(1), 1);
  EXPECT_EQ(texts(window), "S;b;call;result;c;to c;");
  EXPECT_EQ(window.forget(9), 1);
  EXPECT_EQ(texts(window), "S;c;to c;");
  EXPECT_EQ(window.forget(1), 0);
}

TEST(ChatWindow, WhatIsTakenBackIsTheTurnUnderWay) {
  ChatWindow window;
  say(window, "a");
  say(window, "b");
  window.begin("c");
  EXPECT_EQ(window.forget(1), 1);
  window.take_back();
  EXPECT_EQ(texts(window), "b;to b;");
  EXPECT_EQ(ChatWindow().forget(1), 0);
}

TEST(ChatWindow, RoomIsMadeOnlyWhereAnAnswerHasNone) {
  ChatWindow window;
  for (const char* text : {"a", "b", "c", "d"}) say(window, text);
  EXPECT_EQ(window.make_room(std::nullopt), 0) << "nothing is known of the model";
  window.measure({{"tokens_in", 60}, {"tokens_out", 10}, {"context", 100}});
  EXPECT_EQ(window.make_room(std::nullopt), 0) << "a quarter is free";
  EXPECT_EQ(window.make_room(20), 0);
  window.measure({{"tokens_in", 90}, {"tokens_out", 10}, {"context", 100}});
  EXPECT_EQ(window.make_room(1), 2) << "two of four turns are half of the window";
  EXPECT_EQ(window.tokens(), 50u);
}

TEST(ChatWindow, ASystemMessageThatWasKeptIsOneAgain) {
  ChatWindow window, other;
  window.set_system_message("S");
  say(window, "a");
  other.set_system_message("T");
  other.set_messages(window.messages());
  EXPECT_EQ(other.system_message(), "S");
  EXPECT_EQ(texts(other), texts(window));
  other.set_messages({});
  EXPECT_EQ(other.system_message(), "");
}

}  // namespace
}  // namespace llorch::keeper
