#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <time.h>

#include <algorithm>

#include "text/limits.h"

namespace llorch {
namespace {

constexpr std::uint64_t kUnitsOfMatch = 16, kUnitsOfSlow = 1'000'000;
constexpr std::int64_t kSlowMs = 8;

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Result<Regex> Regex::compile(std::string_view pattern, bool known) {
  if (pattern.size() > text_limits::kPatternBytesMax)
    return bad_model("a pattern of {} bytes is longer than {}", pattern.size(), text_limits::kPatternBytesMax);
  int error = 0;
  PCRE2_SIZE where = 0;
  auto compiled = std::make_shared<Code>();
  compiled->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, &error, &where, nullptr);
  if (!compiled->code) {
    PCRE2_UCHAR text[128];
    pcre2_get_error_message(error, text, sizeof text);
    return bad_model("pattern does not compile at byte {}: {}", where, reinterpret_cast<const char*>(text));
  }
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter matches the same
  Regex regex;
  regex.code_ = std::move(compiled), regex.known_ = known;
  return regex;
}

namespace {

std::int64_t ms_of(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1'000'000;
}

/// Says which calls were slow in this thread's own time: what others took of the processor meanwhile is no work. The
/// thread's clock is dear to read, so it is read only where one that ticks every few milliseconds has moved.
class Stopwatch {
 public:
  bool slow_since_last_asked() {
    const std::int64_t wall = ms_of(CLOCK_MONOTONIC_COARSE);
    if (wall == wall_) return false;
    const std::int64_t own = ms_of(CLOCK_THREAD_CPUTIME_ID);
    const bool slow = wall - wall_ >= kSlowMs && own - own_ >= kSlowMs;
    wall_ = wall, own_ = own;
    return slow;
  }

 private:
  std::int64_t wall_ = ms_of(CLOCK_MONOTONIC_COARSE), own_ = ms_of(CLOCK_THREAD_CPUTIME_ID);
};

struct Matcher {
  pcre2_match_data* data;
  pcre2_match_context* context;
  ~Matcher() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

}  // namespace

Status Regex::each(std::string_view text, WorkLimit& limit, const Found& found) const {
  const Matcher match{pcre2_match_data_create_from_pattern(code_->code, nullptr), pcre2_match_context_create(nullptr)};
  if (!match.data || !match.context) return fail(ErrorCode::kInsufficientMemory, "pattern matching ran out of memory");
  // PCRE2 bounds the backtracking from one start, not how many starts it tries. A start may take a walk over all that
  // is left, as \s*[\r\n]+ over spaces does; a call tries as many starts as keep it within some milliseconds. Not so
  // where it is known that PCRE2 remembers between starts what cannot match.
  const std::uint64_t steps = 2 * text.size() + 100'000;
  pcre2_set_match_limit(match.context, static_cast<std::uint32_t>(std::min<std::uint64_t>(steps, 1u << 31)));
  pcre2_set_heap_limit(match.context, 64 * 1024);  // KiB
  const std::size_t starts =
      known_ ? text.size() : static_cast<std::size_t>(std::max<std::uint64_t>(1, text_limits::kMatchStarts / steps));
  const auto next_character = [&](std::size_t at) {
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
    return at;
  };
  Stopwatch watch;
  for (PCRE2_SIZE at = 0; at < text.size();) {
    const bool all = text.size() - at <= starts;
    pcre2_set_offset_limit(match.context, all ? PCRE2_UNSET : at + starts - 1);
    const int result = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                   PCRE2_NO_UTF_CHECK, match.data, match.context);
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
    const std::uint64_t slow = watch.slow_since_last_asked() ? kUnitsOfSlow : 0;
    LLORCH_OK(limit.charge(kUnitsOfMatch + slow + (result > 0 && range[1] > at ? (range[1] - at) / 8 : 0)));
    if (result == PCRE2_ERROR_NOMATCH) {
      if (all) return {};
      at = next_character(at + starts);
      continue;
    }
    if (result < 0)
      return fail(ErrorCode::kInvalidRequest,
                  "the text is too hard for the model's pre-tokenizer pattern (PCRE2 error {})", result);
    if (range[1] > range[0] && range[1] > at) {
      LLORCH_OK(found(range[0], range[1]));
      at = range[1];
    } else {  // an empty match: go on behind the next character
      at = next_character(std::max(at, range[1]) + 1);
    }
  }
  return {};
}

}  // namespace llorch
