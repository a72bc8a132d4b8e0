// A low-rank adapter (LoRA), bound to the matrices of a graph: beside a product y = W x it adds scale * B (A x), and W
// stays as it is. Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
//
// Values are plain floats in the order of the graph's own rows and columns, whatever the adapter's file has. Ownership:
// values only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/graph.h"

namespace llorch {

/// Of one matrix of the graph. Where a tensor of the file is used as several matrices, each has its rows of B, and all
/// of A.
struct LowRankPair {
  TensorId weight;                       // of Graph::tensors
  std::int64_t rank = 0;                 // rows of A
  std::int64_t inputs = 0, outputs = 0;  // of the matrix
  std::vector<float> a;                  // (rank, inputs)
  std::vector<float> b;                  // (outputs, rank)
  float scale = 1;                       // alpha / rank, or alpha / sqrt(rank), times what the user asked for
};

struct Adapter {
  std::string name;                // by which requests choose it
  float asked_scale = 1;           // that every pair's scale has in it
  std::vector<LowRankPair> pairs;  // ascending by weight, each weight once
  /// Of all that changes a result: what was computed with another one is never shared.
  std::string identity;

  /// On a device.
  [[nodiscard]] std::int64_t bytes() const {
    std::int64_t values = 0;
    for (const LowRankPair& p : pairs) values += p.rank * (p.inputs + p.outputs);
    return values * static_cast<std::int64_t>(sizeof(float));
  }
};

/// Calls `visit` for each product of the walk that an adapter may change: those of one matrix with all of a step's rows
/// or those with logits. Not the experts of a mixture, nor what latent attention computes head by head.
void for_each_adaptable(const Graph& graph, const std::function<void(const Linear&)>& visit);

}  // namespace llorch
