// For tests: a network read as slowly and as plainly as its definition, without automaton, frames or sharing.
//
// Where a rule that is begun at a position may end is a set of positions; sets grow until none changes. Exponential in
// nothing, but quadratic in the text: texts of some tens of bytes.
#pragma once

#include <map>
#include <set>
#include <string_view>

#include "grammar/network.h"

namespace llorch {

class ReferenceMatcher {
 public:
  ReferenceMatcher(const Network& net, std::string_view text) : net_(net), text_(text) {}

  bool accepts() {
    for (bool changed = true; changed;) {
      changed = false;
      todo_.insert({net_.root(), 0});
      for (const Begun& begun : std::set<Begun>(todo_)) {
        std::set<std::size_t> found;
        std::set<Place> seen;
        walk({net_.rule(begun.rule).start, begun.at, kNone, 0}, found, seen);
        auto& known = ends_[begun];
        const std::size_t before = known.size();
        known.insert(found.begin(), found.end());
        changed = changed || known.size() != before;
      }
      changed = changed || todo_.size() != begun_before_;
      begun_before_ = todo_.size();
    }
    return ends_[{net_.root(), 0}].contains(text_.size());
  }

 private:
  struct Begun {
    NetRule rule;
    std::size_t at;
    auto operator<=>(const Begun&) const = default;
  };
  struct Place {
    NetState state;
    std::size_t at;
    std::uint32_t call, done;  // inside of a counted call: so many of it are done
    auto operator<=>(const Place&) const = default;
  };

  void walk(const Place& place, std::set<std::size_t>& found, std::set<Place>& seen) {
    if (!seen.insert(place).second) return;
    if (place.call != kNone) return repeat(place, found, seen);
    const Network::State& s = net_.state(place.state);
    if (s.end) found.insert(place.at);
    for (std::uint32_t e = s.jumps; e != kNone; e = net_.edge(e).next)
      walk({net_.edge(e).to, place.at, kNone, 0}, found, seen);
    if (s.call != kNone) walk({place.state, place.at, s.call, 0}, found, seen);
    if (place.at == text_.size()) return;
    Network::Range alike;
    net_.each(place.state, static_cast<std::uint8_t>(text_[place.at]), alike, [&](NetState to) {
      walk({to, place.at + 1, kNone, 0}, found, seen);
    });
  }

  void repeat(const Place& place, std::set<std::size_t>& found, std::set<Place>& seen) {
    const Network::Call& call = net_.call(place.call);
    if (place.done >= call.least) walk({call.after, place.at, kNone, 0}, found, seen);
    if (place.done >= call.most) return;
    todo_.insert({call.rule, place.at});
    for (const std::size_t end : std::set<std::size_t>(ends_[{call.rule, place.at}])) {
      const std::uint32_t done = call.most == kNone ? std::min(place.done + 1, call.least) : place.done + 1;
      walk({place.state, end, place.call, done}, found, seen);
    }
  }

  const Network& net_;
  std::string_view text_;
  std::map<Begun, std::set<std::size_t>> ends_;
  std::set<Begun> todo_;
  std::size_t begun_before_ = 0;
};

inline bool reference_accepts(const Network& net, std::string_view text) {
  return ReferenceMatcher(net, text).accepts();
}

}  // namespace llorch
