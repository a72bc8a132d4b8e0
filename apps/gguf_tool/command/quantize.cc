// quantize: the same model with its matrices in another type.
#include <algorithm>
#include <cctype>
#include <filesystem>

#include "arch/hf_source.h"
#include "base/human.h"
#include "command_line.h"
#include "gguf_tool/rewrite.h"

namespace llorch::gguf_tool {
namespace {

/// Every type that is taken, for help and errors.
std::string type_names() {
  std::string names;
  const auto add = [&](std::string_view name) { names += (names.empty() ? "" : ", ") + std::string(name); };
  for (const DTypeInfo& each : kDTypes)
    if (is_weight_type(each.type)) add(each.name);
  for (const std::string_view mix : arch::kMixes) add(mix);
  return names;
}

/// As it is spelt, whatever the case. Errors: kInvalidRequest naming the types.
Result<std::string> type_meant(std::string type) {
  std::ranges::transform(type, type.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const DTypeInfo* plain = find_dtype(type);
  if ((plain && is_weight_type(plain->type)) || std::ranges::find(arch::kMixes, type) != std::end(arch::kMixes))
    return type;
  return fail(ErrorCode::kInvalidRequest, "type '{}' is not known: it is one of {}", type, type_names());
}

/// A file that is read cannot be written: neither the input nor, of a split one, any of its parts.
Status check_output(const std::string& in, const std::string& out) {
  namespace fs = std::filesystem;
  std::error_code problem;
  for (const std::string& read : split_parts(in)) {
    if (read == out || fs::equivalent(read, out, problem))
      return fail(ErrorCode::kInvalidRequest, "{} is the model that is read: give another name for what is written",
                  out);
  }
  return {};
}

Status quantize(const std::string& in, const std::string& out, const std::string& type) {
  LLORCH_TRY(const std::string meant, type_meant(type));
  LLORCH_OK(check_output(in, out));
  LLORCH_TRY(const auto source, GgufFile::open(in));
  const auto done = [&] {
    cli::ProgressBar bar("quantizing");
    return rewrite(*source, source->metadata(), meant, out, bar);
  }();
  if (!done) return std::unexpected(done.error());
  if (done->requantized > 0)
    show(
        stderr,
        "note: %zu matrices were quantized already, and what they had lost stays lost: quantize the F16 or BF16 file\n",
        done->requantized);
  if (!done->fallbacks.empty()) {
    show(stderr, "note: rows of these are no multiple of the block of %s, so that they have another type:\n",
         meant.c_str());
    for (const std::string& each : done->fallbacks) show(stderr, "  %s\n", each.c_str());
  }
  show(stderr, "%s: %zu tensors, %s\n", out.c_str(), done->tensors,
       size_text(static_cast<double>(done->bytes)).c_str());
  return {};
}

}  // namespace

void add_command_quantize(CLI::App& app, int& exit_code) {
  struct QuantizeFlags {
    std::string in, out, type;
  };
  auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* c = app.add_subcommand("quantize", "write a model with its matrices in another type");
  c->add_option("in", flags->in, "GGUF file")->required();
  c->add_option("out", flags->out, "GGUF file to write")->required();
  c->add_option("type", flags->type, type_names() + "; in any case")->required();
  c->callback([flags, &exit_code] {
    if (const Status s = quantize(flags->in, flags->out, flags->type); !s) exit_code = cli::report(s.error());
  });
}

}  // namespace llorch::gguf_tool
