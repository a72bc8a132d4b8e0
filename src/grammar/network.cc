#include "grammar/network.h"

#include <algorithm>
#include <array>

#include "grammar/limits.h"

namespace llorch {

using namespace grammar_limits;

NetState Network::add_state() {
  if (states_.size() >= kNetStatesMax) {
    full_ = true;
    return 0;
  }
  states_.emplace_back();
  return static_cast<NetState>(states_.size() - 1);
}

NetRule Network::add_rule(std::string_view name) {
  if (rules_.size() >= kRulesMax) {
    full_ = true;
    return 0;
  }
  rules_.push_back({add_state(), false, std::string(name)});
  return static_cast<NetRule>(rules_.size() - 1);
}

void Network::add_edge(NetState from, std::uint8_t low, std::uint8_t high, NetState to) {
  if (edges_.size() >= kNetEdgesMax) full_ = true;
  if (full_) return;
  edges_.push_back({low, high, to, states_[from].edges});
  states_[from].edges = static_cast<std::uint32_t>(edges_.size() - 1);
}

void Network::add_jump(NetState from, NetState to) {
  if (edges_.size() >= kNetEdgesMax) full_ = true;
  if (full_) return;
  edges_.push_back({0, 0, to, states_[from].jumps});
  states_[from].jumps = static_cast<std::uint32_t>(edges_.size() - 1);
}

void Network::add_call(NetState from, NetRule rule, NetState after, std::uint32_t least, std::uint32_t most) {
  if (full_) return;
  states_[from].call = static_cast<std::uint32_t>(calls_.size());
  calls_.push_back({rule, after, least, most});
}

NetState Network::add_literal(NetState from, std::string_view bytes) {
  for (const char c : bytes) {
    const NetState next = add_state();
    add_edge(from, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), next);
    from = next;
  }
  return from;
}

namespace {

struct Utf8 {
  std::array<std::uint8_t, 4> bytes;
  int size;
};

Utf8 encode(char32_t c) {
  const auto tail = [&](int shift) { return static_cast<std::uint8_t>(0x80 | ((c >> shift) & 0x3f)); };
  if (c < 0x80) return {{static_cast<std::uint8_t>(c)}, 1};
  if (c < 0x800) return {{static_cast<std::uint8_t>(0xc0 | (c >> 6)), tail(0)}, 2};
  if (c < 0x10000) return {{static_cast<std::uint8_t>(0xe0 | (c >> 12)), tail(6), tail(0)}, 3};
  return {{static_cast<std::uint8_t>(0xf0 | (c >> 18)), tail(12), tail(6), tail(0)}, 4};
}

/// Both ends have the same size and differ in such a way that each byte's range is free of the others'.
void add_sequences(Network& net, NetState from, char32_t low, char32_t high, NetState to) {
  const Utf8 a = encode(low), b = encode(high);
  for (int i = 1; i < a.size; ++i) {  // cut where the upper bytes change
    const char32_t mask = (char32_t{1} << (6 * i)) - 1;
    if ((low & ~mask) == (high & ~mask)) continue;
    if (low & mask) {
      add_sequences(net, from, low, low | mask, to);
      return add_sequences(net, from, (low | mask) + 1, high, to);
    }
    if ((high & mask) != mask) {
      add_sequences(net, from, low, (high & ~mask) - 1, to);
      return add_sequences(net, from, high & ~mask, high, to);
    }
  }
  for (int i = 0; i < a.size; ++i) {
    const NetState next = i + 1 == a.size ? to : net.add_state();
    net.add_edge(from, a.bytes[static_cast<std::size_t>(i)], b.bytes[static_cast<std::size_t>(i)], next);
    from = next;
  }
}

}  // namespace

void Network::add_code_points(NetState from, char32_t low, char32_t high, NetState to) {
  constexpr std::pair<char32_t, char32_t> kSizes[] = {
      {0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, 0x10ffff}};
  for (const auto& [first, last] : kSizes) {
    const char32_t a = std::max(low, first), b = std::min(high, last);
    if (a <= b && !full_) add_sequences(*this, from, a, b, to);
  }
}

NetRule Network::append(const Network& other) {
  full_ |= states_.size() + other.states_.size() > kNetStatesMax ||
           edges_.size() + other.edges_.size() > kNetEdgesMax || rules_.size() + other.rules_.size() > kRulesMax;
  if (full_) return 0;
  const auto state = static_cast<NetState>(states_.size());
  const auto edge = static_cast<std::uint32_t>(edges_.size()), call = static_cast<std::uint32_t>(calls_.size());
  const auto rule = static_cast<NetRule>(rules_.size());
  const auto moved = [](std::uint32_t index, std::uint32_t by) { return index == kNone ? kNone : index + by; };
  for (State s : other.states_) {
    s.edges = moved(s.edges, edge), s.jumps = moved(s.jumps, edge);
    s.call = moved(s.call, call), s.fallback = moved(s.fallback, state);
    states_.push_back(s);
  }
  for (const Edge& e : other.edges_) edges_.push_back({e.low, e.high, e.to + state, moved(e.next, edge)});
  for (const Call& c : other.calls_) calls_.push_back({c.rule + rule, c.after + state, c.least, c.most});
  for (const Rule& r : other.rules_) rules_.push_back({r.start + state, false, r.name});
  return other.root_ + rule;
}

