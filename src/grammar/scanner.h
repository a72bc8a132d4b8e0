// What readers of patterns and of GBNF share: a place in a text, and errors that name it.
#pragma once

#include <string_view>
#include <utility>

#include "grammar/refusal.h"

namespace llorch {

class Scanner {
 protected:
  /// `keyword`: of refusals.
  Scanner(std::string_view text, std::string_view keyword) : text_(text), keyword_(keyword) {}

  template<class... Args>
  [[nodiscard]] std::unexpected<Refusal> bad(fmt::format_string<Args...> format, Args&&... args) const {
    return refuse(fmt::format("byte {}", at_), keyword_, format, std::forward<Args>(args)...);
  }
  [[nodiscard]] bool more() const { return at_ < text_.size(); }
  /// NUL behind the end.
  [[nodiscard]] char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }

  std::string_view text_, keyword_;
  std::size_t at_ = 0;
};

}  // namespace llorch
