#include "grammar/matcher.h"

#include <algorithm>

#include "grammar/limits.h"

namespace llorch {

using namespace grammar_limits;

namespace {

void set_bit(std::span<std::uint32_t> bits, std::uint32_t i) { bits[i >> 5] |= 1u << (i & 31); }

void add_bits(std::span<std::uint32_t> bits, const std::vector<std::uint32_t>& other) {
  for (std::size_t i = 0; i < other.size(); ++i) bits[i] |= other[i];
}

}  // namespace

struct Constraint::Learnt {
  static constexpr std::uint32_t kTooDear = kNone - 1;  // making it took too much: asked again, it still does
  /// A mask as it is kept: a list of tokens where they are few, else all words.
  struct KeptMask {
    bool listed = false;
    std::vector<std::uint32_t> words;
  };
  Automaton automaton;
  std::vector<std::uint32_t> mask_of_state;  // index into masks, kTooDear, or kNone
  std::vector<KeptMask> masks;
  std::size_t mask_bytes = 0;

  explicit Learnt(const std::shared_ptr<const Network>& net, std::uint64_t work = 0) : automaton(net, work) {}
};

/// Makes the mask of one state.
class MaskMaker {
 public:
  MaskMaker(Constraint& constraint, std::span<std::uint32_t> bits)
      : constraint_(constraint), bits_(bits), work_max_(automaton().work() + kMaskWorkMax) {}

  void make(Automaton::Id state);
  [[nodiscard]] const std::vector<std::uint32_t>& listed() const { return listed_; }
  [[nodiscard]] bool dense() const { return dense_; }

 private:
  static constexpr std::size_t kListedMax = 512;

  [[nodiscard]] Automaton& automaton() { return constraint_.learnt_->automaton; }
  void add(std::uint32_t token) {
    set_bit(bits_, token);
    if (listed_.size() < kListedMax)
      listed_.push_back(token);
    else
      dense_ = true;
  }
  void add_body(const Automaton::Config& config);
  void add_closers(const StringTokens& tokens, Automaton::Id behind, std::uint64_t least, std::uint64_t most);
  /// take(from, to): items of texts that the automaton takes from `start` on. With `renews`, states are dropped when
  /// they become many, and every id but those of the walk with them.
  template<bool renews, class Take>
  void walk(const TokenTrie& trie, Automaton::Id start, const Take& take);
  void make_room(std::size_t depth);

  Constraint& constraint_;
  std::span<std::uint32_t> bits_;
  std::uint64_t work_max_;
  std::vector<Automaton::Id> path_;
  std::vector<std::uint32_t> listed_;
  bool dense_ = false;
};

void MaskMaker::make(Automaton::Id state) {
  std::vector<Automaton::Config> bodies, others;
  for (const Automaton::Config& c : automaton().configs(state)) {
    const StringBody body = automaton().net().state(c.state).body;
    const bool tabled = body == StringBody::kFree || body == StringBody::kPlain || body == StringBody::kPlainBut ||
                        (body == StringBody::kFreeCounted && automaton().entries(c.frame).size() == 1);
    (tabled ? bodies : others).push_back(c);
  }
  for (const Automaton::Config& c : bodies) add_body(c);
  if (others.empty()) return;
  const Automaton::Id rest = bodies.empty() ? state : automaton().of(others);
  const TokenTrie& trie = constraint_.vocabulary().trie();
  walk<true>(trie, rest, [&](std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; ++i) add(trie.items[i]);
  });
}

void MaskMaker::add_body(const Automaton::Config& config) {
  const Network& net = automaton().net();
  const StringBody body = net.state(config.state).body;
  const Vocabulary& vocabulary = constraint_.vocabulary();
  dense_ = true;
  if (body == StringBody::kPlainBut) {
    const Automaton::Config alone[] = {config};
    const StringTokens& tokens = vocabulary.plain_strings();
    add_bits(bits_, tokens.inside);
    return walk<false>(tokens.closing, automaton().of(alone), [&](std::uint32_t from, std::uint32_t to) {
      for (std::uint32_t i = from; i < to; ++i) set_bit(bits_, tokens.closing.items[i]);
    });
  }
  if (body != StringBody::kFreeCounted) {
    const StringTokens& tokens = body == StringBody::kFree ? vocabulary.free_strings() : vocabulary.plain_strings();
    add_bits(bits_, tokens.inside);
    const Automaton::Config alone[] = {config};
    return add_closers(tokens, automaton().step(automaton().of(alone), '"'), 0, kNone);
  }
  const StringTokens& tokens = vocabulary.free_strings();
  const Automaton::Repetition entry = automaton().entries(config.frame)[0];
  const Network::Call& call = net.call(entry.call);
  if (call.most == kNone) {
    add_bits(bits_, tokens.inside);
  } else {
    const std::uint64_t left = call.most - entry.done;
    add_bits(bits_, tokens.up_to[std::min<std::uint64_t>(left, StringTokens::kCountsMax)]);
    for (const StringTokens::Long& l : tokens.longer)
      if (l.characters <= left) set_bit(bits_, l.token);
  }
  const Automaton::Config behind[] = {{call.after, entry.parent}};
  const std::uint64_t least = call.least > entry.done ? call.least - entry.done : 0;
  add_closers(tokens, automaton().step(automaton().of(behind), '"'), least,
              call.most == kNone ? kNone : call.most - entry.done);
}

