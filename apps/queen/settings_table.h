// Settings of models as the queen has them: those of her configuration file, and over them those that she was told and
// keeps over restarts. Threads: the event loop's.
#pragma once

#include <set>
#include <string>
#include <utility>

#include "colony/model_settings.h"

namespace llorch::queen {

class SettingsTable {
 public:
  SettingsTable() = default;
  SettingsTable(colony::SettingsByModel file, colony::SettingsByModel kept)
      : file_(std::move(file)), kept_(std::move(kept)) {}

  /// What is in force for a model: kept ones over those of the file, and in each those of the model over those of its
  /// repository.
  [[nodiscard]] colony::ModelSettings of(const colony::ModelRef& ref) const {
    colony::ModelSettings out = colony::settings_for(file_, ref);
    out.merge(colony::settings_for(kept_, ref));
    return out;
  }
  /// What the file alone says of it.
  [[nodiscard]] colony::ModelSettings in_file(const colony::ModelRef& ref) const {
    return colony::settings_for(file_, ref);
  }
  /// Under this very reference.
  [[nodiscard]] colony::ModelSettings kept(const colony::ModelRef& ref) const {
    const auto found = kept_.find(ref.text());
    return found == kept_.end() ? colony::ModelSettings() : found->second;
  }
  void keep(const colony::ModelRef& ref, colony::ModelSettings settings) {
    if (settings.empty())
      kept_.erase(ref.text());
    else
      kept_[ref.text()] = std::move(settings);
  }
  /// References of which something is said.
  [[nodiscard]] std::set<std::string> models() const {
    std::set<std::string> out;
    for (const auto* all : {&file_, &kept_})
      for (const auto& [ref, settings] : *all) out.insert(ref);
    return out;
  }

 private:
  colony::SettingsByModel file_, kept_;
};

}  // namespace llorch::queen
