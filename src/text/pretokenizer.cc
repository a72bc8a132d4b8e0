#include "text/pretokenizer.h"

#include <algorithm>

namespace llorch {
namespace {

// Contractions, then words, numbers, other characters each with one leading space, then white space.
#define LLORCH_GPT2 R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"
#define LLORCH_CONTRACTIONS R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define LLORCH_SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define LLORCH_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define LLORCH_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define LLORCH_LEAD R"([^\r\n\p{L}\p{N}]?)"
#define LLORCH_CJK "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

// Letters with case, as the DeepSeek LLM tokenizer lists them.
#define LLORCH_DEEPSEEK_LETTERS                                                                                       \
  R"([)"                                                                                                              \
  R"(\x{41}-\x{5A}\x{61}-\x{7A}\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})"         \
  R"(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1})" \
  R"(\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5})"                 \
  R"(\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A})"         \
  R"(\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D})"  \
  R"(\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3})" \
  R"(\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115})"  \
  R"(\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F})"           \
  R"(\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3})"   \
  R"(\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF})"         \
  R"(\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3})"     \
  R"(\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})"                \
  R"(]+)"

struct Known {
  std::vector<std::string_view> names;
  std::vector<std::string_view> patterns;
  bool ignore_merges = false;
};

const std::vector<Known>& table() {
  static const std::vector<Known> known = {
      {{"gpt-2", "mpt", "olmo", "jais", "phi-2", "roberta-bpe", "gigachat", "exaone4", "modern-bert"}, {LLORCH_GPT2}},
      {{"llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "falcon3", "chatglm-bpe", "glm4", "lfm2"},
       {LLORCH_CONTRACTIONS "|" LLORCH_LEAD R"(\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" LLORCH_SPACES},
       true},
      {{"qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"},
       {LLORCH_CONTRACTIONS "|" LLORCH_LEAD R"(\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" LLORCH_SPACES}},
      {{"qwen35"},
       {LLORCH_CONTRACTIONS "|" LLORCH_LEAD R"([\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" LLORCH_SPACES}},
      {{"deepseek-llm"},
       {"[\r\n]", R"(\s?)" LLORCH_DEEPSEEK_LETTERS,
        R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)", R"(\s+$)", LLORCH_CJK,
        R"(\p{N}+)"}},
      {{"deepseek-coder"}, {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", LLORCH_CJK, R"(\p{N})"}},
      {{"seed-coder"},
       {LLORCH_CONTRACTIONS "|" LLORCH_LEAD R"(\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|)" LLORCH_SPACES}},
      {{"deepseek-v3", "hunyuan-dense"},
       {R"(\p{N}{1,3})", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)" LLORCH_SPACES}},
      {{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"}, {R"(\p{N})", LLORCH_GPT2}},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", LLORCH_GPT2, "[0-9][0-9][0-9]"}},
      {{"gpt-4o", "llama4", "o200k"},
       {LLORCH_LEAD LLORCH_UPPER "*" LLORCH_LOWER "+" LLORCH_CONTRACTIONS "?|" LLORCH_LEAD LLORCH_UPPER "+" LLORCH_LOWER
                                 "*" LLORCH_CONTRACTIONS R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" LLORCH_SPACES}},
      {{"tekken"},
       {LLORCH_LEAD LLORCH_UPPER "*" LLORCH_LOWER "+|" LLORCH_LEAD LLORCH_UPPER "+" LLORCH_LOWER
                                 R"(*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" LLORCH_SPACES},
       true},
      {{"bloom", "poro-chat", "gpt3-finnish"}, {R"( ?[^(\s|.,!?…。，、।۔،)]+)"}},
      {{"viking"}, {R"( ?[^(\s|.,!?…。，、।۔،)]+)", R"(\p{N})"}},
  };
  return known;
}

}  // namespace

Status split_isolated(const Regex& regex, Pieces& pieces, WorkLimit& limit) {
  Pieces result;
  for (const std::string_view piece : pieces) {
    std::size_t done = 0;
    LLORCH_OK(regex.each(piece, limit, [&](std::size_t begin, std::size_t end) -> Status {
      if (begin > done) result.push_back(piece.substr(done, begin - done));
      result.push_back(piece.substr(begin, end - begin));
      done = end;
      return {};
    }));
    if (done < piece.size()) result.push_back(piece.substr(done));
  }
  pieces = std::move(result);
  return {};
}

Result<PreTokenizer> PreTokenizer::by_name(std::string_view name) {
  for (const Known& k : table()) {
    if (std::ranges::find(k.names, name) == k.names.end()) continue;
    PreTokenizer result;
    result.ignore_merges_ = k.ignore_merges;
    for (const std::string_view pattern : k.patterns) {
      LLORCH_TRY(Regex regex, Regex::compile(pattern, true));
      result.patterns_.push_back(std::move(regex));
    }
    return result;
  }
  return bad_model("pre-tokenizer '{}' is not supported", name);
}

Result<Pieces> PreTokenizer::split(std::string_view text, WorkLimit& limit) const {
  Pieces pieces;
  if (!text.empty()) pieces.push_back(text);
  for (const Regex& pattern : patterns_) LLORCH_OK(split_isolated(pattern, pieces, limit));
  return pieces;
}

std::vector<std::string_view> pretokenizer_names() {
  std::vector<std::string_view> names;
  for (const Known& k : table()) names.insert(names.end(), k.names.begin(), k.names.end());
  return names;
}

bool known_pattern(std::string_view pattern) {
  return std::ranges::any_of(
      table(), [&](const Known& k) { return std::ranges::find(k.patterns, pattern) != k.patterns.end(); });
}

std::string_view pretokenizer_name(const std::vector<std::string>& patterns) {
  for (const Known& k : table())
    if (std::ranges::equal(k.patterns, patterns)) return k.names.front();
  return {};
}

}  // namespace llorch