void MaskMaker::add_closers(const StringTokens& tokens, Automaton::Id behind, std::uint64_t least, std::uint64_t most) {
  if (behind == Automaton::kDead) return;
  walk<false>(tokens.tails, behind, [&](std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t i = from; i < to; ++i) {
      const StringTokens::Closer& c = tokens.closers[tokens.tails.items[i]];
      if (least <= c.characters && c.characters <= most) set_bit(bits_, c.token);
    }
  });
}

void MaskMaker::make_room(std::size_t depth) {
  const std::shared_ptr<Constraint::Learnt> last = constraint_.learnt_;
  constraint_.renew();
  if (last->automaton.failed()) automaton().fail();
  for (std::size_t i = 0; i < depth; ++i) path_[i] = automaton().import(last->automaton, path_[i]);
}

template<bool renews, class Take>
void MaskMaker::walk(const TokenTrie& trie, Automaton::Id start, const Take& take) {
  const auto size = static_cast<std::uint32_t>(trie.nodes.size() - 1);
  path_.assign(1, start);
  take(trie.nodes[0].first, trie.nodes[1].first);
  Automaton* automaton = &this->automaton();
  automaton->begin_searches(start);
  for (std::uint32_t i = 1, walked = 0; i < size; ++walked) {
    const TokenTrie::Node& node = trie.nodes[i];
    const Automaton::Id before = path_[node.depth - 1u];
    if (walked == kNodesUnsearched) (void)automaton->find_reads_all(path_[0], {}, 0);  // its findings serve the others
    if (node.texts) {
      const TokenTrie::Texts& texts = trie.texts[node.texts];
      if (automaton->reads_all(before, texts.characters, texts.length) ||
          (walked > kNodesUnsearched && automaton->find_reads_all(before, texts.characters, texts.length))) {
        take(node.first, trie.nodes[node.end].first);
        i = node.end;
        continue;
      }
    }
    const Automaton::Id state = automaton->step(before, node.byte);
    if (state == Automaton::kDead) {
      if (automaton->failed()) return;
      i = node.end;
      continue;
    }
    take(node.first, trie.nodes[i + 1].first);
    if (path_.size() <= node.depth) path_.resize(node.depth + 1u);
    path_[node.depth] = state;
    if (automaton->work() > work_max_) return automaton->fail();
    if (renews && automaton->crowded()) {
      make_room(node.depth + 1u);
      automaton = &this->automaton();
    }
    ++i;
  }
}

Constraint::Constraint(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary)
    : net_(grammar.network()), vocabulary_(std::move(vocabulary)), learnt_(std::make_shared<Learnt>(net_)) {}

std::size_t Constraint::states() const { return learnt_->automaton.size(); }

bool Constraint::begins() const { return learnt_->automaton.start() != Automaton::kDead; }

void Constraint::renew() { learnt_ = std::make_shared<Learnt>(net_, learnt_->automaton.work()); }

Matcher::Matcher(std::shared_ptr<Constraint> constraint)
    : constraint_(std::move(constraint)), learnt_(constraint_->learnt_), state_(learnt_->automaton.start()) {}

void Matcher::refresh() {
  if (learnt_ == constraint_->learnt_ && learnt_->automaton.crowded()) constraint_->renew();
  if (learnt_ == constraint_->learnt_) return;
  state_ = constraint_->learnt_->automaton.import(learnt_->automaton, state_);
  learnt_ = constraint_->learnt_;
}

bool Matcher::advance(std::string_view bytes) {
  Matcher next(*this);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i % 1024 == 0) next.refresh();
    next.state_ = next.learnt_->automaton.step(next.state_, static_cast<std::uint8_t>(bytes[i]));
    if (next.state_ == Automaton::kDead) return false;
  }
  *this = std::move(next);
  return true;
}

bool Matcher::advance_token(std::uint32_t token) {
  const Vocabulary& vocabulary = constraint_->vocabulary();
  if (token >= vocabulary.size()) return false;
  if (vocabulary.ends(token)) return can_end();
  return !vocabulary.bytes(token).empty() && advance(vocabulary.bytes(token));
}

