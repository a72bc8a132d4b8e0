// A grammar as a network: rules whose states have edges over bytes, jumps that read nothing, and calls of other rules,
// once or a counted number of times. One network carries JSON schemas, patterns and GBNF.
//
// The method is the recursive transition network (Woods 1970). Counts stay numbers, so that a{1,1000000} takes three
// states. Build: add rules, states and edges, then finish(). After finish() it is const and safe from any thread.
// Errors: full() once a budget of grammar/limits.h is used up; what is added then is dropped.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/refusal.h"

namespace llorch {

using NetState = std::uint32_t;
using NetRule = std::uint32_t;
inline constexpr std::uint32_t kNone = 0xffffffff;

/// Inside of a JSON string without constraints; masks of such states come from tables of the vocabulary.
enum class StringBody : std::uint8_t {
  kOther,
  kFree,        // any character in any spelling, any number of them
  kPlain,       // the same, each character in its one spelling (names of properties)
  kPlainBut,    // as kPlain up to the closing quote, which not every text may have
  kFreeCounted  // at the border of two characters of a string whose length is limited
};

class Network {
 public:
  struct Edge {
    std::uint8_t low, high;
    NetState to;
    std::uint32_t next;  // another edge of the same state
  };
  struct Call {
    NetRule rule;
    NetState after;
    std::uint32_t least, most;  // times; kNone: no limit
  };
  struct State {
    std::uint32_t edges = kNone;
    std::uint32_t jumps = kNone;  // edges, whose bytes mean nothing
    std::uint32_t call = kNone;
    NetState fallback = kNone;  // bytes that no edge names go as from that state
    bool end = false;           // of the rule
    bool alive = false;         // an end can be reached
    StringBody body = StringBody::kOther;
  };
  struct Rule {
    NetState start;
    bool nullable = false;
    std::string name;  // of GBNF
  };

  [[nodiscard]] NetState add_state();
  [[nodiscard]] NetRule add_rule(std::string_view name = {});
  void add_edge(NetState from, std::uint8_t low, std::uint8_t high, NetState to);
  void add_jump(NetState from, NetState to);
  /// Replaces the state's call: a state has one.
  void add_call(NetState from, NetRule rule, NetState after, std::uint32_t least = 1, std::uint32_t most = 1);
  void set_end(NetState state) { states_[state].end = true; }
  void set_fallback(NetState state, NetState other) { states_[state].fallback = other; }
  void set_body(NetState state, StringBody body) { states_[state].body = body; }
  /// The state behind a literal that begins at `from`.
  [[nodiscard]] NetState add_literal(NetState from, std::string_view bytes);
  /// Edges for the code points low to high, as UTF-8, from `from` to `to`. Surrogates are left out.
  void add_code_points(NetState from, char32_t low, char32_t high, NetState to);

  /// A copy of another network, which is finished; the rule that it is here.
  [[nodiscard]] NetRule append(const Network& other);

  /// Finds which states can end, which rules may be empty. Errors: keyword "grammar", where nothing can match, where a
  /// rule begins with itself, or a budget is used up.
  [[nodiscard]] Compiled<void> finish(NetRule root);

  [[nodiscard]] bool full() const { return full_; }
  [[nodiscard]] NetRule root() const { return root_; }
  [[nodiscard]] std::size_t size() const { return states_.size(); }
  [[nodiscard]] const State& state(NetState s) const { return states_[s]; }
  [[nodiscard]] const Rule& rule(NetRule r) const { return rules_[r]; }
  [[nodiscard]] std::size_t rules() const { return rules_.size(); }
  [[nodiscard]] const Edge& edge(std::uint32_t e) const { return edges_[e]; }
  [[nodiscard]] const Call& call(std::uint32_t c) const { return calls_[c]; }
  /// Bytes in a row.
  struct Range {
    std::uint8_t low = 0, high = 255;
  };
  /// f(state) for each state where `byte` leads. At most one edge of a state names a byte in networks whose states need
  /// to be exact (fallbacks). Narrows `alike`, which holds `byte`, to bytes that lead to the same states.
  template<class F>
  void each(NetState from, std::uint8_t byte, Range& alike, const F& f) const {
    for (NetState s = from; s != kNone; s = states_[s].fallback) {
      bool named = false;
      for (std::uint32_t e = states_[s].edges; e != kNone; e = edges_[e].next) {
        const Edge& edge = edges_[e];
        if (byte < edge.low) {
          alike.high = std::min(alike.high, static_cast<std::uint8_t>(edge.low - 1));
        } else if (byte > edge.high) {
          alike.low = std::max(alike.low, static_cast<std::uint8_t>(edge.high + 1));
        } else {
          named = true;
          alike = {std::max(alike.low, edge.low), std::min(alike.high, edge.high)};
          if (states_[edge.to].alive) f(edge.to);
        }
      }
      if (named) return;
    }
  }

 private:
  /// The states from which a rule's end can be reached; not `bytes`: without reading any.
  [[nodiscard]] std::vector<bool> reaching_end(bool bytes) const;
  [[nodiscard]] bool passes(NetState s, const std::vector<bool>& marks, bool bytes) const;
  [[nodiscard]] Compiled<void> check_left_recursion() const;
  [[nodiscard]] std::vector<NetRule> begins_with(NetRule rule, std::vector<NetRule>& seen) const;

  std::vector<State> states_;
  std::vector<Edge> edges_;
  std::vector<Call> calls_;
  std::vector<Rule> rules_;
  NetRule root_ = 0;
  bool full_ = false;
};

}  // namespace llorch
