// Checkpoints of two engines, layer by layer: a map of where they differ, the first layer that does, and layers whose
// weights stand in each other's place.
//
// Read from folders of .npy files, float32 [positions, width], under the names of src/forward/model.h. Of a layer with
// an RMS norm, what comes out of the norm divided by what went in, normalised, is the norm's weight: a fingerprint of
// the layer that needs nobody's model file.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "keeper/lab.h"

namespace llorch::keeper {

struct LayerMap {
  std::vector<std::string> names;               // of the checkpoints that both have, in order of computation
  std::vector<std::vector<double>> difference;  // [checkpoint][position]: norm of the difference to the truth's norm
  std::string first;                            // beyond `tolerance` at any position; empty: none
  std::vector<Finding> findings;                // swapped_layers
};
/// Embedding, outputs of layers and the final norm. Empty where one of them shows no checkpoints.
/// Errors: those of parse_npy() and MappedFile::open() for a file that is there.
[[nodiscard]] Result<LayerMap> compare_layers(const std::string& truth, const std::string& engine, double tolerance);

}  // namespace llorch::keeper
