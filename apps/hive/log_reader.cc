#include "hive/log_reader.h"

#include <algorithm>
#include <span>

#include "base/open_file.h"
#include "security/validate.h"

namespace llorch::hive {
namespace {

constexpr std::size_t kLineBytesMax = 8192, kPartBytes = 1u << 20;
constexpr std::uint64_t kTailBytesMax = 64u << 20;

Result<RegularFile> open_log(const std::string& path) {
  auto file = open_regular_file(path);
  if (!file) return fail(ErrorCode::kWorkerNotFound, "this hive has no log of such a worker");
  return file;
}

Status read_part(const RegularFile& file, std::uint64_t at, std::string& part) {
  LLORCH_TRY(const std::size_t n, file.read_some(at, std::as_writable_bytes(std::span(part))));
  part.resize(n);
  return {};
}

}  // namespace

Result<LogReader> LogReader::at_tail(const std::string& path, std::int64_t lines) {
  LLORCH_TRY(const RegularFile file, open_log(path));
  const std::uint64_t size = file.size(), first = size - std::min(size, kTailBytesMax);
  LogReader reader;
  reader.at_ = first;
  for (std::uint64_t end = size; end > first;) {
    const std::uint64_t begin = std::max(first, end - std::min<std::uint64_t>(end, kPartBytes));
    std::string part(static_cast<std::size_t>(end - begin), '\0');
    LLORCH_OK(read_part(file, begin, part));
    for (std::size_t i = part.size(); i > 0; --i)
      if (part[i - 1] == '\n' && begin + i < size && --lines == 0) return reader.at_ = begin + i, reader;
    end = begin;
  }
  return reader;
}

void LogReader::add(std::string_view text) {
  begun_ += text.substr(0, kLineBytesMax - std::min(kLineBytesMax, begun_.size()));
  begun_bytes_ += text.size();
}

std::string LogReader::take_line() {
  std::string line = security::sanitize(begun_, kLineBytesMax);
  if (begun_bytes_ > kLineBytesMax) line += fmt::format(" [cut: {} bytes]", begun_bytes_);
  begun_.clear(), begun_bytes_ = 0;
  return line;
}

Result<LogReader::Part> LogReader::read(const std::string& path) {
  LLORCH_TRY(const RegularFile file, open_log(path));
  std::string text(kPartBytes, '\0');
  LLORCH_OK(read_part(file, at_, text));
  Part out;
  std::string_view rest = text;
  for (std::size_t end = 0; (end = rest.find('\n')) != rest.npos; rest.remove_prefix(end + 1)) {
    add(rest.substr(0, end));
    out.lines.push_back(take_line());
  }
  add(rest);
  at_ += text.size();
  out.more = !text.empty();
  return out;
}

}  // namespace llorch::hive
