// Graphs of the emulated device. A stream that captures keeps its operations as nodes, each after the one before it in
// its stream and after what the events say that it waited for. A run of the graph takes the nodes in any order that
// these allow. A stream that waits for an event of a capture joins it, and must be waited for before the end.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "cuda/host/operation.h"
#include "cuda/host/order.h"

namespace llorch::cuda::host {

struct GraphNode {
  Operation operation;
  std::vector<int> after;
};
class GraphNodes {
 public:
  std::shared_ptr<const std::vector<GraphNode>> nodes;
};

class Capture {
 public:
  explicit Capture(StreamQueue* origin) : origin_(origin) { last_[origin] = -1; }
  [[nodiscard]] StreamQueue* origin() const { return origin_; }
  void join(StreamQueue* stream) { last_.try_emplace(stream, -1); }
  void add(StreamQueue* stream, Operation operation);
  /// The newest node of a stream; -1 for none.
  [[nodiscard]] int last(StreamQueue* stream) const { return last_.at(stream); }
  /// The next node of the stream comes after `node`, too.
  void wait(StreamQueue* stream, int node) { waits_[stream].push_back(node); }
  [[nodiscard]] std::vector<StreamQueue*> streams() const;
  /// Errors: work of another stream that the origin never waited for.
  [[nodiscard]] Problem check_joined() const;
  [[nodiscard]] std::vector<GraphNode> take_nodes() { return std::move(nodes_); }

 private:
  StreamQueue* origin_;
  std::vector<GraphNode> nodes_;
  std::map<StreamQueue*, int> last_;
  std::map<StreamQueue*, std::vector<int>> waits_;
};

/// Runs all nodes; the first problem ends it.
Problem run_graph(const std::vector<GraphNode>& nodes, Chooser& chooser);

}  // namespace llorch::cuda::host
