// Packed weights in a file of their own, so that a second start maps them in place of packing them anew. Processes that
// hold the same model share those pages.
//
// The file: a text head (a line for what it was made from, a line per matrix, "end"), then from a multiple of 2 MiB on
// the panels, one matrix behind the other. It is written beside its place and renamed when whole. A file that belongs
// to another source, another instruction set or another layout is left alone and later replaced: matrices must come in
// the same order with the same shapes, and the first and the last panel of each is packed anew and compared.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"

namespace llorch {

struct PanelCacheOptions {
  std::string folder;  // empty: no cache
  std::string name;    // of the file, without what belongs to the instruction set
  std::string source;  // what the weights come from: another text, another model
  /// Told once after loading, from a thread of its own, when a file was written (its path), or why none could be.
  std::function<void(const Result<std::string>&)> written;
  std::shared_ptr<void> keeper = nullptr;  // let go after the last use of the folder
};

class PanelCache {
 public:
  struct Matrix {
    std::string name;
    std::int64_t type, rows, columns;
    bool operator==(const Matrix&) const = default;
  };

  PanelCache(PanelCacheOptions options, std::string_view isa);

  /// The panels of the next matrix, or nothing where the file does not have them. Thread: the loader's.
  [[nodiscard]] std::optional<std::span<const std::byte>> next(const Matrix& matrix, std::size_t bytes);
  /// What next() gave is not what it should be: nothing more is taken from this file.
  void distrust() { trusted_ = false; }
  /// A matrix as it was loaded in the end; `panels` stay where they are as long as the cache lives.
  void add(Matrix matrix, std::span<const std::byte> panels);
  /// Whether what was taken from the file was the file's when it was opened. Errors: kModelChanged.
  [[nodiscard]] Status intact() { return taken_ > 0 ? file_.intact() : Status{}; }
  /// All matrices have come: writes them if any was not in the file.
  void finish();
  [[nodiscard]] bool complete() const { return trusted_ && !added_.empty() && taken_ == added_.size(); }

 private:
  struct Part {
    Matrix matrix;
    std::size_t offset, bytes;
  };
  void read();
  [[nodiscard]] Result<std::string> write(const std::stop_token& stop) const;

  PanelCacheOptions options_;
  std::string path_, source_;
  MappedFile file_;
  std::vector<Part> parts_;
  std::vector<std::pair<Matrix, std::span<const std::byte>>> added_;
  std::size_t taken_ = 0;
  bool trusted_ = false;
  std::jthread writer_;  // last: it ends before what it reads
};

}  // namespace llorch
