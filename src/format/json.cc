#include "format/json.h"

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "base/large_block.h"
#include "base/limits.h"
#include "base/mapped_file.h"
#include "base/thread_slice.h"

namespace llorch::json {

namespace {

/// Memory that ends: dense text such as "0,0,0," takes 16 to 24 times its size while its list is copied, which short
/// texts may (lists of token ids), and no long one is worth.
/// Small values lie side by side in chunks that go with the last of them: most of a request's cost was their malloc.
class Budget final : public boost::json::memory_resource {
 public:
  explicit Budget(std::size_t bytes) : left_(bytes) {}
  ~Budget() override {
    for (void* chunk : chunks_) std::free(chunk);
  }
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

 private:
  static constexpr std::size_t kSmall = 1024, kChunk = 4096, kAlignment = alignof(std::max_align_t);

  void* take(std::size_t bytes) {
    void* p = bytes > left_ ? nullptr : std::malloc(bytes);
    if (!p) throw std::bad_alloc();
    left_ -= bytes;
    return p;
  }
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (alignment > kAlignment) throw std::bad_alloc();
    if (bytes >= kSmall) {
      void* p = take(bytes);
      prepare_large_block(p, bytes);
      return p;
    }
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > room_) {
      chunks_.push_back(nullptr);  // grows by doubling; stays null where take() throws
      chunks_.back() = take(kChunk);
      at_ = static_cast<char*>(chunks_.back()), room_ = kChunk;
    }
    room_ -= bytes;
    return std::exchange(at_, at_ + bytes);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t) override {
    if (bytes < kSmall) return;
    std::free(p);
    left_ += bytes;
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  std::size_t left_, room_ = 0;
  char* at_ = nullptr;
  std::vector<void*> chunks_;
};

constexpr std::size_t kDepthMax = 64;
constexpr std::size_t kMemoryPerByte = 12, kMemoryAtLeast = 3u << 20, kPortion = 65'536;

}  // namespace

Result<value> parse(std::string_view text, std::string_view what, WorkLimit* limit) {
  boost::json::parse_options options;
  options.max_depth = kDepthMax;
  const auto budget = boost::json::make_shared_resource<Budget>(text.size() * kMemoryPerByte + kMemoryAtLeast);
  try {
    boost::json::stream_parser parser(budget, options);
    parser.reset(budget);
    boost::system::error_code problem;
    for (std::size_t at = 0; at < text.size() && !problem; at += kPortion) {
      const std::string_view part = text.substr(at, kPortion);
      if (limit) LLORCH_OK(limit->charge(2 * part.size()));
      parser.write({part.data(), part.size()}, problem);
      give_way();
    }
    if (!problem) parser.finish(problem);
    if (problem == boost::json::error::too_deep)
      return bad_model("{} is not valid JSON: it is nested deeper than {} levels", what, kDepthMax);
    if (problem) return bad_model("{} is not valid JSON: {}", what, problem.message());
    return parser.release();
  } catch (const std::bad_alloc&) {
    return bad_model("{} needs more than {} times its size in memory", what, kMemoryPerByte);
  }
}

Result<value> parse_file(const std::string& path) {
  LLORCH_TRY(const std::string text, read_text_file(path, limits::kJsonBytesMax));
  return parse(text, path);
}

const value* find(const object& o, std::string_view key) {
  const value* v = o.if_contains({key.data(), key.size()});
  return v && !v->is_null() ? v : nullptr;
}

const object* find_object(const object& o, std::string_view key) {
  const value* v = find(o, key);
  return v ? v->if_object() : nullptr;
}

const array* find_array(const object& o, std::string_view key) {
  const value* v = find(o, key);
  return v ? v->if_array() : nullptr;
}

std::optional<std::string> find_text(const object& o, std::string_view key) {
  const value* v = find(o, key);
  if (!v || !v->is_string()) return std::nullopt;
  return std::string(v->get_string().data(), v->get_string().size());
}

std::optional<double> as_number(const value& v) {
  if (v.is_double()) return v.get_double();
  if (v.is_int64()) return static_cast<double>(v.get_int64());
  if (v.is_uint64()) return static_cast<double>(v.get_uint64());
  return std::nullopt;
}

std::optional<std::uint64_t> as_unsigned(const value& v) {
  if (v.is_uint64()) return v.get_uint64();
  if (v.is_int64() && v.get_int64() >= 0) return static_cast<std::uint64_t>(v.get_int64());
  return std::nullopt;
}

std::optional<double> find_number(const object& o, std::string_view key) {
  const value* v = find(o, key);
  return v ? as_number(*v) : std::nullopt;
}

std::optional<std::uint64_t> find_unsigned(const object& o, std::string_view key) {
  const value* v = find(o, key);
  return v ? as_unsigned(*v) : std::nullopt;
}

std::optional<bool> find_bool(const object& o, std::string_view key) {
  const value* v = find(o, key);
  return v && v->is_bool() ? std::optional(v->get_bool()) : std::nullopt;
}

}  // namespace llorch::json
