#include "device/cpu/panel_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/descriptor.h"
#include "base/integer.h"
#include "base/thread_role.h"

namespace llorch {
namespace {

constexpr std::size_t kAlignment = 2u << 20, kPiece = 16u << 20;
constexpr std::string_view kFirstLine = "llorch panels 2 ", kLastLine = "end";

std::size_t aligned(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

/// Cuts the text up to `separator` off; nothing when there is none.
std::optional<std::string_view> cut(std::string_view& text, char separator) {
  const auto at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at + 1);
  return part;
}

bool number(std::string_view& line, std::int64_t& out) {
  const auto part = cut(line, ' ');
  const auto value = part ? parse_integer<std::int64_t>(*part) : std::nullopt;
  out = value.value_or(0);
  return value.has_value();
}

Status write_all(int fd, std::span<const std::byte> bytes, const std::string& path, const std::stop_token& stop) {
  while (!bytes.empty()) {
    if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "{} was not finished", path);
    const ssize_t n = ::write(fd, bytes.data(), std::min(bytes.size(), kPiece));
    if (n < 0 && errno == EINTR) continue;
    // Piece by piece to the disk: a worker that ends waits for one piece, and what is renamed is whole.
    if (n < 0 || (static_cast<std::size_t>(n) == kPiece && ::fdatasync(fd) != 0))
      return fail(ErrorCode::kIo, "cannot write {}: {}", path, std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

PanelCache::PanelCache(PanelCacheOptions options, std::string_view isa)
    : options_(std::move(options)), path_(fmt::format("{}/{}-{}.panels", options_.folder, options_.name, isa)) {
  source_ = fmt::format("{}{} {}", kFirstLine, isa, options_.source);
  std::ranges::replace(source_, '\n', ' ');
  read();
}

void PanelCache::read() {
  auto file = MappedFile::open(path_);
  if (!file) return;
  const RegularFile& opened = file->file();
  if (opened.owner() != ::geteuid() || (opened.mode() & (S_IWGRP | S_IWOTH))) return;  // whose weights would these be?
  const auto bytes = file->bytes();
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (cut(text, '\n') != source_) return;
  std::vector<Part> parts;
  std::size_t end = 0;
  for (auto line = cut(text, '\n'); line != kLastLine; line = cut(text, '\n')) {
    Part part{};
    std::int64_t offset = 0, size = 0;
    if (!line || !number(*line, part.matrix.type) || !number(*line, part.matrix.rows) ||
        !number(*line, part.matrix.columns) || !number(*line, offset) || !number(*line, size) || offset < 0 || size < 0)
      return;
    part.matrix.name = *line;
    part.offset = static_cast<std::size_t>(offset), part.bytes = static_cast<std::size_t>(size);
    if (part.offset > bytes.size() || part.bytes > bytes.size() - part.offset) return;
    end = part.offset + part.bytes;
    parts.push_back(std::move(part));
  }
  if (end != bytes.size() || !file->intact()) return;
  file_ = std::move(*file), parts_ = std::move(parts), trusted_ = true;
}

std::optional<std::span<const std::byte>> PanelCache::next(const Matrix& matrix, std::size_t bytes) {
  if (!trusted_ || taken_ != added_.size() || taken_ >= parts_.size()) return std::nullopt;
  const Part& part = parts_[taken_];
  if (part.matrix != matrix || part.bytes != bytes) {
    distrust();
    return std::nullopt;
  }
  ++taken_;
  return file_.bytes().subspan(part.offset, part.bytes);
}

void PanelCache::add(Matrix matrix, std::span<const std::byte> panels) {
  added_.emplace_back(std::move(matrix), panels);
}

void PanelCache::finish() {
  if (complete() || added_.empty()) return;
  writer_ = std::jthread([this](const std::stop_token& stop) {
    const InRole role(ThreadRole::kHelper);
    try {
      const Result<std::string> file = write(stop);
      if (options_.written) options_.written(file);
    } catch (const std::exception&) {  // without memory, the next start does without the file
    }
  });
}

Result<std::string> PanelCache::write(const std::stop_token& stop) const {
  // The head's own length moves the offsets, and their digits its length: it is given room.
  std::size_t room = source_.size() + kLastLine.size() + 2, at = 0;
  for (const auto& [matrix, panels] : added_) room += matrix.name.size() + std::size_t{5} * 21 + 1;
  at = aligned(room, kAlignment);
  std::string head = source_ + '\n';
  for (const auto& [m, panels] : added_) {
    head += fmt::format("{} {} {} {} {} {}\n", m.type, m.rows, m.columns, at, panels.size(), m.name);
    at += aligned(panels.size(), 64);
  }
  head += fmt::format("{}\n", kLastLine);
  head.resize(aligned(room, kAlignment), '\n');

  // One name: what a killed process left is written over. One writer: others leave it to that one.
  const std::string partial = path_ + ".partial";
  const Descriptor fd(::open(partial.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!fd) return fail(ErrorCode::kIo, "cannot write {}: {}", partial, std::strerror(errno));
  struct stat mine {};
  struct stat there {};
  if (::flock(fd.number(), LOCK_EX | LOCK_NB) != 0 || ::fstat(fd.number(), &mine) != 0 ||
      ::stat(partial.c_str(), &there) != 0 || mine.st_ino != there.st_ino || ::ftruncate(fd.number(), 0) != 0)
    return fail(ErrorCode::kResourceInUse, "another process writes {}", partial);
  Status done = write_all(fd.number(), std::as_bytes(std::span(head)), partial, stop);
  constexpr std::byte kZeros[64] = {};
  for (std::size_t i = 0; i < added_.size() && done; ++i) {
    const auto panels = added_[i].second;
    done = write_all(fd.number(), panels, partial, stop);
    if (done && i + 1 < added_.size())
      done = write_all(fd.number(), std::span(kZeros).first(aligned(panels.size(), 64) - panels.size()), partial, stop);
  }
  if (done && (::fsync(fd.number()) != 0 || ::rename(partial.c_str(), path_.c_str()) != 0))
    done = fail(ErrorCode::kIo, "cannot write {}: {}", path_, std::strerror(errno));
  if (done) return path_;
  ::unlink(partial.c_str());
  return std::unexpected(std::move(done).error());
}

}  // namespace llorch
