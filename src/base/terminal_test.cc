// What reaches a terminal: no control character of others, no turned text, no broken UTF-8 (15.19).
#include "base/terminal.h"

#include <gtest/gtest.h>

namespace llorch {
namespace {

const std::string kBad = "\xEF\xBF\xBD";

TEST(Terminal, controls_are_not_obeyed) {
  EXPECT_EQ(clean_for_terminal("plain, \tz\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80\n"),
            "plain, \tz\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80\n");
  EXPECT_EQ(clean_for_terminal("\x1b[31mred\x1b]0;title\x07"), kBad + "[31mred" + kBad + "]0;title" + kBad);
  EXPECT_EQ(clean_for_terminal("\x1b]8;;http://x\x1b\\here\x1b]52;c;aGk=\x07"),
            kBad + "]8;;http://x" + kBad + "\\here" + kBad + "]52;c;aGk=" + kBad);
  for (int c = 0; c < 0x20; ++c)
    if (c != '\n' && c != '\t') {
      EXPECT_EQ(clean_for_terminal(std::string("a") + static_cast<char>(c) + "b"), "a" + kBad + "b") << c;
    }
  EXPECT_EQ(clean_for_terminal("a\x7f"), "a" + kBad);
  for (int c = 0x80; c < 0xA0; ++c) {  // C1: as UTF-8, and as a byte
    EXPECT_EQ(clean_for_terminal(std::string("\xC2") + static_cast<char>(c)), kBad) << c;
    EXPECT_EQ(clean_for_terminal(std::string(1, static_cast<char>(c)) + "x"), kBad + "x") << c;
  }
  EXPECT_EQ(clean_for_terminal("\xC2\xA0"), "\xC2\xA0") << "a space that does not break";
  for (const char* turned : {"\xE2\x80\xAA", "\xE2\x80\xAE", "\xE2\x81\xA6", "\xE2\x81\xA9"})
    EXPECT_EQ(clean_for_terminal(turned), kBad);
  EXPECT_EQ(clean_for_terminal("one\r\ntwo\rthree\r"), "one\ntwo" + kBad + "three" + kBad);
}

TEST(Terminal, what_is_no_utf8) {
  for (const char* bad : {"\xC0\xAF", "\xE0\x80\x80", "\xF0\x80\x80\x80"})  // not the shortest form
    EXPECT_EQ(clean_for_terminal(bad).find_first_not_of(kBad), std::string::npos) << bad;
  EXPECT_EQ(clean_for_terminal("\xED\xA0\x80z"), kBad + kBad + kBad + "z") << "a surrogate";
  EXPECT_EQ(clean_for_terminal("\xF4\x90\x80\x80").find_first_not_of(kBad), std::string::npos) << "above U+10FFFF";
  EXPECT_EQ(clean_for_terminal("\xE2\x82z"), kBad + "z");
  EXPECT_EQ(clean_for_terminal("a\xE2\x82"), "a" + kBad);
  EXPECT_EQ(clean_for_terminal("\xE2\x1b[0m"), kBad + kBad + "[0m") << "an escape within a character";
}

TEST(Terminal, pieces_may_end_anywhere) {
  const std::string text =
      "a\x1b[31m\xC2\x9B"
      "b\xE2\x80\xAE\r\n\xF0\x9F\x98\x80\r\xFFz\xE2\x82";
  const std::string whole = clean_for_terminal(text);
  for (std::size_t i = 0; i <= text.size(); ++i)
    for (std::size_t j = i; j <= text.size(); ++j) {
      TerminalCleaner cleaner;
      std::string out = cleaner.push(std::string_view(text).substr(0, i));
      out += cleaner.push(std::string_view(text).substr(i, j - i));
      out += cleaner.push(std::string_view(text).substr(j));
      EXPECT_EQ(out += cleaner.finish(), whole) << i << ' ' << j;
    }
}

TEST(Terminal, json_keeps_its_value) {
  EXPECT_EQ(clean_json_for_terminal("{\"a\":\"\xC2\x9B\x7f\xE2\x80\xAEz\xC3\xBC\"}"),
            "{\"a\":\"\\u009b\\u007f\\u202ez\xC3\xBC\"}");
}

TEST(Terminal, pipes_and_files_get_what_there_is) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  const std::string raw = "\x1b[31m\xC2\x9B\xFF";
  show_text(file, raw);
  show(file, "%s|%d|", raw.c_str(), 7);
  show(file, "%s", std::string(2000, 'x').c_str());
  {
    ShownStream stream(file);
    stream.add("\xE2");
    stream.add("\x82");
  }
  std::rewind(file);
  std::string got(4096, '\0');
  got.resize(std::fread(got.data(), 1, got.size(), file));
  std::fclose(file);
  EXPECT_EQ(got, raw + raw + "|7|" + std::string(2000, 'x') + "\xE2\x82");
}

}  // namespace
}  // namespace llorch
