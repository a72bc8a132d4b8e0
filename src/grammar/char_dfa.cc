#include "grammar/char_dfa.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "grammar/json_string.h"
#include "grammar/limits.h"
#include "text/utf8.h"

namespace llorch {

using namespace grammar_limits;

namespace {

/// A pattern with its repetitions unrolled (Thompson 1968). Jumps may be open at the text's begin or end alone.
class CharNfa {
 public:
  enum class When : std::uint8_t { kAlways, kAtBegin, kAtEnd };
  struct Jump {
    std::uint32_t to;
    When when;
  };
  struct State {
    std::vector<CharDfa::Arc> arcs;
    std::vector<Jump> jumps;
  };

  std::vector<State> states;
  std::uint32_t start = 0, end = 0;
  bool full = false;

  CharNfa(const Pattern& pattern, bool search, std::size_t& work) : pattern_(pattern), work_(work) {
    start = add(), end = add();
    std::uint32_t first = start, last = end;
    if (search) {
      states[start].arcs.push_back({0, kCodePointMax, start});
      first = add(), last = add();
      jump(start, first), jump(last, end);
      states[end].arcs.push_back({0, kCodePointMax, end});
    }
    build(pattern.root(), first, last);
  }

 private:
  std::uint32_t add() {
    if (states.size() >= kPatternNodesMax) full = true;
    if (full) return 0;
    states.emplace_back();
    return static_cast<std::uint32_t>(states.size() - 1);
  }
  void jump(std::uint32_t from, std::uint32_t to, When when = When::kAlways) {
    states[from].jumps.push_back({to, when});
  }

  void build(Pattern::Index index, std::uint32_t from, std::uint32_t to) {
    const Pattern::Node& node = pattern_.node(index);
    arcs_ += node.set.size(), work_ += 1 + node.set.size();
    if (arcs_ > kDfaArcsMax || work_ > kPatternWorkMax) full = true;
    if (full) return;
    switch (node.kind) {
      case Pattern::Kind::kRule:
      case Pattern::Kind::kEmpty: jump(from, to); break;
      case Pattern::Kind::kBegin: jump(from, to, When::kAtBegin); break;
      case Pattern::Kind::kEnd: jump(from, to, When::kAtEnd); break;
      case Pattern::Kind::kSet:
        for (const CodePoints& c : node.set) states[from].arcs.push_back({c.low, c.high, to});
        break;
      case Pattern::Kind::kChoice:
        for (const Pattern::Index child : node.children) {
          const std::uint32_t a = add();
          jump(from, a);
          build(child, a, to);
        }
        break;
      case Pattern::Kind::kSequence:
        for (std::size_t i = 0; i < node.children.size(); ++i) {
          const std::uint32_t next = i + 1 == node.children.size() ? to : add();
          build(node.children[i], from, next);
          from = next;
        }
        break;
      case Pattern::Kind::kRepeat: repeat(node, from, to); break;
    }
  }

  void repeat(const Pattern::Node& node, std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = 0; i < node.least && !full; ++i) {
      const std::uint32_t next = add();
      build(node.children[0], from, next);
      from = next;
    }
    if (node.most == kNone) {
      const std::uint32_t loop = add();
      jump(from, loop), jump(loop, to);
      const std::uint32_t back = add();
      jump(back, loop);
      build(node.children[0], loop, back);
      return;
    }
    for (std::uint32_t i = node.least; i < node.most && !full; ++i) {
      const std::uint32_t next = add();
      jump(from, to);
      build(node.children[0], from, next);
      from = next;
    }
    jump(from, to);
  }

  const Pattern& pattern_;
  std::size_t& work_;
  std::size_t arcs_ = 0;
};

using Set = std::vector<std::uint32_t>;

struct SetHash {
  std::size_t operator()(const Set& set) const {
    std::uint64_t h = set.size();
    for (const std::uint32_t s : set) h = (h ^ s) * 0x9e3779b97f4a7c15ull, h ^= h >> 29;
    return h;
  }
};

/// Subset construction.
class Subsets {
 public:
  Subsets(const CharNfa& nfa, std::size_t& work) : nfa_(nfa), work_(work), seen_(nfa.states.size(), 0) {}

  bool run(std::vector<CharDfa::State>& out) {
    id_of({nfa_.start}, true, out);
    for (std::size_t i = 0; i < sets_.size(); ++i)
      if (!expand(static_cast<std::uint32_t>(i), out)) return false;
    return true;
  }

