#include "cuda/host/capture.h"

#include <utility>

namespace llorch::cuda::host {

void Capture::add(StreamQueue* stream, Operation operation) {
  std::vector<int> after = std::exchange(waits_[stream], {});
  if (last(stream) >= 0) after.push_back(last(stream));
  last_[stream] = static_cast<int>(nodes_.size());
  nodes_.push_back({std::move(operation), std::move(after)});
}

std::vector<StreamQueue*> Capture::streams() const {
  std::vector<StreamQueue*> out;
  for (const auto& [stream, node] : last_) out.push_back(stream);
  return out;
}

Problem Capture::check_joined() const {
  std::vector<int> todo = {last(origin_)};
  if (const auto waits = waits_.find(origin_); waits != waits_.end())
    todo.insert(todo.end(), waits->second.begin(), waits->second.end());
  std::vector<bool> reached(nodes_.size());
  while (!todo.empty()) {
    const int node = todo.back();
    todo.pop_back();
    if (node < 0 || reached[static_cast<std::size_t>(node)]) continue;
    reached[static_cast<std::size_t>(node)] = true;
    const auto& after = nodes_[static_cast<std::size_t>(node)].after;
    todo.insert(todo.end(), after.begin(), after.end());
  }
  for (const bool each : reached)
    if (!each) return "a capture ends, and its stream has not waited for what it captured of another";
  return std::nullopt;
}

Problem run_graph(const std::vector<GraphNode>& nodes, Chooser& chooser) {
  std::vector<std::vector<int>> followers(nodes.size());
  std::vector<std::size_t> missing(nodes.size());
  std::vector<int> ready;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    missing[i] = nodes[i].after.size();
    for (const int before : nodes[i].after) followers[static_cast<std::size_t>(before)].push_back(static_cast<int>(i));
    if (missing[i] == 0) ready.push_back(static_cast<int>(i));
  }
  while (!ready.empty()) {
    const auto chosen = ready.begin() + static_cast<std::ptrdiff_t>(chooser.index(ready.size()));
    const auto node = static_cast<std::size_t>(*chosen);
    ready.erase(chosen);
    if (auto problem = nodes[node].operation.run()) return problem;
    for (const int follower : followers[node])
      if (--missing[static_cast<std::size_t>(follower)] == 0) ready.push_back(follower);
  }
  return std::nullopt;
}

}  // namespace llorch::cuda::host
