#include "text/model.h"

#include <algorithm>
#include <array>
#include <limits>
#include <queue>

#include "text/utf8.h"

namespace llorch {
namespace {

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
  void merge(const Find& find) {
    std::vector<Candidate> start;
    const auto consider = [&](std::int32_t left, auto&& push) {
      const std::int32_t right = left < 0 ? -1 : symbols[static_cast<std::size_t>(left)].next;
      if (right < 0) return;
      const Symbol &a = symbols[static_cast<std::size_t>(left)], &b = symbols[static_cast<std::size_t>(right)];
      const auto [priority, id] = find(a, b);
      if (id >= 0) push({priority, left, a.size + b.size, id});
    };
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
      consider(static_cast<std::int32_t>(i), [&](Candidate c) { start.push_back(c); });
    std::priority_queue<Candidate> heap(std::less<Candidate>(), std::move(start));
    while (!heap.empty()) {
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
  }
};

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

  Status add_merges(const std::vector<std::pair<std::string, std::string>>& merges) {
    std::string joined;
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const auto& [left, right] = merges[rank];
      joined = left + right;
      const auto a = tokens_.find(left), b = tokens_.find(right), whole = tokens_.find(joined);
      if (a == tokens_.end() || b == tokens_.end() || whole == tokens_.end())
        return bad_model("merge {} joins what are no tokens", rank);
      ranks_.emplace(key(a->second, b->second), Merge{static_cast<std::uint32_t>(rank), whole->second});
    }
    return {};
  }

  void encode(std::string_view word, TokenIds& out) const override {
    if (options_.ignore_merges)
      if (const auto whole = tokens_.find(word); whole != tokens_.end()) return out.push_back(whole->second);
    MergeList list;
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t size = options_.byte_units ? 1 : unit_size(word.substr(at));
      list.append(at, size, find_unit(word.substr(at, size)));
      at += size;
    }
    list.merge([&](const Symbol& a, const Symbol& b) -> std::pair<double, TokenId> {
      if (a.id < 0 || b.id < 0) return {0, -1};
      const auto found = ranks_.find(key(a.id, b.id));
      if (found == ranks_.end()) return {0, -1};
      return {found->second.rank, found->second.id};
    });
    bool fused = false;
    for (const Symbol& s : list.symbols) {
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
  std::unordered_map<std::uint64_t, Merge> ranks_;
};

class Spm final : public TokenModel {
 public:
  Spm(TokenMap tokens, std::vector<float> scores, TokenId unknown)
      : tokens_(std::move(tokens)), scores_(std::move(scores)), unknown_(unknown), bytes_(byte_tokens(tokens_)) {
    for (const auto& [text, id] : tokens_) longest_ = std::max(longest_, text.size());
  }

  void encode(std::string_view text, TokenIds& out) const override {
    MergeList list;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = unit_size(text.substr(at));
      list.append(at, size, find(text.substr(at, size)));
      at += size;
    }
    list.merge([&](const Symbol& a, const Symbol& b) -> std::pair<double, TokenId> {
      if (a.size + b.size > longest_) return {0, -1};
      const TokenId id = find(text.substr(a.begin, a.size + b.size));
      return {id < 0 ? 0 : -static_cast<double>(scores_[static_cast<std::size_t>(id)]), id};
    });
    for (const Symbol& s : list.symbols) {
      if (s.size == 0) continue;
      if (s.id >= 0)
        out.push_back(s.id);
      else
        append_bytes(bytes_, text.substr(s.begin, s.size), unknown_, out);
    }
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
    for (const auto& [text, id] : tokens_) longest_ = std::max(longest_, text.size());
    unknown_score_ = (scores_.empty() ? 0 : *std::ranges::min_element(scores_)) - 10;
  }

  void encode(std::string_view text, TokenIds& out) const override {
    struct Best {
      double score = -std::numeric_limits<double>::infinity();
      std::size_t from = 0;
      TokenId id = -1;
    };
    std::vector<Best> best(text.size() + 1);
    best[0].score = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t unit = unit_size(text.substr(at));
      bool single = false;
      for (std::size_t size = unit; size <= std::min(longest_, text.size() - at);
           size += size + at < text.size() ? unit_size(text.substr(at + size)) : 1) {
        const auto found = tokens_.find(text.substr(at, size));
        if (found == tokens_.end()) continue;
        single |= size == unit;
        const double score = best[at].score + scores_[static_cast<std::size_t>(found->second)];
        if (score > best[at + size].score) best[at + size] = {score, at, found->second};
      }
      if (!single && best[at].score + unknown_score_ > best[at + unit].score)
        best[at + unit] = {best[at].score + unknown_score_, at, -1};
      at += unit;
    }
    std::vector<std::pair<std::size_t, std::size_t>> path;
    for (std::size_t at = text.size(); at > 0; at = best[at].from) path.emplace_back(best[at].from, at);
    bool fused = false;
    for (auto step = path.rbegin(); step != path.rend(); ++step) {
      const TokenId id = best[step->second].id;
      if (id >= 0)
        out.push_back(id);
      else if (fallback_)
        append_bytes(bytes_, text.substr(step->first, step->second - step->first), unknown_, out);
      else if (!fused && unknown_ >= 0)
        out.push_back(unknown_);
      fused = id < 0;
    }
  }

 private:
  TokenMap tokens_;
  std::vector<double> scores_;
  TokenId unknown_;
  bool fallback_;
  std::array<TokenId, 256> bytes_;
  std::size_t longest_ = 0;
  double unknown_score_ = 0;
};

}  // namespace

TokenId byte_token(const TokenMap& tokens, std::uint8_t byte) {
  const auto found = tokens.find(fmt::format("<0x{:02X}>", byte));
  return found == tokens.end() ? -1 : found->second;
}

Result<std::unique_ptr<TokenModel>> make_bpe(TokenMap tokens,
                                             const std::vector<std::pair<std::string, std::string>>& merges,
                                             const BpeOptions& options) {
  auto model = std::make_unique<Bpe>(std::move(tokens), options);
  LLORCH_OK(model->add_merges(merges));
  return model;
}

std::unique_ptr<TokenModel> make_spm(TokenMap tokens, std::vector<float> scores, TokenId unknown) {
  return std::make_unique<Spm>(std::move(tokens), std::move(scores), unknown);
}

Result<std::unique_ptr<TokenModel>> make_unigram(TokenMap tokens, std::vector<double> scores, TokenId unknown,
                                                 bool byte_fallback) {
  return std::make_unique<Unigram>(std::move(tokens), std::move(scores), unknown, byte_fallback);
}

}  // namespace llorch
