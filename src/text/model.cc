#include "text/model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <queue>

#include "text/limits.h"
#include "text/meter.h"
#include "text/utf8.h"

namespace llorch {
namespace {

/// Words up to this are charged at once, so that they cost no more than the work itself; longer ones as they go.
constexpr std::size_t kSmallWord = 1024;
constexpr std::uint64_t kUnitsOfWord = 32, kUnitsPerByte = 32;
[[nodiscard]] Status charge_word(std::string_view word, WorkLimit& limit) {
  return limit.charge(kUnitsOfWord + (word.size() <= kSmallWord ? word.size() * kUnitsPerByte : 0));
}

/// A word as a list of symbols that shrinks as neighbours merge; candidates wait in a heap and are dropped when they
/// went stale.
struct Symbol {
  std::uint32_t begin = 0, size = 0;  // bytes of the word; size 0: merged away
  std::int32_t previous = -1, next = -1;
  TokenId id = -1;
};

struct Candidate {
  double priority;  // smaller merges first
  std::int32_t left;
  std::uint32_t size;  // of the union, to recognise stale entries
  TokenId id;
  bool operator<(const Candidate& o) const {
    return priority > o.priority || (priority == o.priority && left > o.left);
  }
};

class MergeList {
 public:
  std::vector<Symbol> symbols;

  void append(std::size_t begin, std::size_t size, TokenId id) {
    const auto index = static_cast<std::int32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(size), index - 1, -1, id});
  }

  /// find(left symbol, right symbol) -> {priority, id}, id -1 when they do not merge.
  template<class Find>
  [[nodiscard]] Status merge(const Find& find, Meter& meter) {
    std::vector<Candidate> start;
    const bool small = symbols.size() <= kSmallWord;  // charged by its caller
    const auto consider = [&](std::int32_t left, auto&& push) {
      const std::int32_t right = left < 0 ? -1 : symbols[static_cast<std::size_t>(left)].next;
      if (right < 0) return;
      const Symbol &a = symbols[static_cast<std::size_t>(left)], &b = symbols[static_cast<std::size_t>(right)];
      const auto [priority, id] = find(a, b);
      if (id >= 0) push({priority, left, a.size + b.size, id});
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      consider(static_cast<std::int32_t>(i), [&](Candidate c) {
        start.push_back(c);
        if (!small) std::push_heap(start.begin(), start.end());
      });
      if (!small && !meter.add(kUnitsOfFind)) return meter.status();
    }
    if (small) std::make_heap(start.begin(), start.end());
    HeapedQueue heap(std::move(start));
    while (!heap.empty()) {
      if (!small && !meter.add(3 * kUnitsOfFind)) return meter.status();
      const Candidate c = heap.top();
      heap.pop();
      Symbol& a = symbols[static_cast<std::size_t>(c.left)];
      if (a.size == 0 || a.next < 0) continue;
      Symbol& b = symbols[static_cast<std::size_t>(a.next)];
      if (a.size + b.size != c.size) continue;
      if (const auto [priority, id] = find(a, b); id != c.id) continue;
      a.size = c.size, a.id = c.id;
      b.size = 0;
      a.next = b.next;
      if (a.next >= 0) symbols[static_cast<std::size_t>(a.next)].previous = c.left;
      consider(a.previous, [&](Candidate n) { heap.push(n); });
      consider(c.left, [&](Candidate n) { heap.push(n); });
    }
    return {};
  }

 private:
  static constexpr std::uint64_t kUnitsOfFind = 8;
  /// A queue of what is a heap already.
  struct HeapedQueue : std::priority_queue<Candidate> {
    explicit HeapedQueue(std::vector<Candidate> heaped) { c = std::move(heaped); }
  };
};

Status check_word(std::string_view word) {
  if (word.size() <= text_limits::kWordBytesMax) return {};
  return fail(ErrorCode::kInvalidRequest, "the text has {} bytes that cannot be cut, at most {} are taken", word.size(),
              text_limits::kWordBytesMax);
}

/// Appends byte tokens for `text`, or the unknown token where the vocabulary has no bytes.
void append_bytes(const std::array<TokenId, 256>& bytes, std::string_view text, TokenId unknown, TokenIds& out) {
  for (const char c : text) {
    const TokenId id = bytes[static_cast<std::uint8_t>(c)];
    if (id >= 0) {
      out.push_back(id);
    } else {
      if (unknown >= 0) out.push_back(unknown);
      return;
    }
  }
}

