// The asynchronous copies that one thread has begun and not waited for.
#pragma once

#include <cstring>
#include <vector>

namespace llorch::cuda::host {

class CopyQueue {
 public:
  struct Copy {
    void* target;
    const void* source;
    unsigned bytes, source_bytes;
  };
  void begin(const Copy& copy) { copies_.push_back(copy); }
  void commit() {
    groups_.push_back(static_cast<unsigned>(copies_.size()) - grouped_);
    grouped_ = static_cast<unsigned>(copies_.size());
  }
  /// Does what is not in the newest `groups` groups, nor begun after the last commit().
  void wait(unsigned groups) {
    if (groups_.size() <= groups) return;
    unsigned done = 0;
    const auto last = groups_.end() - groups;
    for (auto group = groups_.begin(); group != last; ++group) done += *group;
    for (unsigned i = 0; i < done; ++i) perform(copies_[i]);
    groups_.erase(groups_.begin(), last);
    copies_.erase(copies_.begin(), copies_.begin() + done);
    grouped_ -= done;
  }
  [[nodiscard]] bool empty() const { return copies_.empty(); }
  void clear() {
    copies_.clear();
    groups_.clear();
    grouped_ = 0;
  }

 private:
  static void perform(const Copy& copy) {
    std::memcpy(copy.target, copy.source, copy.source_bytes);
    std::memset(static_cast<char*>(copy.target) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
  }

  std::vector<Copy> copies_;
  std::vector<unsigned> groups_;  // how many copies are in each
  unsigned grouped_ = 0;          // copies that are in a group
};

}  // namespace llorch::cuda::host
