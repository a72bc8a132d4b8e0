// Grammars put together: texts, marks, and other grammars in sequence, by choice, repeated.
#include <algorithm>
#include <utility>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/vocabulary.h"

namespace llorch {
namespace {

/// A network under construction: one rule, from `start` to `end`.
struct Draft {
  std::shared_ptr<Network> net = std::make_shared<Network>();
  NetRule root = net->add_rule();
  NetState start = net->rule(root).start, end = net->add_state();

  Compiled<Grammar> finish() {
    net->set_end(end);
    LLORCH_OK(net->finish(root));
    return Grammar(std::shared_ptr<const Network>(std::move(net)));
  }
};

/// How much of `mark` the end of `mark`.substr(0, matched) + byte is (Knuth, Morris, Pratt 1977).
std::vector<std::size_t> borders(std::string_view mark) {
  std::vector<std::size_t> out(mark.size() + 1, 0);
  for (std::size_t i = 1, k = 0; i < mark.size(); ++i) {
    while (k > 0 && mark[i] != mark[k]) k = out[k];
    if (mark[i] == mark[k]) ++k;
    out[i + 1] = k;
  }
  return out;
}

}  // namespace

Compiled<Grammar> Grammar::from_text(std::string_view text) {
  Draft draft;
  draft.net->add_jump(draft.net->add_literal(draft.start, text), draft.end);
  return draft.finish();
}

Compiled<Grammar> Grammar::until(std::string_view mark) {
  if (mark.empty()) return refuse("", "grammar", "a mark is empty");
  Draft draft;
  Network& net = *draft.net;
  const std::vector<std::size_t> back = borders(mark);
  std::vector<NetState> states{draft.start};
  while (states.size() < mark.size()) states.push_back(net.add_state());
  states.push_back(draft.end);
  const bool control = mark.front() == kControlBegins;
  for (std::size_t matched = 0; matched < mark.size(); ++matched) {
    if (control) {  // its bytes are in no text: nothing of it can begin anew inside
      const auto byte = static_cast<std::uint8_t>(mark[matched]);
      net.add_edge(states[matched], byte, byte, states[matched + 1]);
      if (matched == 0) net.add_edge(states[0], 0, kTextBytesEnd - 1, states[0]);
      continue;
    }
    std::vector<std::pair<unsigned, NetState>> named;  // bytes that do not lead back to the start
    for (std::size_t k = matched;; k = back[k]) {
      const unsigned byte = static_cast<std::uint8_t>(mark[k]);
      if (std::ranges::find(named, byte, &std::pair<unsigned, NetState>::first) == named.end())
        named.emplace_back(byte, states[k + 1]);
      if (k == 0) break;
    }
    std::ranges::sort(named);
    unsigned low = 0;
    for (const auto& [byte, to] : named) {
      if (low < byte)
        net.add_edge(states[matched], static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(byte - 1), states[0]);
      net.add_edge(states[matched], static_cast<std::uint8_t>(byte), static_cast<std::uint8_t>(byte), to);
      low = byte + 1;
    }
    if (low < kTextBytesEnd)
      net.add_edge(states[matched], static_cast<std::uint8_t>(low), kTextBytesEnd - 1, states[0]);
  }
  return draft.finish();
}

Compiled<Grammar> Grammar::sequence(std::span<const Grammar> parts) {
  Draft draft;
  NetState at = draft.start;
  for (const Grammar& part : parts) {
    const NetRule rule = draft.net->append(*part.network());
    const NetState after = draft.net->add_state();
    draft.net->add_call(at, rule, after);
    at = after;
  }
  draft.net->add_jump(at, draft.end);
  return draft.finish();
}

Compiled<Grammar> Grammar::choice(std::span<const Grammar> parts) {
  Draft draft;
  for (const Grammar& part : parts) {
    const NetRule rule = draft.net->append(*part.network());
    const NetState at = draft.net->add_state();
    draft.net->add_jump(draft.start, at);
    draft.net->add_call(at, rule, draft.end);
  }
  return draft.finish();
}

Compiled<Grammar> Grammar::repeat(const Grammar& part, std::uint32_t least, std::uint32_t most) {
  Draft draft;
  const NetRule rule = draft.net->append(*part.network());
  draft.net->add_call(draft.start, rule, draft.end, least, most);
  return draft.finish();
}

}  // namespace llorch
