// JSON strings as networks (RFC 8259 section 7): characters written as themselves or escaped.
//
// Two ways to spell: free, where a character may stand as itself or as any of its escapes, and plain, where each
// character has one spelling (itself; \" \\ \b \f \n \r \t; \u00xx in lower case for other controls). Names of
// properties and strings with a pattern are plain, so that what a name or pattern excludes cannot return in disguise.
#pragma once

#include <string>
#include <string_view>

#include "grammar/network.h"

namespace llorch {

/// Edges from `from` that read one character and lead to `to`; not the closing quote.
void add_free_character(Network& net, NetState from, NetState to);
void add_plain_character(Network& net, NetState from, NetState to);
/// The same for code points low to high alone.
void add_plain_characters(Network& net, NetState from, char32_t low, char32_t high, NetState to);
/// A state inside of a string: reads any characters, and the closing quote to `to`.
[[nodiscard]] NetState add_string_body(Network& net, StringBody body, NetState to);
/// `text` (UTF-8) in its plain spelling, without quotes.
[[nodiscard]] std::string plain_spelling(std::string_view text);

}  // namespace llorch