Status Matcher::mask(std::span<std::uint32_t> bits) {
  refresh();
  std::fill(bits.begin(), bits.end(), 0);
  const bool ends = can_end();
  const auto too_dear = [] {
    return fail(ErrorCode::kInvalidRequest, "the grammar is too ambiguous: a text has more than {} readings",
                kConfigsPerState);
  };
  if (state_ < learnt_->mask_of_state.size() && learnt_->mask_of_state[state_] != kNone) {
    if (learnt_->mask_of_state[state_] == Constraint::Learnt::kTooDear) return too_dear();
    const Constraint::Learnt::KeptMask& kept = learnt_->masks[learnt_->mask_of_state[state_]];
    if (kept.listed)
      for (const std::uint32_t token : kept.words) set_bit(bits, token);
    else
      std::copy(kept.words.begin(), kept.words.end(), bits.begin());
  } else {
    (void)learnt_->automaton.take_failed();
    MaskMaker maker(*constraint_, bits);
    maker.make(state_);
    const bool failed = constraint_->learnt_->automaton.take_failed();
    refresh();
    if (failed) {
      learnt_->mask_of_state.resize(std::max<std::size_t>(learnt_->mask_of_state.size(), state_ + 1u), kNone);
      learnt_->mask_of_state[state_] = Constraint::Learnt::kTooDear;
      return too_dear();
    }
    if (learnt_->mask_bytes > kMaskBytesKept)
      learnt_->masks.clear(), learnt_->mask_of_state.clear(), learnt_->mask_bytes = 0;
    learnt_->mask_of_state.resize(std::max<std::size_t>(learnt_->mask_of_state.size(), state_ + 1u), kNone);
    learnt_->mask_of_state[state_] = static_cast<std::uint32_t>(learnt_->masks.size());
    Constraint::Learnt::KeptMask kept{!maker.dense(), {}};
    if (kept.listed)
      kept.words = maker.listed();
    else
      kept.words.assign(bits.begin(), bits.end());
    learnt_->mask_bytes += kept.words.size() * 4 + sizeof kept;
    learnt_->masks.push_back(std::move(kept));
  }
  if (ends)
    for (const std::uint32_t id : constraint_->vocabulary().end_ids()) set_bit(bits, id);
  return {};
}

std::string Matcher::forced() {
  refresh();
  std::string out;
  Automaton& automaton = learnt_->automaton;
  const Network& net = automaton.net();
  Automaton::Id state = state_;
  std::size_t work = 0;  // by the states alone, so that it ends at the same place whatever is known of them already
  while (out.size() < kForcedBytesMax && !automaton.accepts(state) &&
         (work += automaton.configs(state).size()) < kForcedWorkMax) {
    int byte = -1;
    bool one = true;
    for (const Automaton::Config& c : automaton.configs(state)) {
      const Network::State& s = net.state(c.state);
      if (s.fallback != kNone) one = false;
      for (std::uint32_t e = s.edges; one && e != kNone; e = net.edge(e).next) {
        if (!net.state(net.edge(e).to).alive) continue;
        one = net.edge(e).low == net.edge(e).high && (byte < 0 || byte == net.edge(e).low);
        byte = net.edge(e).low;
      }
      if (!one) break;
    }
    if (!one || byte < 0) break;
    state = automaton.step(state, static_cast<std::uint8_t>(byte));
    out += static_cast<char>(byte);
  }
  return out;
}

std::size_t Matcher::settled(std::string_view text) const {
  Matcher behind(*this);
  if (!behind.advance(text)) return 0;
  const TokenTrie& trie = constraint_->vocabulary().trie();
  Automaton& automaton = behind.learnt_->automaton;
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    std::uint32_t node = 0;
    for (std::size_t i = begin; i < text.size(); ++i)
      if (node = trie.child(node, static_cast<std::uint8_t>(text[i])); node == 0) break;
    if (node == 0) continue;
    for (std::uint32_t next = node + 1; next < trie.nodes[node].end; next = trie.nodes[next].end)
      if (automaton.step(behind.state_, trie.nodes[next].byte) != Automaton::kDead) return begin;
  }
  return text.size();
}

bool Matcher::must_end() const {
  if (!can_end()) return false;
  const Automaton& automaton = learnt_->automaton;
  const Network& net = automaton.net();
  for (const Automaton::Config& c : automaton.configs(state_)) {
    const Network::State& s = net.state(c.state);
    if (s.fallback != kNone) return false;
    for (std::uint32_t e = s.edges; e != kNone; e = net.edge(e).next)
      if (net.state(net.edge(e).to).alive) return false;
  }
  return true;
}

bool Matcher::can_end() const { return learnt_->automaton.accepts(state_); }

}  // namespace llorch
