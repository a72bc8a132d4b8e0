// One line of a terminal that says what is going on and is replaced by whatever comes next.
//
// It is the last line of stderr, where stderr is a terminal that can move its cursor; elsewhere nothing is drawn. All
// output through terminal.h removes it first. What is left at the end of the program stays. Threads: one.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

namespace llorch {

/// Whether `to` is a terminal that obeys escape sequences.
[[nodiscard]] bool can_move_cursor(std::FILE* to);
/// Whether text on `to` may be dim: such a terminal, and NO_COLOR is not set (no-color.org).
[[nodiscard]] bool can_dim(std::FILE* to);
/// `text` in dim letters where `to` has them.
[[nodiscard]] std::string dimmed(std::FILE* to, std::string_view text);

/// A line for a person beside the answer: cleaned for a terminal, and dim there.
void show_dim_line(std::FILE* to, std::string_view text);

/// Columns that UTF-8 text takes: wide characters take two.
[[nodiscard]] std::size_t columns_of(std::string_view text);
/// Of a terminal; 0: `to` is none, or does not say.
[[nodiscard]] std::size_t columns_of_terminal(std::FILE* to);
/// The beginning of `text` that fits into so many columns; control characters end it.
[[nodiscard]] std::string_view cut_to_columns(std::string_view text, std::size_t columns);

/// Draws the line, in place of the one before.
void show_status(std::string_view text);
/// Removes it.
void clear_status();
/// Leaves it as a line of its own.
void keep_status();

}  // namespace llorch
