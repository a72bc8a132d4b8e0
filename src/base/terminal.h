// Text that did not come from our own source, on its way to a terminal: models, names, metadata, errors of others.
//
// A terminal obeys what it is sent: colours, titles, the clipboard, links that say one thing and lead to another. So
// before a terminal every control character but line feed and tab (C0, DEL, and C1 also as UTF-8), every character that
// turns the direction of writing, and every byte that is no UTF-8 becomes U+FFFD; CR LF becomes LF. What goes into a
// pipe or a file stays as it is. Threads: any, one at a time for each object.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace llorch {

/// Cleans a stream whose pieces may end anywhere, also within a character.
class TerminalCleaner {
 public:
  /// What may be shown of what has come so far; the beginning of a character waits for the rest.
  [[nodiscard]] std::string push(std::string_view piece);
  /// What becomes of an unfinished character at the end.
  [[nodiscard]] std::string finish();

 private:
  std::string begun_;
};

[[nodiscard]] std::string clean_for_terminal(std::string_view text);
/// The same JSON with such characters escaped, which changes no value.
[[nodiscard]] std::string clean_json_for_terminal(std::string_view json);

/// Writes to `to`: cleaned when it is a terminal, else as it is.
void show_text(std::FILE* to, std::string_view text);
/// One line of JSON.
void show_json(std::FILE* to, std::string_view json);
/// printf() with that.
[[gnu::format(printf, 2, 3)]] void show(std::FILE* to, const char* format, ...);

/// For the pieces of one text, such as tokens.
class ShownStream {
 public:
  explicit ShownStream(std::FILE* to);
  ~ShownStream() { end(); }
  ShownStream(const ShownStream&) = delete;
  ShownStream& operator=(const ShownStream&) = delete;
  /// Flushes, so that a person sees it at once.
  void add(std::string_view piece);
  void end();

 private:
  std::FILE* to_;
  bool terminal_;
  TerminalCleaner cleaner_;
};

}  // namespace llorch
