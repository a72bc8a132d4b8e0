// What sequences take from the cache, and what they leave in it.
#include <algorithm>
#include <exception>
#include <ranges>
#include <utility>

#include "engine/engine.h"
#include "engine/sequence.h"

namespace llorch {
namespace {

/// Tokens between checkpoints inside a prompt.
constexpr int kCheckpointEvery = 1024;
}  // namespace

void Engine::evict_cache() {
  pages_.evict_all(), checkpoints_.evict_all();
  for (WindowGroup& group : windows_) group.pages.evict_all();
}

void Engine::leave_cache(Sequence& s) {
  for (std::size_t g = 0; g < s.windowed.size(); ++g) {
    for (const std::int32_t page : s.windowed[g] | std::views::reverse)
      if (page >= 0) windows_[g].pages.drop(page);
    s.windowed[g].clear(), s.slid[g] = 0;
  }
  // The last ones are the first to leave: without its beginning what follows serves nobody.
  for (const std::int32_t page : s.pages | std::views::reverse) pages_.drop(page);
  s.pages.clear();
  for (const StepPlan::Save& save : s.saves) checkpoints_.drop(save.checkpoint);
  s.saves.clear();
  for (std::int32_t* checkpoint : {&s.restore, &s.checkpoint})
    if (*checkpoint >= 0) checkpoints_.drop(std::exchange(*checkpoint, -1));
  if (s.slot >= 0) free_slots_.push_back(std::exchange(s.slot, -1));
}

/// What adapters change is part of the model's name in all keys of the cache. No file is named with a NUL.
PageHash Engine::root_of(const GenerateRequest& request) const {
  std::string model = options_.model_id;
  if (request.adapter >= 0) model += '\0' + model_.adapters()[static_cast<std::size_t>(request.adapter)].identity;
  return root_hash(model, request.cache_salt);
}

/// Shares the cached beginning of what is known and takes pages for the rest; all or nothing. There must be room to
/// grow, too.
bool Engine::try_start(Sequence& s) {
  const int known = static_cast<int>(s.tokens.size()), need = pages_for(known);
  const int most = pages_for(s.prompt_size() + s.request.max_tokens);
  s.pages.reserve(static_cast<std::size_t>(most));  // so that no page is taken and then lost
  s.hash = root_of(s.request);
  std::vector<PageHash> hits;
  constexpr int kTriesBelow = 2;  // what turns out to be gone is not counted on again
  for (int tries = 0; tries <= kTriesBelow; ++tries) {
    hits = hits_of(s, tries < kTriesBelow);
    int room = std::min(need + 1, most);
    for (const PageHash& hash : hits) room -= pages_.has(hash) && !pages_.idle(hash);
    if (room > pages_.available()) return false;
    const Lift lifted = lift(hits);
    if (lifted == Lift::kLater) return false;
    if (lifted == Lift::kDone) break;
  }
  s.saves.reserve(static_cast<std::size_t>(options_.prefill_chunk / kPage + 2));
  s.slot = free_slots_.back();  // as many as can run
  free_slots_.pop_back();
  if (recurrent() && !hits.empty()) s.restore = *checkpoints_.share(hits.back());
  for (const PageHash& hash : hits) {
    s.pages.push_back(*pages_.share(hash));
    s.hash = hash;
  }
  s.hashed_pages = static_cast<int>(hits.size());
  s.slid.resize(windows_.size()), s.windowed.resize(windows_.size());  // in this order: see leave_cache()
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    std::vector<std::int32_t>& mine = s.windowed[g];
    mine.reserve(static_cast<std::size_t>(most));
    s.slid[g] = first_seen(windows_[g], s.hashed_pages * kPage);
    for (int p = 0; p < s.hashed_pages; ++p)
      mine.push_back(p < s.slid[g] ? -1 : *windows_[g].pages.share(hits[static_cast<std::size_t>(p)]));
  }
  s.computed = s.hashed_pages * kPage;
  while (static_cast<int>(s.pages.size()) < need) s.pages.push_back(*pages_.take());
  return true;
}