std::array<TokenId, 256> byte_tokens(const TokenMap& tokens) {
  std::array<TokenId, 256> result;
  for (int b = 0; b < 256; ++b) result[static_cast<std::size_t>(b)] = byte_token(tokens, static_cast<std::uint8_t>(b));
  return result;
}

std::size_t unit_size(std::string_view rest) { return static_cast<std::size_t>(std::max(1, utf8_sequence(rest))); }

class Bpe final : public TokenModel {
 public:
  Bpe(TokenMap tokens, const BpeOptions& options)
      : tokens_(std::move(tokens)), options_(options), bytes_(byte_tokens(tokens_)) {
    for (int b = 0; b < 256; ++b) {
      const char c = static_cast<char>(b);
      const auto found = tokens_.find(std::string_view(&c, 1));
      units_[static_cast<std::size_t>(b)] = found == tokens_.end() ? -1 : found->second;
    }
  }

  [[nodiscard]] Status add_merges(const std::vector<std::pair<std::string, std::string>>& merges) {
    std::string joined;
    ranks_.reserve(merges.size());
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const auto& [left, right] = merges[rank];
      joined = left + right;
      const auto a = tokens_.find(left), b = tokens_.find(right), whole = tokens_.find(joined);
      if (a == tokens_.end() || b == tokens_.end() || whole == tokens_.end())
        return bad_model("merge {} joins what are no tokens", rank);
      const std::uint64_t pair = key(a->second, b->second);
      ranks_.emplace(pair, Merge{static_cast<std::uint32_t>(rank), whole->second});
      if (ranks_.bucket_size(ranks_.bucket(pair)) > text_limits::kCollisionsMax)
        return bad_model("the merges' hashes collide, which only a file made for it does");
    }
    return {};
  }

  Status encode(std::string_view word, TokenIds& out, WorkLimit& limit) const override {
    Meter meter(limit);
    if (options_.ignore_merges && word.size() <= text_limits::kTokenBytesMax)
      if (const auto whole = tokens_.find(word); whole != tokens_.end()) {
        out.push_back(whole->second);
        return limit.charge(16);
      }
    LLORCH_OK(check_word(word));
    LLORCH_OK(charge_word(word, limit));
    const bool small = word.size() <= kSmallWord;
    MergeList list;
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t size = options_.byte_units ? 1 : unit_size(word.substr(at));
      list.append(at, size, find_unit(word.substr(at, size)));
      at += size;
      if (!small && !meter.add(4)) return meter.status();
    }
    LLORCH_OK(list.merge(
        [&](const Symbol& a, const Symbol& b) -> std::pair<double, TokenId> {
          if (a.id < 0 || b.id < 0) return {0, -1};
          const auto found = ranks_.find(key(a.id, b.id));
          if (found == ranks_.end()) return {0, -1};
          return {found->second.rank, found->second.id};
        },
        meter));
    bool fused = false;
    for (const Symbol& s : list.symbols) {
      if (!small && !meter.add(1)) return meter.status();
      if (s.size == 0) continue;
      if (s.id >= 0) {
        out.push_back(s.id);
        fused = false;
      } else if (options_.byte_fallback) {
        append_bytes(bytes_, word.substr(s.begin, s.size), options_.unknown, out);
      } else if (options_.unknown >= 0 && !(fused && options_.fuse_unknown)) {
        out.push_back(options_.unknown);
        fused = true;
      }
    }
    return small ? Status() : meter.finish();
  }

 private:
  struct Merge {
    std::uint32_t rank;
    TokenId id;
  };
  static std::uint64_t key(TokenId a, TokenId b) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) << 32 | static_cast<std::uint32_t>(b);
  }
  TokenId find_unit(std::string_view unit) const {
    if (unit.size() == 1) return units_[static_cast<std::uint8_t>(unit[0])];
    const auto found = tokens_.find(unit);
    return found == tokens_.end() ? -1 : found->second;
  }

  TokenMap tokens_;
  BpeOptions options_;
  std::array<TokenId, 256> units_, bytes_;
  /// splitmix64: keys that have a factor in common would fall into few buckets.
  struct KeyHash {
    std::size_t operator()(std::uint64_t k) const {
      k = (k ^ k >> 30) * 0xbf58476d1ce4e5b9ull;
      k = (k ^ k >> 27) * 0x94d049bb133111ebull;
      return k ^ k >> 31;
    }
  };
  std::unordered_map<std::uint64_t, Merge, KeyHash> ranks_;
};

