#include "service/tone.h"

#include <algorithm>
#include <array>
#include <utility>

namespace llorch::service {
namespace {

// In order of the actions.
constexpr std::array<std::pair<std::string_view, Tone>, 27> kTones{{
    {"accepted", {"a wish flies in", "A request has reached the queen, and she opens a job for it."}},
    {"capabilities",
     {"what can you lift, little hive?", "The hive tells what machines it has, and the queen remembers."}},
    {"complete", {"honey delivered", "The worker has given its last token, and the job is done."}},
    {"dispatch", {"off you go, little prompt", "The queen hands the prompt to the worker that she chose."}},
    {"evict",
     {"somebody has to leave the warm spot", "There is no room left, so a worker that nobody needs now makes way."}},
    {"execute_end", {"the last drop is out", "The worker lays the finished sequence aside."}},
    {"execute_start", {"buzzing begins", "The worker reads the prompt before it can speak."}},
    {"hive_awake", {"the hive hums", "The hive's first heartbeat has come: it can be trusted with work."}},
    {"hive_catalog", {"the queen looks round her meadow", "The queen looks up which machines belong to her."}},
    {"hive_check", {"knock, knock: who is at home?", "The queen asks a hive how it is."}},
    {"hive_start", {"the hive stretches and yawns", "Nobody is awake on this machine, so the queen wakes its hive."}},
    {"hive_wait", {"shh, it is waking up", "Until the hive's heart beats, nothing is asked of it."}},
    {"memory_check",
     {"is there room in the comb?", "The queen asks the hive whether the model would fit into its memory."}},
    {"memory_room", {"plenty of room in the comb", "The hive has counted weights, cache and scratch: they fit."}},
    {"model_cached", {"the pantry is full already", "The hive finds the model where it was left."}},
    {"model_complete", {"the pantry is full", "The model has come over the network, whole, and is kept."}},
    {"model_download", {"fetching nectar from afar", "The model is not here yet, so the hive sets out for it."}},
    {"model_fetch", {"fetching nectar from afar", "The model is not here yet, so the hive sets out for it."}},
    {"queue", {"the bees stand in line", "Nobody is free yet, so the request waits for its turn."}},
    {"retry", {"a wing slipped: once more", "The worker failed before it spoke, so the queen tries again."}},
    {"schedule", {"the queen picks a bee", "The queen weighs who could answer soonest, and decides."}},
    {"worker_awake", {"a bee is up and humming", "The worker has loaded its model and warmed up."}},
    {"worker_install", {"trying on a new uniform", "The hive asks a program what kind of worker it is."}},
    {"worker_installed", {"the uniform fits", "The hive knows this kind of worker already."}},
    {"worker_ready", {"a bee is up and humming", "The worker has loaded its model and warmed up."}},
    {"worker_spawn", {"an egg hatches", "The hive starts a process that will hold this one model."}},
    {"worker_stop", {"back to sleep, little bee", "The hive asks a worker to finish and end."}},
}};

}  // namespace

Tone tone_of(std::string_view action) {
  const auto* const found = std::ranges::lower_bound(kTones, action, {}, &decltype(kTones)::value_type::first);
  return found != kTones.end() && found->first == action ? found->second : Tone{};
}

}  // namespace llorch::service
