#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace llorch {

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Result<Regex> Regex::compile(std::string_view pattern) {
  int error = 0;
  PCRE2_SIZE where = 0;
  auto compiled = std::make_shared<Code>();
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &where, nullptr);
  if (!compiled->code) {
    PCRE2_UCHAR text[128];
    pcre2_get_error_message(error, text, sizeof text);
    return bad_model("pattern does not compile at byte {}: {}", where, reinterpret_cast<const char*>(text));
  }
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter matches the same
  Regex regex;
  regex.code_ = std::move(compiled);
  return regex;
}

Status Regex::each(std::string_view text, const std::function<void(std::size_t, std::size_t)>& found) const {
  struct Match {
    pcre2_match_data* data;
    pcre2_match_context* context;
    ~Match() {
      pcre2_match_data_free(data);
      pcre2_match_context_free(context);
    }
  } match{pcre2_match_data_create_from_pattern(code_->code, nullptr), pcre2_match_context_create(nullptr)};
  if (!match.data || !match.context) return fail(ErrorCode::kInsufficientMemory, "pattern matching ran out of memory");
  pcre2_set_match_limit(match.context, 50'000'000);
  pcre2_set_heap_limit(match.context, 64 * 1024);  // KiB
  PCRE2_SIZE at = 0;
  while (at < text.size()) {
    const int result = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                   PCRE2_NO_UTF_CHECK, match.data, match.context);
    if (result == PCRE2_ERROR_NOMATCH) return {};
    if (result < 0)
      return fail(ErrorCode::kInvalidRequest,
                  "the text is too hard for the model's pre-tokenizer pattern (PCRE2 error {})", result);
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
    if (range[1] > range[0]) {
      found(range[0], range[1]);
      at = range[1];
    } else {  // an empty match: go on behind the next character
      ++at;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
    }
  }
  return {};
}

}  // namespace llorch
