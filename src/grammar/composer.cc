#include "grammar/composer.h"

#include <map>

#include "grammar/vocabulary.h"

namespace llorch {

NetRule GrammarComposer::literal(std::string_view bytes) {
  const NetRule rule = net_->add_rule();
  net_->set_end(net_->add_literal(net_->rule(rule).start, bytes));
  return rule;
}

NetRule GrammarComposer::sequence(std::span<const Part> parts) {
  const NetRule rule = net_->add_rule();
  NetState at = net_->rule(rule).start;
  for (const Part part : parts) {
    const NetState after = net_->add_state();
    net_->add_call(at, part, after);
    at = after;
  }
  net_->set_end(at);
  return rule;
}

NetRule GrammarComposer::any_of(std::span<const Part> parts) {
  const NetRule rule = net_->add_rule();
  const NetState end = net_->add_state();
  net_->set_end(end);
  for (const Part part : parts) {
    const NetState at = net_->add_state();
    net_->add_jump(net_->rule(rule).start, at);
    net_->add_call(at, part, end);
  }
  return rule;
}

NetRule GrammarComposer::repeat(Part part, std::uint32_t least, std::uint32_t most) {
  const NetRule rule = net_->add_rule();
  const NetState end = net_->add_state();
  net_->set_end(end);
  net_->add_call(net_->rule(rule).start, part, end, least, most);
  return rule;
}

NetRule GrammarComposer::byte_of(std::span<const std::pair<char, char>> ranges) {
  const NetRule rule = net_->add_rule();
  const NetState end = net_->add_state();
  net_->set_end(end);
  for (const auto& [low, high] : ranges)
    net_->add_edge(net_->rule(rule).start, static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), end);
  return rule;
}

namespace {

/// Of each beginning of `mark`, how much of its end is a beginning too (Knuth, Morris, Pratt 1977).
std::vector<std::size_t> borders(std::string_view mark) {
  std::vector<std::size_t> out(mark.size() + 1, 0);
  for (std::size_t i = 1, k = 0; i < mark.size(); ++i) {
    while (k > 0 && mark[i] != mark[k]) k = out[k];
    if (mark[i] == mark[k]) ++k;
    out[i + 1] = k;
  }
  return out;
}

/// Edges of a state that text reaches when `matched` bytes of the mark have just come.
void add_edges(Network& net, std::string_view mark, std::size_t matched, const std::vector<std::size_t>& back,
               const std::vector<NetState>& states) {
  const NetState from = states[matched];
  const auto edge = [&](unsigned low, unsigned high, NetState to) {
    net.add_edge(from, static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), to);
  };
  if (mark.front() == kControlBegins) {  // its bytes are in no text: nothing of it can begin anew inside
    const unsigned byte = static_cast<std::uint8_t>(mark[matched]);
    edge(byte, byte, states[matched + 1]);
    if (matched == 0) edge(0, kTextBytesEnd - 1, from);
    return;
  }
  std::map<unsigned, NetState> named;  // bytes that do not lead back to the start
  for (std::size_t k = matched;; k = back[k]) {
    named.emplace(static_cast<std::uint8_t>(mark[k]), states[k + 1]);
    if (k == 0) break;
  }
  unsigned low = 0;
  for (const auto& [byte, to] : named) {
    if (low < byte) edge(low, byte - 1, states[0]);
    edge(byte, byte, to);
    low = byte + 1;
  }
  if (low < kTextBytesEnd) edge(low, kTextBytesEnd - 1, states[0]);
}

}  // namespace

/// A rule that reads text, and its states by how much of the mark has just come; the last one is behind the mark.
std::pair<NetRule, std::vector<NetState>> GrammarComposer::follow(std::string_view mark) {
  const NetRule rule = net_->add_rule();
  std::vector<NetState> states{net_->rule(rule).start};
  while (states.size() <= mark.size()) states.push_back(net_->add_state());
  const std::vector<std::size_t> back = borders(mark);
  for (std::size_t matched = 0; matched < mark.size() && !net_->full(); ++matched)
    add_edges(*net_, mark, matched, back, states);
  return {rule, std::move(states)};
}

NetRule GrammarComposer::until(std::string_view mark) {
  const auto [rule, states] = follow(mark);
  if (!mark.empty()) net_->set_end(states.back());
  return rule;
}

NetRule GrammarComposer::without(std::string_view mark) {
  const auto [rule, states] = follow(mark);
  const bool control = !mark.empty() && mark.front() == kControlBegins;  // a mark that has begun comes to its end
  for (std::size_t i = 0; i < (control ? 1 : mark.size()); ++i) net_->set_end(states[i]);
  return rule;
}

Compiled<Grammar> GrammarComposer::finish(Part root) {
  LLORCH_OK(net_->finish(root));
  return Grammar(std::move(net_));
}

}  // namespace llorch