 private:
  /// All that jumps lead to, `ends`: also those at the end of a text.
  Set close(const Set& from, bool begins, bool ends) {
    Set out, todo = from;
    ++round_;
    while (!todo.empty()) {
      const std::uint32_t s = todo.back();
      todo.pop_back();
      if (std::exchange(seen_[s], round_) == round_) continue;
      ++work_;
      out.push_back(s);
      for (const CharNfa::Jump& j : nfa_.states[s].jumps) {
        if (j.when == CharNfa::When::kAtBegin && !begins) continue;
        if (j.when == CharNfa::When::kAtEnd && !ends) continue;
        todo.push_back(j.to);
      }
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  /// Whatever comes, the text matches.
  [[nodiscard]] bool settled(const Set& set) const {
    if (!std::binary_search(set.begin(), set.end(), nfa_.end)) return false;
    const auto& arcs = nfa_.states[nfa_.end].arcs;
    return arcs.size() == 1 && arcs[0].low == 0 && arcs[0].high == kCodePointMax;
  }

  std::uint32_t id_of(const Set& targets, bool begins, std::vector<CharDfa::State>& out) {
    const Set whole = close(targets, begins, true);
    const bool accepts = std::binary_search(whole.begin(), whole.end(), nfa_.end);
    Set set = close(targets, begins, false);
    if (settled(set)) set = {nfa_.end};
    std::erase_if(set,
                  [&](std::uint32_t s) { return nfa_.states[s].arcs.empty() && s != nfa_.end && !leads_to_end(s); });
    if (begins) set.push_back(kNone);  // the start has jumps of its own
    const auto [found, fresh] = ids_.emplace(set, static_cast<std::uint32_t>(sets_.size()));
    if (!fresh) return found->second;
    if (begins) set.pop_back();
    sets_.push_back(std::move(set));
    out.emplace_back();
    out.back().accepts = accepts;
    return found->second;
  }
  [[nodiscard]] bool leads_to_end(std::uint32_t s) const {
    return std::any_of(nfa_.states[s].jumps.begin(), nfa_.states[s].jumps.end(),
                       [](const CharNfa::Jump& j) { return j.when == CharNfa::When::kAtEnd; });
  }

  bool expand(std::uint32_t id, std::vector<CharDfa::State>& out) {
    std::vector<CharDfa::Arc> arcs;
    std::vector<char32_t> borders;
    for (const std::uint32_t s : sets_[id])
      for (const CharDfa::Arc& a : nfa_.states[s].arcs) {
        arcs.push_back(a);
        borders.push_back(a.low);
        borders.push_back(a.high + 1);
      }
    std::sort(borders.begin(), borders.end());
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    Set targets;
    for (std::size_t i = 0; i + 1 < borders.size(); ++i) {
      targets.clear();
      for (const CharDfa::Arc& a : arcs)
        if (a.low <= borders[i] && borders[i] <= a.high) targets.push_back(a.to);
      work_ += arcs.size();
      if (work_ > kPatternWorkMax || sets_.size() > kDfaStatesMax || arcs_ > kDfaArcsMax) return false;
      if (targets.empty()) continue;
      std::sort(targets.begin(), targets.end());
      targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
      const std::uint32_t to = id_of(targets, false, out);
      auto& mine = out[id].arcs;
      if (!mine.empty() && mine.back().to == to && mine.back().high + 1 == borders[i])
        mine.back().high = borders[i + 1] - 1;
      else
        mine.push_back({borders[i], borders[i + 1] - 1, to}), ++arcs_;
    }
    return true;
  }

  const CharNfa& nfa_;
  std::size_t& work_;
  std::vector<std::uint32_t> seen_;
  std::uint32_t round_ = 0;
  std::vector<Set> sets_;
  std::unordered_map<Set, std::uint32_t, SetHash> ids_;
  std::size_t arcs_ = 0;
};

}  // namespace

std::optional<CharDfa> CharDfa::search(const Pattern& pattern, std::size_t& work) {
  const CharNfa nfa(pattern, true, work);
  CharDfa dfa;
  if (nfa.full || !Subsets(nfa, work).run(dfa.states_)) return std::nullopt;
  return dfa;
}

std::optional<CharDfa> CharDfa::match(const Pattern& pattern, std::size_t& work) {
  const CharNfa nfa(pattern, false, work);
  CharDfa dfa;
  if (nfa.full || !Subsets(nfa, work).run(dfa.states_)) return std::nullopt;
  return dfa;
}

std::optional<CharDfa> CharDfa::length(std::uint32_t least, std::uint32_t most) {
  const std::uint32_t last = most == kNone ? least : most;
  if (last >= kDfaStatesMax) return std::nullopt;
  CharDfa dfa;
  dfa.states_.resize(last + 1u);
  for (std::uint32_t i = 0; i <= last; ++i) {
    dfa.states_[i].accepts = i >= least;
    if (i < last) dfa.states_[i].arcs.push_back({0, kCodePointMax, i + 1});
  }
  if (most == kNone) dfa.states_[last].arcs.push_back({0, kCodePointMax, last});
  return dfa;
}

std::optional<CharDfa> CharDfa::before(std::string_view end) {
  std::u32string want;
  for (std::size_t i = 0; i < end.size();) {
    const int length = std::max(1, utf8_sequence(end.substr(i)));
    want += utf8_code_point(end.substr(i), length);
    i += static_cast<std::size_t>(length);
  }
  if (want.empty() || want.size() > kEndTextMax) return std::nullopt;
  // A state is how many characters of `end` have just come (Knuth, Morris, Pratt 1977).
  const auto next = [&](std::size_t come, char32_t c) {
    std::u32string read = want.substr(0, come) + c;
    while (!want.starts_with(read)) read.erase(0, 1);
    return read.size();
  };
  const std::set<char32_t> letters(want.begin(), want.end());
  CharDfa dfa;
  for (std::size_t come = 0; come < want.size(); ++come) {
    State& state = dfa.states_.emplace_back();
    char32_t free = 0;  // characters from here on are none of the letters
    for (const char32_t c : letters) {
      if (free < c) state.arcs.push_back({free, c - 1, 0});
      if (const std::size_t to = next(come, c); to < want.size())
        state.arcs.push_back({c, c, static_cast<std::uint32_t>(to)});
      free = c + 1;
    }
    if (free <= kCodePointMax) state.arcs.push_back({free, kCodePointMax, 0});
    std::size_t at = come, read = 0;
    while (read < want.size() && (at = next(at, want[read])) < want.size()) ++read;
    state.accepts = read + 1 == want.size();
  }
  return dfa;
}

std::optional<CharDfa> CharDfa::of_texts(std::span<const std::string_view> texts) {
  CharDfa dfa;
  dfa.states_.emplace_back();
  std::vector<std::map<char32_t, std::uint32_t>> next(1);
  for (const std::string_view text : texts) {
    std::uint32_t state = 0;
    for (std::size_t i = 0; i < text.size();) {
      const int length = std::max(1, utf8_sequence(text.substr(i)));
      const char32_t c = utf8_code_point(text.substr(i), length);
      i += static_cast<std::size_t>(length);
      const auto [found, fresh] = next[state].emplace(c, static_cast<std::uint32_t>(next.size()));
      state = found->second;
      if (!fresh) continue;
      if (next.size() >= kDfaStatesMax) return std::nullopt;
      next.emplace_back(), dfa.states_.emplace_back();
    }
    dfa.states_[state].accepts = true;
  }
  for (std::size_t s = 0; s < next.size(); ++s)
    for (const auto& [c, to] : next[s]) dfa.states_[s].arcs.push_back({c, c, to});
  return dfa;
}

CharDfa CharDfa::complement() const {
  CharDfa out = *this;
  const auto sink = static_cast<std::uint32_t>(out.states_.size());
  out.states_.emplace_back();
  for (State& state : out.states_) {
    state.accepts = !state.accepts;
    std::vector<Arc> arcs;
    char32_t next = 0;
    for (const Arc& a : state.arcs) {
      if (a.low > next) arcs.push_back({next, a.low - 1, sink});
      arcs.push_back(a);
      next = a.high + 1;
    }
    if (next <= kCodePointMax) arcs.push_back({next, kCodePointMax, sink});
    state.arcs = std::move(arcs);
  }
  return out;
}

std::optional<CharDfa> CharDfa::both(const CharDfa& a, const CharDfa& b, std::size_t& work) {
  work += a.weight() + b.weight();
  if (work > kPatternWorkMax) return std::nullopt;
  CharDfa out;
  std::unordered_map<std::uint64_t, std::uint32_t> ids;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
  const std::vector<bool> alive_a = a.can_accept(), alive_b = b.can_accept();
  const auto id_of = [&](std::uint32_t x, std::uint32_t y) {
    const auto [found, fresh] = ids.emplace(std::uint64_t{x} << 32 | y, static_cast<std::uint32_t>(pairs.size()));
    if (fresh) {
      pairs.emplace_back(x, y);
      out.states_.emplace_back();
      out.states_.back().accepts = a.states_[x].accepts && b.states_[y].accepts;
    }
    return found->second;
  };
  id_of(0, 0);
  std::size_t arcs = 0;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto [x, y] = pairs[i];
    std::vector<Arc> mine;
    auto p = a.states_[x].arcs.begin();
    auto q = b.states_[y].arcs.begin();
    while (p != a.states_[x].arcs.end() && q != b.states_[y].arcs.end()) {
      const char32_t low = std::max(p->low, q->low), high = std::min(p->high, q->high);
      if (low <= high && alive_a[p->to] && alive_b[q->to]) mine.push_back({low, high, id_of(p->to, q->to)});
      ++(p->high < q->high ? p : q);
      ++work;
    }
    arcs += mine.size();
    out.states_[i].arcs = std::move(mine);
    if (work > kPatternWorkMax || pairs.size() > kDfaStatesMax || arcs > kDfaArcsMax) return std::nullopt;
  }
  return out;
}

bool CharDfa::accepts(std::string_view text) const {
  std::uint32_t state = 0;
  for (std::size_t i = 0; i < text.size();) {
    const int length = utf8_sequence(text.substr(i));
    if (length <= 0) return false;
    const char32_t c = utf8_code_point(text.substr(i), length);
    i += static_cast<std::size_t>(length);
    const auto& arcs = states_[state].arcs;
    const auto arc = std::lower_bound(arcs.begin(), arcs.end(), c, [](const Arc& a, char32_t x) { return a.high < x; });
    if (arc == arcs.end() || c < arc->low) return false;
    state = arc->to;
  }
  return states_[state].accepts;
}

std::size_t CharDfa::weight() const {
  std::size_t out = states_.size();
  for (const State& state : states_) out += state.arcs.size();
  return out;
}

std::vector<bool> CharDfa::can_accept() const {
  std::vector<std::vector<std::uint32_t>> sources(states_.size());
  std::vector<bool> alive(states_.size(), false);
  std::vector<std::uint32_t> todo;
  for (std::uint32_t s = 0; s < states_.size(); ++s) {
    for (const Arc& a : states_[s].arcs) sources[a.to].push_back(s);
    if (states_[s].accepts) alive[s] = true, todo.push_back(s);
  }
  while (!todo.empty()) {
    const std::uint32_t s = todo.back();
    todo.pop_back();
    for (const std::uint32_t from : sources[s])
      if (!alive[from]) alive[from] = true, todo.push_back(from);
  }
  return alive;
}

bool CharDfa::empty() const { return !can_accept()[0]; }

std::pair<std::uint32_t, std::uint32_t> CharDfa::lengths() const {
  const std::vector<bool> alive = can_accept();
  if (!alive[0]) return {kNone, kNone};
  std::vector<std::uint32_t> distance(states_.size(), kNone), order{0};
  distance[0] = 0;
  std::uint32_t shortest = kNone;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint32_t s = order[i];
    if (states_[s].accepts) shortest = std::min(shortest, distance[s]);
    for (const Arc& a : states_[s].arcs)
      if (distance[a.to] == kNone) distance[a.to] = distance[s] + 1, order.push_back(a.to);
  }
  // The longest path, where there is no circle: states in topological order.
  std::vector<std::uint32_t> waiting(states_.size(), 0), longest(states_.size(), 0), ready;
  std::size_t live = 0, done = 0;
  for (const std::uint32_t s : order) {
    if (!alive[s]) continue;
    ++live;
    for (const Arc& a : states_[s].arcs)
      if (alive[a.to]) ++waiting[a.to];
  }
  if (waiting[0] == 0) ready.push_back(0);
  std::uint32_t most = 0;
  while (!ready.empty()) {
    const std::uint32_t s = ready.back();
    ready.pop_back();
    ++done;
    most = std::max(most, longest[s]);
    for (const Arc& a : states_[s].arcs) {
      if (!alive[a.to]) continue;
      longest[a.to] = std::max(longest[a.to], longest[s] + 1);
      if (--waiting[a.to] == 0) ready.push_back(a.to);
    }
  }
  return {shortest, done == live ? most : kNone};
}

