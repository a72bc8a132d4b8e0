// GGUF files, versions 2 and 3, read by pread; and their writer.
//
// Nothing that the file declares is believed before it was compared with the bytes that are there: counts, lengths,
// offsets, overlaps and the total size are checked before anything of that size is allocated. Files split by the
// `-00001-of-0000N.gguf` convention are joined, whichever part is opened. Opening reads the headers alone.
// Errors: kModelLoadFailed with the place in the file; kIo when it cannot be opened, kModelChanged when it was changed.
// Source: the public GGUF format description (magic, header, metadata values, tensor infos, alignment).
#pragma once

#include <functional>
#include <iosfwd>

#include "base/file_bytes.h"
#include "format/weight_source.h"

namespace llorch {

class GgufFile final : public WeightSource {
 public:
  [[nodiscard]] static Result<std::unique_ptr<GgufFile>> open(const std::string& path);
  /// A single file that is already in memory, which outlives the object.
  [[nodiscard]] static Result<std::unique_ptr<GgufFile>> from_memory(std::span<const std::byte> bytes);

  Status read(std::span<const std::byte> part, std::byte* to) const override;
  Status unchanged(std::span<const std::byte> part) override;
  [[nodiscard]] std::uint32_t version() const { return version_; }
  [[nodiscard]] std::uint64_t file_bytes() const;

 private:
  /// Which part of how many a file says that it is; count 0: it says nothing.
  struct Split {
    std::uint64_t number = 0, count = 0;
    [[nodiscard]] Status check(const std::string& path, std::uint64_t expected, std::uint64_t of) const;
  };
  Result<Split> append(const std::string& path);
  Result<Split> append(FileBytes file);

  std::vector<FileBytes> files_;
  std::uint32_t version_ = 0;
};

/// The family that the beginning of a file names (general.architecture); empty where it is no GGUF file or names none
/// so early.
[[nodiscard]] std::string gguf_architecture(std::span<const std::byte> beginning);

/// A tensor to be written: shape and type, and a function that fills the bytes when their turn comes.
struct GgufTensorPlan {
  std::string name;
  DType type = DType::kF32;
  std::vector<std::uint64_t> dims;  // dims[0] is contiguous
  std::function<Status(std::span<std::byte>)> fill;
};

/// Writes a version 3 file. Errors: kIo; kInvalidRequest for a plan that no reader would accept.
[[nodiscard]] Status write_gguf(const std::string& path, const Metadata& metadata,
                                const std::vector<GgufTensorPlan>& tensors);

}  // namespace llorch
