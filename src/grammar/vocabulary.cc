#include "grammar/vocabulary.h"

#include <algorithm>

#include "grammar/automaton.h"
#include "grammar/json_string.h"

namespace llorch {
namespace {

constexpr std::uint32_t kNodesWithTexts = 6;  // below which walking is as quick as asking
constexpr std::size_t kTokenBytesMax = 65'000;

void set_bit(std::vector<std::uint32_t>& bits, std::uint32_t i) { bits[i >> 5] |= 1u << (i & 31); }

/// Neither text nor a mark: bytes that only marks have.
bool beyond_text(std::string_view bytes) {
  if (bytes.size() > 2 && bytes.front() == kControlBegins && bytes.back() == kControlEnds)
    bytes = bytes.substr(1, bytes.size() - 2);
  return std::ranges::any_of(bytes, [](char c) { return static_cast<std::uint8_t>(c) >= kTextBytesEnd; });
}

/// One string body alone, as an automaton: what a token does in it.
struct BodyScanner {
  std::shared_ptr<Network> net = std::make_shared<Network>();
  NetState closed = 0;
  std::unique_ptr<Automaton> automaton;
  Automaton::Id inside = 0, behind = 0;

  explicit BodyScanner(StringBody body) {
    const NetRule root = net->add_rule();
    closed = net->add_state();
    net->add_jump(net->rule(root).start, add_string_body(*net, body, closed));
    net->set_end(closed);
    if (!net->finish(root)) return;
    automaton = std::make_unique<Automaton>(net);
    inside = automaton->start();
    behind = automaton->step(inside, '"');
  }
};

StringTokens scan(StringBody body, const std::vector<std::string>& tokens) {
  StringTokens out;
  const std::size_t words = (tokens.size() + 31) / 32;
  out.inside.assign(words, 0);
  for (auto& bits : out.up_to) bits.assign(words, 0);
  BodyScanner scanner(body);
  std::vector<std::pair<std::string_view, std::uint32_t>> tails, closing;
  for (std::uint32_t id = 0; id < tokens.size(); ++id) {
    const std::string_view text = tokens[id];
    Automaton::Id state = scanner.inside;
    std::uint32_t characters = 0;
    std::size_t at = 0;
    for (; at < text.size() && state != Automaton::kDead && state != scanner.behind; ++at) {
      state = scanner.automaton->step(state, static_cast<std::uint8_t>(text[at]));
      if (state == scanner.inside) ++characters;
    }
    if (text.empty() || state == Automaton::kDead) continue;
    if (state == scanner.behind) {
      tails.emplace_back(text.substr(at), static_cast<std::uint32_t>(out.closers.size()));
      out.closers.push_back({id, characters});
      closing.emplace_back(text, id);
      continue;
    }
    if (state != scanner.inside) ++characters;  // one is begun
    set_bit(out.inside, id);
    if (characters > StringTokens::kCountsMax) out.longer.push_back({id, characters});
    for (std::size_t n = characters; n <= StringTokens::kCountsMax; ++n) set_bit(out.up_to[n], id);
  }
  out.tails = TokenTrie::of(tails);
  out.closing = TokenTrie::of(closing);
  return out;
}

}  // namespace

TokenTrie TokenTrie::of(std::span<const std::pair<std::string_view, std::uint32_t>> texts) {
  std::vector<std::pair<std::string_view, std::uint32_t>> sorted(texts.begin(), texts.end());
  std::sort(sorted.begin(), sorted.end());
  TokenTrie trie;
  trie.nodes.emplace_back();
  std::vector<std::uint32_t> path{0};
  std::string_view before;
  const auto leave = [&](std::size_t depth) {
    for (; path.size() > depth + 1; path.pop_back())
      trie.nodes[path.back()].end = static_cast<std::uint32_t>(trie.nodes.size());
  };
  for (const auto& [text, item] : sorted) {
    const auto common = static_cast<std::size_t>(
        std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin());
    leave(common);
    for (std::size_t i = common; i < text.size(); ++i) {
      path.push_back(static_cast<std::uint32_t>(trie.nodes.size()));
      Node node;
      node.first = static_cast<std::uint32_t>(trie.items.size());
      node.depth = static_cast<std::uint16_t>(i + 1);
      node.byte = static_cast<std::uint8_t>(text[i]);
      trie.nodes.push_back(node);
    }
    trie.items.push_back(item);
    before = text;
  }
  leave(0);
  const auto size = static_cast<std::uint32_t>(trie.nodes.size());
  trie.nodes[0].end = size;
  trie.find_texts();
  Node last;
  last.end = size, last.first = static_cast<std::uint32_t>(trie.items.size());
  trie.nodes.push_back(last);
  return trie;
}

void TokenTrie::find_texts() {
  const auto size = static_cast<std::uint32_t>(nodes.size());
  // By node: what may follow it within its character.
  std::vector<Utf8Tail> tails(size);
  tails[0].bytes = 0;
  std::vector<std::uint32_t> parents(1, 0);
  for (std::uint32_t i = 1; i < size; ++i) {
    parents.resize(nodes[i].depth), parents.push_back(i);
    const Utf8Tail& before = tails[parents[nodes[i].depth - 1u]];
    tails[i] = before.bytes > 0 ? before.behind(nodes[i].byte)
                                : Utf8Tail::of(before.bytes < 0 ? CharacterSet::kBroken : nodes[i].byte);
  }
  texts.assign(1, {});
  std::vector<Texts> below(size);
  for (std::uint32_t i = size; i-- > 1;) {  // children come after their parent
    Texts& here = below[i];
    for (std::uint32_t child = i + 1; child < nodes[i].end; child = nodes[child].end) {
      here.characters.add(below[child].characters);
      here.length = std::max(here.length, below[child].length);
    }
    const Utf8Tail own = Utf8Tail::of(nodes[i].byte);
    if (tails[i].bytes < 0) here.characters.add(CharacterSet::kBroken);
    if (own.bytes < 0) continue;
    // Behind another character or at the beginning; inside of one no byte begins another.
    here.characters.add(nodes[i].byte), ++here.length;
    if (nodes[i].end - i < kNodesWithTexts) continue;
    nodes[i].texts = static_cast<std::uint32_t>(texts.size());
    texts.push_back(here);
  }
}

std::uint32_t TokenTrie::child(std::uint32_t node, std::uint8_t byte) const {
  for (std::uint32_t i = node + 1; i < nodes[node].end; i = nodes[i].end)
    if (nodes[i].byte == byte) return i;
  return 0;
}

Vocabulary::Vocabulary(std::vector<std::string> tokens, std::vector<std::uint32_t> end_ids)
    : tokens_(std::move(tokens)), end_ids_(std::move(end_ids)) {
  std::vector<std::pair<std::string_view, std::uint32_t>> texts;
  for (std::uint32_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_[id].size() > kTokenBytesMax || beyond_text(tokens_[id])) tokens_[id].clear();
    if (!tokens_[id].empty() && !ends(id)) texts.emplace_back(tokens_[id], id);
  }
  std::erase_if(end_ids_, [&](std::uint32_t id) { return id >= tokens_.size(); });
  for (const std::uint32_t id : end_ids_) tokens_[id].clear();
  trie_ = TokenTrie::of(texts);
  free_ = scan(StringBody::kFree, tokens_);
  plain_ = scan(StringBody::kPlain, tokens_);
}

