// The two other ways in which a step can be told (O-01): "cute", for whoever likes the bees, and "story", for whoever
// wants to follow. A step without such a text is told as it is.
#pragma once

#include <string_view>

namespace llorch::service {

struct Tone {
  std::string_view cute, story;  // empty: none
};
/// Of a narration's action, such as "worker_spawn".
[[nodiscard]] Tone tone_of(std::string_view action);

}  // namespace llorch::service