std::vector<PageHash> Engine::hits_of(const Sequence& s, bool below) const {
  // At least one token must be computed, to have logits; so the last page is shared only when the prompt goes beyond
  // it.
  const auto known = static_cast<int>(s.tokens.size());
  int shareable = s.request.embedding ? 0 : (known - 1) / kPage;        // an embedding needs every state
  if (s.unscored()) shareable = std::min(shareable, s.scored / kPage);  // and so do log probabilities of a prompt
  std::vector<PageHash> hits;
  for (PageHash hash = s.hash; static_cast<int>(hits.size()) < shareable;) {
    hash = chain_hash(hash, std::span(s.tokens).subspan(hits.size() * kPage, kPage));
    if (!pages_.has(hash) && !(below && is_below(0, hash))) break;
    hits.push_back(hash);
  }
  while (!hits.empty() && !can_go_on(hits, below)) hits.pop_back();
  return hits;
}

KvPages& Engine::pages_of(int group) {
  if (group == kCheckpointGroup) return checkpoints_;
  return group == 0 ? pages_ : windows_[static_cast<std::size_t>(group) - 1].pages;
}

bool Engine::is_below(int group, const PageHash& hash) const {
  try {
    return levels_ && levels_->has({group, hash});
  } catch (const std::exception&) {  // no memory to look for it
    return false;
  }
}

Engine::Lift Engine::lift(std::span<const PageHash> hits) {
  if (!levels_ || hits.empty()) return Lift::kDone;
  try {
    return lift_all(hits);
  } catch (const std::exception&) {  // no memory for that; there may be for computing
    return Lift::kGone;
  }
}

Engine::Lift Engine::lift_all(std::span<const PageHash> hits) {
  struct Wanted {
    int group;
    std::span<const PageHash> hashes;
  };
  std::vector<Wanted> wanted{{0, hits}};
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    const auto first = static_cast<std::size_t>(first_seen(windows_[g], static_cast<int>(hits.size()) * kPage));
    wanted.push_back({static_cast<int>(g) + 1, hits.subspan(std::min(first, hits.size()))});
  }
  if (recurrent()) wanted.push_back({kCheckpointGroup, hits.last(1)});

  // While they have an owner, none of them makes room for another.
  struct Held {
    std::vector<std::pair<KvPages*, std::int32_t>> pages;
    ~Held() {
      for (const auto& [of, page] : pages | std::views::reverse) of->give_back(page);
    }
  } held;
  std::size_t count = 0;
  for (const Wanted& w : wanted) count += w.hashes.size();
  held.pages.reserve(count);
  const bool others = std::ranges::any_of(running_, [](const auto& s) { return !s->paused && !s->done; });
  const std::int64_t most = others ? options_.lifted_besides : options_.lifted_alone;
  bool touched = false;
  for (const bool missing : {false, true})
    for (const auto& [group, hashes] : wanted) {
      KvPages& pages = pages_of(group);
      Content content;
      for (const PageHash& hash : hashes) {
        if (pages.has(hash) == missing) continue;
        if (!missing) {
          held.pages.emplace_back(&pages, *pages.share(hash));
          continue;
        }
        if (!touched) {  // so that what makes room for one of them in memory is none of the others
          for (const Wanted& w : wanted | std::views::reverse)
            for (const PageHash& wish : w.hashes | std::views::reverse) levels_->touch({w.group, wish});
          touched = true;
        }
        if (lifted_ >= most) {
          lifts_ = true;
          return Lift::kLater;
        }
        content.resize(cache_->content_bytes(group));
        if (!levels_->get({group, hash}, content)) return Lift::kGone;
        const auto page = pages.take();
        if (!page) return Lift::kGone;
        held.pages.emplace_back(&pages, *page);
        if (!cache_->write_content(group, *page, content)) return Lift::kGone;
        pages.publish(*page, hash);
        lifted_ += static_cast<std::int64_t>(content.size());
      }
    }
  return Lift::kDone;
}

void Engine::use(std::unique_ptr<CacheLevels> levels) {
  if (!options_.prefix_cache) return;
  levels_ = std::move(levels);
  for (int group = recurrent() ? kCheckpointGroup : 0; group <= static_cast<int>(windows_.size()); ++group)
    pages_of(group).watch(
        {[this, group](std::int32_t page, const PageHash& hash) { hand_down(group, page, hash, false); },
         [this, group](std::int32_t page, const PageHash& hash) { hand_down(group, page, hash, true); }});
}

void Engine::hand_down(int group, std::int32_t page, const PageHash& hash, bool leaves) noexcept {
  try {
    const ContentKey key{group, hash};
    if (leaves ? !levels_->wants_what_leaves(key) : !levels_->wants_to_store(key)) return;
    Content content(cache_->content_bytes(group));
    if (!cache_->read_content(group, page, content)) return;
    leaves ? levels_->leave(key, std::move(content)) : levels_->store(key, std::move(content));
  } catch (const std::exception&) {  // no memory: it is computed again one day
  }
}