bool Network::passes(NetState s, const std::vector<bool>& marks, bool bytes) const {
  const State& state = states_[s];
  for (std::uint32_t e = state.jumps; e != kNone; e = edges_[e].next)
    if (marks[edges_[e].to]) return true;
  for (std::uint32_t e = bytes ? state.edges : kNone; e != kNone; e = edges_[e].next)
    if (marks[edges_[e].to]) return true;
  if (bytes && state.fallback != kNone && marks[state.fallback]) return true;
  if (state.call == kNone) return false;
  const Call& call = calls_[state.call];
  return marks[call.after] && (call.least == 0 || marks[rules_[call.rule].start]);
}

std::vector<bool> Network::reaching_end(bool bytes) const {
  // What leads to a state is listed once, so that each state is looked at when one of its targets is marked.
  std::vector<std::uint32_t> first(states_.size() + 1, 0);
  const auto each_target = [&](NetState s, const auto& f) {
    const State& state = states_[s];
    for (std::uint32_t e = bytes ? state.edges : kNone; e != kNone; e = edges_[e].next) f(edges_[e].to);
    for (std::uint32_t e = state.jumps; e != kNone; e = edges_[e].next) f(edges_[e].to);
    if (bytes && state.fallback != kNone) f(state.fallback);
    if (state.call == kNone) return;
    f(calls_[state.call].after);
    f(rules_[calls_[state.call].rule].start);
  };
  const auto size = static_cast<NetState>(states_.size());
  for (NetState s = 0; s < size; ++s) each_target(s, [&](NetState to) { ++first[to + 1]; });
  for (std::size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
  std::vector<NetState> sources(first.back()), at(first.begin(), first.end() - 1), work;
  std::vector<bool> marks(states_.size(), false);
  for (NetState s = 0; s < size; ++s) {
    each_target(s, [&](NetState to) { sources[at[to]++] = s; });
    if (states_[s].end) marks[s] = true, work.push_back(s);
  }
  while (!work.empty()) {
    const NetState s = work.back();
    work.pop_back();
    for (std::uint32_t i = first[s]; i < first[s + 1]; ++i) {
      if (marks[sources[i]] || !passes(sources[i], marks, bytes)) continue;
      marks[sources[i]] = true;
      work.push_back(sources[i]);
    }
  }
  return marks;
}

std::vector<NetRule> Network::begins_with(NetRule rule, std::vector<NetRule>& seen) const {
  std::vector<NetRule> out;
  std::vector<NetState> work{rules_[rule].start};
  while (!work.empty()) {
    const NetState s = work.back();
    work.pop_back();
    if (std::exchange(seen[s], rule) == rule) continue;
    for (std::uint32_t e = states_[s].jumps; e != kNone; e = edges_[e].next) work.push_back(edges_[e].to);
    if (states_[s].call == kNone) continue;
    const Call& call = calls_[states_[s].call];
    if (call.most > 0) out.push_back(call.rule);
    if (call.least == 0 || rules_[call.rule].nullable) work.push_back(call.after);
  }
  return out;
}

Compiled<void> Network::check_left_recursion() const {
  enum : std::uint8_t { kNew, kOpen, kDone };
  std::vector<std::uint8_t> marks(rules_.size(), kNew);
  struct Frame {
    NetRule rule;
    std::vector<NetRule> callees;
    std::size_t at = 0;
  };
  std::vector<std::size_t> heights(rules_.size(), 0);
  std::vector<NetRule> seen(states_.size(), kNone);
  for (NetRule root = 0; root < rules_.size(); ++root) {
    if (marks[root] != kNew) continue;
    std::vector<Frame> stack{{root, begins_with(root, seen)}};
    marks[root] = kOpen;
    while (!stack.empty()) {
      Frame& top = stack.back();
      if (top.at == top.callees.size()) {
        marks[top.rule] = kDone;
        const std::size_t height = heights[top.rule] + 1;
        stack.pop_back();
        if (!stack.empty()) heights[stack.back().rule] = std::max(heights[stack.back().rule], height);
        if (height > kLeftDepthMax)
          return refuse("", "grammar", "more than {} rules begin with one another", kLeftDepthMax);
        continue;
      }
      const NetRule callee = top.callees[top.at++];
      if (marks[callee] == kOpen)
        return refuse(rules_[callee].name, "grammar", "the rule begins with itself (left recursion)");
      if (marks[callee] == kDone) {
        heights[top.rule] = std::max(heights[top.rule], heights[callee] + 1);
        continue;
      }
      marks[callee] = kOpen;
      stack.push_back({callee, begins_with(callee, seen)});
    }
  }
  return {};
}

Compiled<void> Network::finish(NetRule root) {
  if (full_)
    return refuse("", "grammar", "it takes more than {} states, {} edges or {} rules", kNetStatesMax, kNetEdgesMax,
                  kRulesMax);
  root_ = root;
  const std::vector<bool> alive = reaching_end(true);
  for (NetState s = 0; s < states_.size(); ++s) states_[s].alive = alive[s];
  if (!states_[rules_[root].start].alive) return refuse("", "grammar", "no text can satisfy it");
  const std::vector<bool> empty = reaching_end(false);
  for (Rule& rule : rules_) rule.nullable = empty[rule.start];
  return check_left_recursion();
}

}  // namespace llorch
