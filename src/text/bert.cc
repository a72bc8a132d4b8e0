#include "text/bert.h"

#include <utf8proc.h>

#include "text/meter.h"
#include "text/utf8.h"

namespace llorch {
namespace {

constexpr std::uint64_t kUnitsOfCharacter = 4, kUnitsOfNewWord = 16;

utf8proc_category_t category_of(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

/// Tab and line ends count as white space here, other control characters do not.
bool is_cleaned_away(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  if (c == 0 || c == 0xfffd) return true;
  switch (category_of(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO: return true;
    default: return false;
  }
}

/// The blocks of CJK ideographs that BERT names. The library's table lacks U+2B820 to U+2B91F, and so does this one.
bool is_han(char32_t c) {
  constexpr std::pair<char32_t, char32_t> kBlocks[] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},
                                                       {0x20000, 0x2a6df}, {0x2a700, 0x2b81f}, {0x2b920, 0x2ceaf},
                                                       {0x2f800, 0x2fa1f}};
  for (const auto& [first, last] : kBlocks)
    if (c >= first && c <= last) return true;
  return false;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7f && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  const auto category = category_of(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

/// Calls use(character, its bytes) for each character of valid UTF-8; it gives the units that it takes.
template<class Use>
Status each_character(std::string_view text, WorkLimit& limit, const Use& use) {
  Meter meter(limit);
  while (!text.empty()) {
    const auto size = static_cast<std::size_t>(std::max(1, utf8_sequence(text)));
    const std::uint64_t units = use(utf8_code_point(text, static_cast<int>(size)), text.substr(0, size));
    text.remove_prefix(size);
    if (!meter.add(units)) break;
  }
  return meter.finish();
}

Result<std::string> cleaned(std::string_view text, const BertNormalization& how, WorkLimit& limit) {
  std::string out;
  LLORCH_OK(each_character(text, limit, [&](char32_t c, std::string_view bytes) -> std::uint64_t {
    if (how.clean && is_cleaned_away(c)) return kUnitsOfCharacter;
    if (how.clean && is_white_space(c))
      out += ' ';
    else if (how.separate_han && is_han(c))
      (out += ' ').append(bytes) += ' ';
    else
      out += bytes;
    return kUnitsOfCharacter;
  }));
  return out;
}

}  // namespace

TextStep bert_text_step(const BertNormalization& how) {
  return [how, decompose = unicode_form_step(UTF8PROC_DECOMPOSE), lower = lower_case_step()](
             std::string text, WorkLimit& limit) -> Result<std::string> {
    LLORCH_TRY(text, cleaned(text, how, limit));
    if (how.strip_accents) {
      LLORCH_TRY(const std::string parts, decompose(std::move(text), limit));
      text.clear();
      LLORCH_OK(each_character(parts, limit, [&](char32_t c, std::string_view bytes) {
        if (category_of(c) != UTF8PROC_CATEGORY_MN) text += bytes;
        return kUnitsOfCharacter;
      }));
    }
    if (!how.lower_case) return text;
    return lower(std::move(text), limit);
  };
}

CutStep bert_cut_step() {
  return [](std::vector<std::string>& words, WorkLimit& limit) -> Status {
    std::vector<std::string> out;
    for (const std::string& word : words) {
      bool open = false;  // the last word of `out` may still grow
      LLORCH_OK(each_character(word, limit, [&](char32_t c, std::string_view bytes) -> std::uint64_t {
        const bool alone = is_punctuation(c);
        if (is_white_space(c)) {
          open = false;
        } else if (open && !alone) {
          out.back() += bytes;
        } else {
          out.emplace_back(bytes);
          open = !alone;
          return kUnitsOfNewWord;
        }
        return kUnitsOfCharacter;
      }));
    }
    words = std::move(out);
    return {};
  };
}

std::string decoded_word(std::string_view piece) {
  const bool leans = piece == "." || piece == "?" || piece == "!" || piece == ",";
  return leans ? std::string(piece) : " " + std::string(piece);
}

}  // namespace llorch
