#include "grammar/composer.h"

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

Compiled<Grammar> GrammarComposer::finish(Part root) {
  LLORCH_OK(net_->finish(root));
  return Grammar(std::move(net_));
}

}  // namespace llorch
