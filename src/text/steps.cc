#include "text/steps.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

#include "base/limits.h"
#include "text/limits.h"
#include "text/meter.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace llorch {
namespace {

/// A character before which a text may be cut: nothing before it composes with it or moves behind it. Marks and the
/// conjoining jamo are not among them.
bool stands_alone(char32_t c) {
  if (c < 0x80) return true;
  if ((c >= 0x1100 && c <= 0x11FF) || (c >= 0xA960 && c <= 0xA97F) || (c >= 0xD7B0 && c <= 0xD7FF) ||
      (c >= 0x16D40 && c <= 0x16D7F))
    return false;
  const utf8proc_property_t* p = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
  if (p->combining_class != 0) return false;
  switch (p->category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_PO: return true;
    default: return false;
  }
}

/// How much of `text` is normalised at once.
Result<std::size_t> normalized_at_once(std::string_view text) {
  std::size_t at = 0, marks = 0;
  while (at < text.size()) {
    const int size = utf8_sequence(text.substr(at));
    if (size <= 0) break;
    const char32_t c = utf8_code_point(text.substr(at), size);
    const bool alone = stands_alone(c);
    if (alone && at >= text_limits::kNormalizedAtOnce) return at;
    marks = alone ? 0 : marks + 1;
    if (marks > text_limits::kCombiningMarksMax)
      return fail(ErrorCode::kInvalidRequest, "the text has more than {} combining characters in a row",
                  text_limits::kCombiningMarksMax);
    at += static_cast<std::size_t>(size);
  }
  return text.size();
}

Result<std::string> unicode_form(std::string_view text, int options, WorkLimit& limit) {
  std::string out;
  while (!text.empty()) {
    const auto plain = static_cast<std::size_t>(
        std::ranges::find_if(text.substr(0, text_limits::kNormalizedAtOnce), [](char c) { return (c & 0x80) != 0; }) -
        text.begin());
    // ASCII is its own form, up to the last character, with which a mark may compose.
    if (const std::size_t own = plain == text.size() ? plain : plain > 0 ? plain - 1 : 0; own > 0) {
      LLORCH_OK(limit.charge(own / 8 + 1));
      out += text.substr(0, own);
      text.remove_prefix(own);
      continue;
    }
    LLORCH_TRY(const std::size_t size, normalized_at_once(text));
    LLORCH_OK(limit.charge(size * 8));
    utf8proc_uint8_t* made = nullptr;
    const auto n =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(size), &made,
                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options));
    if (n < 0) return fail(ErrorCode::kInvalidRequest, "the text cannot be normalised: {}", utf8proc_errmsg(n));
    out.append(reinterpret_cast<const char*>(made), static_cast<std::size_t>(n));
    std::free(made);
    text.remove_prefix(size);
  }
  return out;
}

/// Matches and gaps of `word`: text, is a match.
using MarkedPieces = std::vector<std::pair<std::string, bool>>;

void arrange(MarkedPieces& pieces, SplitBehavior behavior, std::vector<std::string>& out) {
  std::string carried;
  bool was_match = false, open = false;  // open: the last word of `out` may still grow
  for (auto& [text, match] : pieces) {
    switch (behavior) {
      case SplitBehavior::kIsolated: out.push_back(text); break;
      case SplitBehavior::kRemoved:
        if (!match) out.push_back(text);
        break;
      case SplitBehavior::kContiguous:
        if (open && was_match && match)
          out.back() += text;
        else
          out.push_back(text);
        break;
      case SplitBehavior::kMergedWithPrevious:
        if (match && open && !was_match)
          out.back() += text;
        else
          out.push_back(text);
        break;
      case SplitBehavior::kMergedWithNext:
        if (match) {
          if (!carried.empty()) out.push_back(std::exchange(carried, {}));
          carried = text;
        } else
          out.push_back(std::exchange(carried, {}) + text);
        break;
    }
    was_match = match, open = true;
  }
  if (!carried.empty()) out.push_back(carried);
}