void CharDfa::write(Network& net, NetState from, NetState to, bool as_json) const {
  std::vector<NetState> nodes(states_.size(), kNone);
  std::map<std::tuple<char32_t, char32_t, std::uint32_t>, NetState> shared;  // edges of one arc, made once
  const std::vector<bool> alive = can_accept();
  const auto node = [&](std::uint32_t s) { return nodes[s] == kNone ? nodes[s] = net.add_state() : nodes[s]; };
  for (std::uint32_t s = 0; s < states_.size() && !net.full(); ++s) {
    if (!alive[s]) continue;
    const NetState here = node(s);
    if (states_[s].accepts) as_json ? net.add_edge(here, '"', '"', to) : net.add_jump(here, to);
    for (const Arc& a : states_[s].arcs) {
      if (!alive[a.to]) continue;
      NetState& edges = shared.try_emplace({a.low, a.high, a.to}, kNone).first->second;
      if (edges == kNone) {
        edges = net.add_state();
        if (as_json)
          add_plain_characters(net, edges, a.low, a.high, node(a.to));
        else
          net.add_code_points(edges, a.low, a.high, node(a.to));
      }
      for (std::uint32_t e = net.state(edges).edges; e != kNone; e = net.edge(e).next)
        net.add_edge(here, net.edge(e).low, net.edge(e).high, net.edge(e).to);
    }
  }
  if (alive[0]) net.add_jump(from, node(0));
}

}  // namespace llorch