class Spm final : public TokenModel {
 public:
  Spm(TokenMap tokens, std::vector<float> scores, TokenId unknown)
      : tokens_(std::move(tokens)), scores_(std::move(scores)), unknown_(unknown), bytes_(byte_tokens(tokens_)) {
    for (const auto& [text, id] : tokens_) longest_ = std::max(longest_, text.size());
  }

  Status encode(std::string_view text, TokenIds& out, WorkLimit& limit) const override {
    LLORCH_OK(check_word(text));
    LLORCH_OK(charge_word(text, limit));
    const bool small = text.size() <= kSmallWord;
    Meter meter(limit);
    MergeList list;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = unit_size(text.substr(at));
      list.append(at, size, find(text.substr(at, size)));
      at += size;
      if (!small && !meter.add(4)) return meter.status();
    }
    LLORCH_OK(list.merge(
        [&](const Symbol& a, const Symbol& b) -> std::pair<double, TokenId> {
          if (a.size + b.size > longest_) return {0, -1};
          (void)meter.add((a.size + b.size) / 8);  // looked at by merge()
          const TokenId id = find(text.substr(a.begin, a.size + b.size));
          return {id < 0 ? 0 : -static_cast<double>(scores_[static_cast<std::size_t>(id)]), id};
        },
        meter));
    for (const Symbol& s : list.symbols) {
      if (!small && !meter.add(1)) return meter.status();
      if (s.size == 0) continue;
      if (s.id >= 0)
        out.push_back(s.id);
      else
        append_bytes(bytes_, text.substr(s.begin, s.size), unknown_, out);
    }
    return small ? Status() : meter.finish();
  }

 private:
  TokenId find(std::string_view text) const {
    const auto found = tokens_.find(text);
    return found == tokens_.end() ? -1 : found->second;
  }
  TokenMap tokens_;
  std::vector<float> scores_;
  TokenId unknown_;
  std::array<TokenId, 256> bytes_;
  std::size_t longest_ = 0;
};

class Unigram final : public TokenModel {
 public:
  Unigram(TokenMap tokens, std::vector<double> scores, TokenId unknown, bool fallback)
      : tokens_(std::move(tokens)),
        scores_(std::move(scores)),
        unknown_(unknown),
        fallback_(fallback),
        bytes_(byte_tokens(tokens_)) {
    for (const auto& [text, id] : tokens_) pieces_.emplace_back(text, id);
    std::ranges::sort(pieces_);
    for (std::size_t b = 0, at = 0; b < 256; ++b) {
      begins_[b] = at;
      while (at < pieces_.size() && (pieces_[at].first.empty() || byte(pieces_[at].first, 0) <= b)) ++at;
      begins_[b + 1] = at;
    }
    unknown_score_ = (scores_.empty() ? 0 : *std::ranges::min_element(scores_)) - 10;
  }