std::optional<std::uint32_t> Vocabulary::find(std::string_view bytes) const {
  std::uint32_t node = 0;
  for (const char c : bytes) {
    node = trie_.child(node, static_cast<std::uint8_t>(c));
    if (node == 0) return std::nullopt;
  }
  if (bytes.empty() || trie_.nodes[node].first == trie_.nodes[node + 1].first) return std::nullopt;
  return trie_.items[trie_.nodes[node].first];
}

bool Vocabulary::ends(std::uint32_t token) const {
  return std::find(end_ids_.begin(), end_ids_.end(), token) != end_ids_.end();
}

std::shared_ptr<const Vocabulary> Vocabulary::of(const Tokenizer& tokenizer) {
  std::vector<std::string> tokens(tokenizer.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token& token = tokenizer.token(static_cast<TokenId>(i));
    const bool text =
        token.kind == TokenKind::kNormal || token.kind == TokenKind::kUserDefined || token.kind == TokenKind::kByte;
    if (text) tokens[i] = token.bytes;
    if (token.kind == TokenKind::kControl && !token.text.empty()) tokens[i] = control_mark(token.text);
  }
  std::vector<std::uint32_t> ends;
  for (const TokenId id : tokenizer.end_ids())
    if (id >= 0) ends.push_back(static_cast<std::uint32_t>(id));
  return std::make_shared<const Vocabulary>(std::move(tokens), std::move(ends));
}

}  // namespace llorch