/// The one character whose lower case is two (Unicode's SpecialCasing.txt, without conditions).
constexpr char32_t kDottedI = 0x130, kDotAbove = 0x307;

std::size_t bytes_of(const std::vector<std::string>& words) {
  std::size_t bytes = 0;
  for (const std::string& w : words) bytes += w.size();
  return bytes;
}

}  // namespace

Status check_growth(std::size_t before, std::size_t after) {
  if (after <= text_limits::kGrowthAtLeast ||
      (after <= before * text_limits::kGrowthMax && after <= limits::kTextBytesMax))
    return {};
  return fail(ErrorCode::kInvalidRequest, "the model's tokenizer makes more than {} bytes of {}", after, before);
}

TextStep unicode_form_step(int options) {
  return [options](std::string text, WorkLimit& limit) { return unicode_form(text, options, limit); };
}

TextStep lower_case_step() {
  return [](std::string text, WorkLimit& limit) -> Result<std::string> {
    std::string out;
    Meter meter(limit);
    for (std::string_view rest = text; !rest.empty();) {
      const int size = std::max(1, utf8_sequence(rest));
      const char32_t c = utf8_code_point(rest, size);
      utf8_append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
      if (c == kDottedI) utf8_append(out, kDotAbove);
      rest.remove_prefix(static_cast<std::size_t>(size));
      if (!meter.add(4)) break;
    }
    LLORCH_OK(meter.finish());
    return out;
  };
}

TextStep replace_step(Regex regex, std::string content) {
  return [regex = std::move(regex), content = std::move(content)](std::string text,
                                                                  WorkLimit& limit) -> Result<std::string> {
    std::string out;
    std::size_t done = 0;
    LLORCH_OK(regex.each(text, limit, [&](std::size_t begin, std::size_t end) {
      out.append(text, done, begin - done) += content;
      done = end;
      return check_growth(text.size(), out.size());
    }));
    return out.append(text, done);
  };
}

CutStep split_step(Regex regex, SplitBehavior behavior, bool invert) {
  return [regex = std::move(regex), behavior, invert](std::vector<std::string>& words, WorkLimit& limit) -> Status {
    std::vector<std::string> out;
    for (const std::string& word : words) {
      MarkedPieces pieces;
      std::size_t done = 0;
      LLORCH_OK(regex.each(word, limit, [&](std::size_t begin, std::size_t end) -> Status {
        if (begin > done) pieces.emplace_back(word.substr(done, begin - done), invert);
        pieces.emplace_back(word.substr(begin, end - begin), !invert);
        done = end;
        return limit.charge(16);
      }));
      if (done < word.size()) pieces.emplace_back(word.substr(done), invert);
      arrange(pieces, behavior, out);
    }
    words = std::move(out);
    return {};
  };
}

CutStep metaspace_step(std::string mark, bool prepend) {
  return [mark = std::move(mark), prepend](std::vector<std::string>& words, WorkLimit& limit) -> Status {
    const std::size_t before = bytes_of(words);
    std::size_t after = 0;
    for (std::string& w : words) {
      const auto spaces = static_cast<std::size_t>(std::ranges::count(w, ' '));
      after += w.size() + (spaces + 1) * mark.size();
      LLORCH_OK(limit.charge(8 + (w.size() + spaces * mark.size()) / 4));
      LLORCH_OK(check_growth(before, after));
      w = replace_all(w, " ", mark);
      if (prepend && !w.starts_with(mark)) w.insert(0, mark);
    }
    return {};
  };
}

CutStep space_prefix_step() {
  return [](std::vector<std::string>& words, WorkLimit& limit) -> Status {
    for (std::string& w : words) {
      LLORCH_OK(limit.charge(8 + w.size() / 16));
      if (!w.starts_with(' ')) w.insert(0, " ");
    }
    return {};
  };
}

}  // namespace llorch
