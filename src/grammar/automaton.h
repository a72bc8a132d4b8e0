// The deterministic byte automaton of a network, made state by state as text asks for it.
//
// A state is the set of all positions that the network may be in, each with its stack of calls. Stacks share their
// tails, and calls of one rule from several positions share one frame (the graph-structured stack of Tomita 1985), so
// that ambiguity does not multiply. Equal sets are one state; steps are remembered. Threads: one at a time.
// Errors: a state of more than kConfigsPerState positions is kDead, and take_failed() tells.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "grammar/character_set.h"
#include "grammar/network.h"

namespace llorch {

class Automaton {
 public:
  using Id = std::uint32_t;
  static constexpr Id kDead = 0;

  struct Config {
    NetState state;
    std::uint32_t frame;
    auto operator<=>(const Config&) const = default;
  };

  /// `work`: that of an automaton whose place this one takes.
  explicit Automaton(std::shared_ptr<const Network> net, std::uint64_t work = 0);

  [[nodiscard]] Id start() const { return start_; }
  /// The state behind `byte`, kDead: no text of the grammar goes on so.
  [[nodiscard]] Id step(Id from, std::uint8_t byte) {
    const Id known = row(from)[byte];
    return known != kUnknown ? known : find_step(from, byte);
  }
  /// A text may end here.
  [[nodiscard]] bool accepts(Id id) const { return states_[id].accepts; }
  [[nodiscard]] std::span<const Config> configs(Id id) const {
    return {configs_.data() + states_[id].first, states_[id].size};
  }
  [[nodiscard]] const Network& net() const { return *net_; }
  /// Whether it is known that every text of at most `length` characters of `set` can be read from a state on, the last
  /// of them whole or begun.
  [[nodiscard]] bool reads_all(Id id, const CharacterSet& set, std::uint32_t length) const {
    return set.within(states_[id].safe) && length <= states_[id].safe_length;
  }
  /// The same, once that was looked into, which takes some tenths of a millisecond for the first state of its kind.
  /// False: it cannot be read, or finding out was too dear.
  [[nodiscard]] bool find_reads_all(Id id, const CharacterSet& set, std::uint32_t length) {
    return !states_[id].explored && !set.meets(states_[id].dead) && explore(id, set, length);
  }
  /// Lets find_reads_all() begin anew: what it may cost counts from here on, and a state of which it knows for less
  /// than some length only is looked at again.
  void begin_searches(Id start);
  /// The state of other positions of this automaton, as if they were all.
  [[nodiscard]] Id of(std::span<const Config> configs);
  /// Count of the innermost repetition in a frame: times done so far. The frame has one entry.
  struct Repetition {
    std::uint32_t call, done, parent;
  };
  [[nodiscard]] std::span<const Repetition> entries(std::uint32_t frame) const {
    return {entries_.data() + frames_[frame].first, frames_[frame].size};
  }
  /// The state when a rule that was called by `frame` ends.
  [[nodiscard]] Id after_return(std::uint32_t frame);

  [[nodiscard]] std::size_t size() const { return states_.size(); }
  /// Positions looked at so far, each some ten nanoseconds.
  [[nodiscard]] std::uint64_t work() const { return work_; }
  /// Ends a computation that takes too much: take_failed() tells.
  void fail() { failed_ = true; }
  [[nodiscard]] bool failed() const { return failed_; }
  /// More is kept than grammar/limits.h allows: start anew with import().
  [[nodiscard]] bool crowded() const;
  /// Whether a state was too large since this was last asked.
  [[nodiscard]] bool take_failed() { return std::exchange(failed_, false); }
  /// The state of `other` (an automaton of the same network), here.
  [[nodiscard]] Id import(const Automaton& other, Id id);

 private:
  static constexpr Id kUnknown = 0xffffffff;
  static constexpr Id kBlock = 32;
  static constexpr std::uint32_t kFresh = 0x80000000;  // frames of the closure under way

  struct State {
    std::uint32_t first = 0, size = 0;
    bool accepts = false;
    bool explored = false;          // what is to be found of `safe` was found
    CharacterSet dead;              // first bytes that are known to lead nowhere
    CharacterSet safe;              // texts of these characters can be read,
    std::uint32_t safe_length = 0;  // of so many, kNone: of any number
  };
  /// A search for the largest set of characters that can be read for ever, or for long, from one state on.
  struct Search;
  struct Frame {
    std::uint32_t first, size;
  };
  struct FreshFrame {
    NetRule rule;
    std::vector<Repetition> entries;
    std::vector<std::uint32_t> dependents;  // fresh frames that return where this one does
    std::uint32_t id = 0;                   // once it is kept
  };
  /// Set of pairs, emptied in no time.
  class PairSet {
   public:
    void clear() { ++round_, size_ = 0; }
    bool insert(std::uint64_t key);  // false: is there

   private:
    void grow();
    std::vector<std::uint64_t> keys_;
    std::vector<std::uint32_t> rounds_;
    std::uint32_t round_ = 1;
    std::size_t size_ = 0;
  };

  /// Rows lie in blocks, so that one more state never moves the others: that would be milliseconds.
  [[nodiscard]] Id* row(Id id) { return blocks_[id / kBlock].get() + std::size_t{id % kBlock} * 256; }
  Id find_step(Id from, std::uint8_t byte);
  bool explore(Id id, const CharacterSet& set, std::uint32_t length);
  void begin();
  void visit(NetState state, std::uint32_t frame) { pending_.push_back({state, frame}); }
  void close();
  void return_to(std::uint32_t frame);
  void enter(std::uint32_t call, std::uint32_t done, std::uint32_t frame);
  void add_entry(std::size_t fresh, const Repetition& entry);
  Id intern();
  std::uint32_t keep_frame(std::size_t fresh);
  std::uint32_t intern_frame(std::vector<Repetition>& entries);
  void rehash_states(), rehash_frames();
  [[nodiscard]] std::uint32_t import_frame(const Automaton& other, std::uint32_t frame,
                                           std::vector<std::uint32_t>& known);

  std::shared_ptr<const Network> net_;
  std::vector<State> states_;
  std::vector<std::unique_ptr<Id[]>> blocks_;  // 256 of each state
  std::vector<Config> configs_;
  std::vector<Frame> frames_;
  std::vector<Repetition> entries_;
  std::vector<std::uint32_t> state_table_, frame_table_;
  Id start_ = kDead;
  std::uint64_t work_ = 0;
  bool failed_ = false;

  // Of the search under way.
  std::vector<std::uint32_t> search_round_of_;  // by state: the round that saw it last
  std::uint32_t search_round_ = 0;
  std::uint32_t search_steps_ = 0;
  std::uint64_t search_work_ = 0;

  // Of the closure under way.
  std::vector<Config> pending_, found_;
  std::vector<FreshFrame> fresh_;
  std::size_t fresh_size_ = 0;
  std::vector<std::uint32_t> fresh_of_rule_;  // index into fresh_, valid where that frame says this rule
  PairSet seen_;
  bool accepts_ = false;
};

}  // namespace llorch
