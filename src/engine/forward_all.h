// Runs a token sequence through a decoder from position 0, in chunks, and hands over the logits of every position.
#pragma once

#include <functional>
#include <numeric>

#include "base/limits.h"
#include "engine/loaded_model.h"

namespace llorch {

using LogitsSink = std::function<void(int position, std::span<const float> logits)>;

[[nodiscard]] inline Status forward_all(Decoder& decoder, std::span<const TokenId> tokens, int chunk,
                                        KvPrecision precision, const LogitsSink& sink,
                                        const Observer* observer = nullptr) {
  constexpr int kPage = limits::kKvPagePositions;
  const auto n = static_cast<int>(tokens.size());
  const int pages = (n + kPage - 1) / kPage, vocab = decoder.parts().vocab;
  LLORCH_TRY(const auto kv, decoder.backend().make_kv(decoder.kv_shape(pages, precision)));
  std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
  std::iota(table.begin(), table.end(), 0);
  chunk = std::clamp(chunk, 1, decoder.rows_max());
  std::vector<float> logits;
  for (int done = 0; done < n; done += chunk) {
    std::vector<BatchRow> rows;
    std::vector<std::int32_t> wanted;
    for (int i = done; i < std::min(n, done + chunk); ++i) {
      wanted.push_back(static_cast<std::int32_t>(rows.size()));
      rows.push_back({tokens[static_cast<std::size_t>(i)], i, table.data()});
    }
    logits.resize(rows.size() * static_cast<std::size_t>(vocab));
    LLORCH_OK(decoder.forward(rows, *kv, wanted, logits, observer));
    LLORCH_OK(decoder.finite_rows(0, rows.size()));
    for (std::size_t i = 0; i < rows.size(); ++i)
      sink(done + static_cast<int>(i),
           std::span(logits).subspan(i * static_cast<std::size_t>(vocab), static_cast<std::size_t>(vocab)));
  }
  return {};
}

}  // namespace llorch