int Engine::first_seen(const WindowGroup& group, int border) { return std::max(0, border + 1 - group.window) / kPage; }

/// Whether all that is remembered behind these pages is there: a state for some borders alone, of windowed layers what
/// is seen from there.
bool Engine::can_go_on(std::span<const PageHash> hashes, bool below) const {
  const auto there = [&](const KvPages& pages, int group, const PageHash& hash) {
    return pages.has(hash) || (below && is_below(group, hash));
  };
  if (recurrent() && !there(checkpoints_, kCheckpointGroup, hashes.back())) return false;
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    const auto first = static_cast<std::size_t>(first_seen(windows_[g], static_cast<int>(hashes.size()) * kPage));
    for (const PageHash& hash : hashes.subspan(std::min(first, hashes.size())))
      if (!there(windows_[g].pages, static_cast<int>(g) + 1, hash)) return false;
  }
  return true;
}

bool Engine::see(Sequence& s, int end) {
  for (std::size_t g = 0; g < windows_.size(); ++g)
    while (static_cast<int>(s.windowed[g].size()) < pages_for(end)) {
      const auto page = windows_[g].pages.take();
      if (!page) return false;
      s.windowed[g].push_back(*page);
    }
  return true;
}

/// What was seen from the prompt's last border, or from one of those inside it that get a checkpoint, stays in the
/// cache: others may go on from there.
void Engine::slide(Sequence& s) {
  const int of_prompt = s.prompt_size() / kPage * kPage;
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    const WindowGroup& group = windows_[g];
    for (const int first = first_seen(group, s.computed / kPage * kPage); s.slid[g] < first; ++s.slid[g]) {
      const int page = s.slid[g], next = (page / (kCheckpointEvery / kPage) + 1) * kCheckpointEvery;
      const auto serves = [&](int border) {
        return border <= of_prompt && page * kPage < border && page >= first_seen(group, border);
      };
      std::int32_t& number = s.windowed[g][static_cast<std::size_t>(page)];
      serves(of_prompt) || serves(next) ? windows_[g].pages.drop(number) : windows_[g].pages.discard(number);
      number = -1;
    }
  }
}

void Engine::want_checkpoints(Sequence& s, int end) {
  if (!recurrent() || !options_.prefix_cache || s.request.embedding) return;
  const int of_prompt = s.prompt_size() / kPage * kPage;
  for (int border = (s.computed / kPage + 1) * kPage; border <= end; border += kPage) {
    if (border < of_prompt && border % kCheckpointEvery != 0) continue;
    if (const auto checkpoint = checkpoints_.take()) s.saves.push_back({border, *checkpoint});
  }
}

/// The state behind the pages that were hashed last. Those of a prompt stay in the cache; behind it one for each border
/// is too much: the last one stays.
void Engine::publish_checkpoint(Sequence& s, int position) {
  const auto save = std::ranges::find(s.saves, position, &StepPlan::Save::position);
  if (save == s.saves.end()) return;
  const std::int32_t checkpoint = save->checkpoint;
  checkpoints_.publish(checkpoint, s.hash);  // may throw: until then it is among the saves
  s.saves.erase(save);
  if (position <= s.prompt_size()) return checkpoints_.drop(checkpoint);
  if (s.checkpoint >= 0) checkpoints_.discard(s.checkpoint);
  s.checkpoint = checkpoint;
}

void Engine::publish_full_pages(Sequence& s) {
  if (s.restore >= 0) checkpoints_.drop(std::exchange(s.restore, -1));
  if (s.request.embedding) return slide(s);  // it goes on from nothing, and nothing from it
  while ((s.hashed_pages + 1) * kPage <= s.computed) {
    s.hash = chain_hash(s.hash, std::span(s.tokens).subspan(static_cast<std::size_t>(s.hashed_pages) * kPage, kPage));
    const std::int32_t page = s.pages[static_cast<std::size_t>(s.hashed_pages)];
    pages_.publish(page, s.hash);
    if (levels_) hand_down(0, page, s.hash, false);
    for (std::size_t g = 0; g < windows_.size(); ++g)
      windows_[g].pages.publish(s.windowed[g][static_cast<std::size_t>(s.hashed_pages)], s.hash);
    ++s.hashed_pages;
    publish_checkpoint(s, s.hashed_pages * kPage);
  }
  slide(s);
}

}  // namespace llorch