  Status encode(std::string_view text, TokenIds& out, WorkLimit& limit) const override {
    struct Best {
      double score = -std::numeric_limits<double>::infinity();
      std::size_t from = 0;
      TokenId id = -1;
    };
    LLORCH_OK(check_word(text));
    LLORCH_OK(limit.charge(text.size() / 2));
    Meter meter(limit);
    std::vector<Best> best(text.size() + 1);
    best[0].score = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t unit = unit_size(text.substr(at));
      bool single = false;
      each_piece(text.substr(at), meter, [&](std::size_t size, TokenId id) {
        single |= size == unit;
        const double score = best[at].score + scores_[static_cast<std::size_t>(id)];
        if (score > best[at + size].score) best[at + size] = {score, at, id};
      });
      if (!meter.add(4)) return meter.status();
      if (!single && best[at].score + unknown_score_ > best[at + unit].score)
        best[at + unit] = {best[at].score + unknown_score_, at, -1};
      at += unit;
    }
    std::vector<std::pair<std::size_t, std::size_t>> path;
    for (std::size_t at = text.size(); at > 0; at = best[at].from) path.emplace_back(best[at].from, at);
    bool fused = false;
    for (auto step = path.rbegin(); step != path.rend(); ++step) {
      if (!meter.add(2)) return meter.status();
      const TokenId id = best[step->second].id;
      if (id >= 0)
        out.push_back(id);
      else if (fallback_)
        append_bytes(bytes_, text.substr(step->first, step->second - step->first), unknown_, out);
      else if (!fused && unknown_ >= 0)
        out.push_back(unknown_);
      fused = id < 0;
    }
    return meter.finish();
  }

 private:
  static std::size_t byte(std::string_view text, std::size_t at) { return static_cast<std::uint8_t>(text[at]); }

  /// Calls found(size, id) for each piece that `text` begins with, shortest first: pieces are sorted, and each byte
  /// narrows the range of those that begin like the text.
  template<class Found>
  void each_piece(std::string_view text, Meter& meter, const Found& found) const {
    std::size_t low = begins_[byte(text, 0)], high = begins_[byte(text, 0) + 1];
    for (std::size_t size = 1; low < high; ++size) {
      if (!meter.add(4)) return;
      while (low < high && pieces_[low].first.size() < size) ++low;
      if (low < high && pieces_[low].first.size() == size) found(size, pieces_[low].second);
      if (size == text.size()) return;
      const auto next = [&](const auto& piece) {
        return piece.first.size() <= size ? std::size_t{0} : byte(piece.first, size) + 1;
      };
      const auto range =
          std::ranges::equal_range(pieces_.begin() + static_cast<std::ptrdiff_t>(low),
                                   pieces_.begin() + static_cast<std::ptrdiff_t>(high), byte(text, size) + 1, {}, next);
      low = static_cast<std::size_t>(range.begin() - pieces_.begin());
      high = static_cast<std::size_t>(range.end() - pieces_.begin());
    }
  }

  TokenMap tokens_;
  std::vector<double> scores_;
  TokenId unknown_;
  bool fallback_;
  std::array<TokenId, 256> bytes_;
  std::vector<std::pair<std::string_view, TokenId>> pieces_;  // of tokens_, sorted
  std::array<std::size_t, 257> begins_{};                     // of the pieces that begin with a byte
  double unknown_score_ = 0;
};

}  // namespace

TokenId byte_token(const TokenMap& tokens, std::uint8_t byte) {
  const auto found = tokens.find(fmt::format("<0x{:02X}>", byte));
  return found == tokens.end() ? -1 : found->second;
}

Status add_token(TokenMap& map, std::string text, TokenId id) {
  if (text.size() > text_limits::kTokenBytesMax)
    return bad_model("token {} has {} bytes, at most {} are taken", id, text.size(), text_limits::kTokenBytesMax);
  const auto [at, added] = map.emplace(std::move(text), id);
  if (map.bucket_size(map.bucket(at->first)) > text_limits::kCollisionsMax)
    return bad_model("the tokens' hashes collide, which only a file made for it does");
  return {};
}

Result<std::unique_ptr<TokenModel>> make_bpe(TokenMap tokens,
                                             const std::vector<std::pair<std::string, std::string>>& merges,
                                             const BpeOptions& options) {
  auto model = std::make_unique<Bpe>(std::move(tokens), options);
  LLORCH_OK(model->add_merges(merges));
  return model;
}

Result<std::unique_ptr<TokenModel>> make_spm(TokenMap tokens, std::vector<float> scores, TokenId unknown) {
  if (std::ranges::any_of(scores, [](float s) { return std::isnan(s); }))
    return bad_model("a token's score is no number");
  return std::make_unique<Spm>(std::move(tokens), std::move(scores), unknown);
}

Result<std::unique_ptr<TokenModel>> make_unigram(TokenMap tokens, std::vector<double> scores, TokenId unknown,
                                                 bool byte_fallback) {
  if (std::ranges::any_of(scores, [](double s) { return std::isnan(s); }))
    return bad_model("a token's score is no number");
  return std::make_unique<Unigram>(std::move(tokens), std::move(scores), unknown, byte_fallback);
}

}  // namespace llorch
