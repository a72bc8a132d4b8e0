// A model of the zoo (test data, models/zoo), and what it should compute.
#pragma once

#include <cmath>
#include <cstring>

#include "golden.h"

namespace llorch {

/// The float32 values of a .npy file, version 1.
inline std::vector<float> read_npy(const std::string& path) {
  const MappedFile file = MappedFile::open(path).value();
  std::uint16_t header = 0;
  std::memcpy(&header, file.bytes().data() + 8, 2);
  const auto data = file.bytes().subspan(10u + header);
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), values.size() * sizeof(float));
  return values;
}

inline json::value read_json(const std::string& path) {
  return json::parse(read_text_file(path, limits::kJsonBytesMax).value(), path).value();
}
inline TokenIds token_ids(const json::array& array) {
  TokenIds ids;
  for (const json::value& v : array) ids.push_back(static_cast<TokenId>(*json::as_unsigned(v)));
  return ids;
}

struct ZooPrompt {
  TokenIds ids;
  std::vector<float> logits;  // of an encoder its states
  TokenIds greedy;            // empty where the folder has none
};

/// Of a model's folder: one prompt of 5 tokens and one of 40.
inline std::vector<ZooPrompt> zoo_prompts(const std::string& folder) {
  const json::value ids = read_json(folder + "/ids.json");
  std::vector<ZooPrompt> prompts;
  for (const char* name : {"5", "40"}) {
    ZooPrompt& p = prompts.emplace_back();
    p.ids = token_ids(*json::find_array(ids.get_object(), name));
    p.logits = read_npy(fmt::format("{}/logits-{}.npy", folder, name));
    if (std::filesystem::exists(folder + "/greedy.json")) {
      const json::value greedy = read_json(folder + "/greedy.json");
      p.greedy = token_ids(*json::find_array(*json::find_object(greedy.get_object(), name), "ids"));
    }
  }
  return prompts;
}

/// A model without its tokenizer, whose kind may be one that is not supported.
struct ZooBody {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Device> device;
  std::unique_ptr<Model> model;
};

inline ZooBody load_zoo_body(const std::string& path, std::unique_ptr<Device> device, int context) {
  ZooBody body{open_model(path).value(), std::move(device), nullptr};
  auto graph = arch::read_graph(*body.source, context);
  if (!graph) throw std::runtime_error(graph.error().message);  // gtest reports it as this test's failure
  auto model = Model::load(*body.device, *body.source, std::move(*graph), {});
  if (!model) throw std::runtime_error(model.error().message);
  body.model = std::move(*model);
  return body;
}

/// The largest error, of the largest true value; HUGE_VAL where something is missing or not finite.
inline double error_of(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return HUGE_VAL;
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i])) return HUGE_VAL;
    worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
    size = std::max(size, std::fabs(static_cast<double>(want[i])));
  }
  return size > 0 ? worst / size : HUGE_VAL;
}

}  // namespace llorch
