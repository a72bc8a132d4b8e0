// A Hugging Face model directory as it lies on disk: config.json, one or many *.safetensors (with index), tokenizer
// files.
//
// Tensor names are those of the directory; arch/ translates them to GGUF's. Shapes are turned round so that dims[0] is
// contiguous. Refused by name: pickle formats (.bin, .pt), `auto_map` (code in the repository), sentencepiece-only
// tokenizers. Errors: kModelLoadFailed, kIo. Source: the SafeTensors format description (header length, JSON header,
// data offsets without holes).
#pragma once

#include "base/file_bytes.h"
#include "format/json.h"
#include "tensor/tensor.h"

namespace llorch {

/// Parses one file's header. Of `file`, which may be addresses alone, `header` are the first bytes, read; nothing else
/// is touched. Every tensor must lie inside, none may overlap, no byte may be left over.
[[nodiscard]] Result<std::vector<TensorView>> parse_safetensors(std::span<const std::byte> file,
                                                                std::span<const std::byte> header,
                                                                std::string_view what);
[[nodiscard]] inline Result<std::vector<TensorView>> parse_safetensors(std::span<const std::byte> bytes,
                                                                       std::string_view what) {
  return parse_safetensors(bytes, bytes, what);
}

/// The config.json of a directory, an object. Infinities and NaN, which Python writes as bare words, are objects of one
/// text: {"__float__": "Infinity"}. Errors: kIo, kModelLoadFailed.
[[nodiscard]] Result<json::value> read_hf_config(const std::string& directory);

/// One file that stands for itself, such as an adapter's.
class SafetensorsFile {
 public:
  [[nodiscard]] static Result<SafetensorsFile> open(const std::string& path);
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }
  [[nodiscard]] Status read(std::span<const std::byte> part, std::byte* to) const { return file_.read(part, to); }

 private:
  FileBytes file_;
  std::vector<TensorView> tensors_;
};

class SafetensorsDirectory {
 public:
  [[nodiscard]] static Result<SafetensorsDirectory> open(const std::string& path);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const json::object& config() const { return config_.get_object(); }
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }
  [[nodiscard]] Status read(std::span<const std::byte> part, std::byte* to) const {
    return read_part(files_, part, to);
  }
  [[nodiscard]] Status unchanged(std::span<const std::byte> part) { return parts_unchanged(files_, part); }

 private:
  std::string path_;
  json::value config_;
  std::vector<FileBytes> files_;
  std::vector<TensorView> tensors_;
};

}  // namespace llorch
