#include "worker/receipt.h"

#include <charconv>
#include <limits>

#include <fmt/ranges.h>

#include "format/json.h"
#include "security/digest.h"
#include "security/validate.h"
#include "worker/inference.h"

namespace llorch::worker {
namespace {

constexpr int kVersion = 1;

Result<TokenIds> read_ids(const json::object& o, const char* key, const std::string& where) {
  const auto* list = json::find_array(o, key);
  if (!list) return fail(ErrorCode::kInvalidRequest, "{}: no '{}'", where, key);
  TokenIds ids;
  for (const json::value& v : *list) {
    const auto id = json::as_unsigned(v);
    if (!id || *id > static_cast<std::uint64_t>(std::numeric_limits<TokenId>::max()))
      return fail(ErrorCode::kInvalidRequest, "{}: '{}' holds no token id", where, key);
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

/// The reverse of effective_params().
Status read_params(const json::object& o, const std::string& where, GenerateRequest& out) {
  SamplingParams& s = out.sampling;
  const std::pair<const char*, double*> numbers[] = {{"temperature", &s.temperature},
                                                     {"top_p", &s.top_p},
                                                     {"min_p", &s.min_p},
                                                     {"repetition_penalty", &s.repetition_penalty},
                                                     {"presence_penalty", &s.presence_penalty},
                                                     {"frequency_penalty", &s.frequency_penalty}};
  for (const auto& [key, place] : numbers) {
    const auto* v = o.if_contains(key);
    const auto number = v ? json::as_number(*v) : std::nullopt;
    if (!number) return fail(ErrorCode::kInvalidRequest, "{}: params.{} is no number", where, key);
    *place = *number;
  }
  constexpr std::uint64_t kMost = 1 << 24;
  const auto seed = json::find_unsigned(o, "seed"), top_k = json::find_unsigned(o, "top_k"),
             tokens = json::find_unsigned(o, "max_tokens"), choice = json::find_unsigned(o, "choice");
  if (!seed || !top_k || *top_k > kMost || !tokens || *tokens > kMost)
    return fail(ErrorCode::kInvalidRequest, "{}: params has no seed, top_k or max_tokens", where);
  s.seed = *seed, s.choice = choice.value_or(0), s.top_k = static_cast<int>(*top_k);
  out.max_tokens = static_cast<int>(*tokens), out.ignore_eos = json::find_bool(o, "ignore_eos").value_or(false);
  if (const auto* stops = json::find_array(o, "stop"))
    for (const json::value& v : *stops)
      if (v.is_string()) out.stop.emplace_back(v.get_string());
  if (const auto* bias = json::find_object(o, "logit_bias"))
    for (const auto& [id, value] : *bias) {
      const auto number = json::as_number(value);
      std::int32_t token = -1;
      const auto read = std::from_chars(id.data(), id.data() + id.size(), token);
      if (!number || read.ptr != id.data() + id.size() || token < 0)
        return fail(ErrorCode::kInvalidRequest, "{}: params.logit_bias is none", where);
      s.logit_bias.emplace_back(token, *number);
    }
  return {};
}

}  // namespace

std::string arithmetic_of(const std::string& device, const std::string& isa) {
  const bool alone = device != "cpu" || isa == "reference" || isa == "amx" || isa.contains('+');
  return alone ? fmt::format("{} {}", device, isa) : "canonical";
}

std::string hash_of_fields(const Receipt& r) {
  const SamplingParams& s = r.request.sampling;
  std::string all;
  for (const std::string* text :
       {&r.model_sha256, &r.build_id, &r.device, &r.isa, &r.arithmetic, &r.kv_type, &r.template_sha256})
    all += fmt::format("{}:{}\n", text->size(), *text);
  // As many digits as any number that is written and read again keeps.
  for (const double number :
       {s.temperature, s.top_p, s.min_p, s.repetition_penalty, s.presence_penalty, s.frequency_penalty})
    all += fmt::format("{:.12g}\n", number);
  all += fmt::format("{} {} {} {} {}\n", s.top_k, s.seed, s.choice, r.request.max_tokens, r.request.ignore_eos);
  for (const std::string& stop : r.request.stop) all += fmt::format("stop {}:{}\n", stop.size(), stop);
  for (const auto& [id, value] : s.logit_bias) all += fmt::format("bias {} {:.12g}\n", id, value);
  all += fmt::format("{}\n{}\n", fmt::join(r.request.prompt, " "), fmt::join(r.ids, " "));
  for (const auto& [index, hash] : r.logits) all += fmt::format("{} {}\n", index, hash);
  return security::sha256_hex(all);
}

boost::json::object to_json(const Receipt& r) {
  json::array hashes;
  for (const auto& [index, hash] : r.logits) hashes.push_back({{"index", index}, {"sha256", hash}});
  json::object params = effective_params(r.request);
  params["choice"] = r.request.sampling.choice;
  return {{"receipt", kVersion},
          {"model", r.model},
          {"model_sha256", r.model_sha256},
          {"build_id", r.build_id},
          {"device", r.device},
          {"isa", r.isa},
          {"arithmetic", r.arithmetic},
          {"kv_type", r.kv_type},
          {"template_sha256", r.template_sha256.empty() ? json::value(nullptr) : json::value(r.template_sha256)},
          {"prompt_ids", json::array(r.request.prompt.begin(), r.request.prompt.end())},
          {"params", std::move(params)},
          {"ids", json::array(r.ids.begin(), r.ids.end())},
          {"logits", std::move(hashes)},
          {"fields_sha256", hash_of_fields(r)}};
}

Result<Receipt> read_receipt(const std::string& text, const std::string& where) {
  LLORCH_TRY(const json::value v, json::parse(text, where));
  const auto* o = v.if_object();
  if (o && !o->contains("ids") &&
      (o->contains("choices") || (o->contains("receipt") && (*o).at("receipt").is_object())))
    return fail(ErrorCode::kInvalidRequest,
                "{} is an answer and not its receipt, which is in it: `jq '.choices[0].receipt // .receipt' {} > "
                "receipt.json` takes it out (a request with \"receipt\": true gets one)",
                where, where);
  if (!o || json::find_unsigned(*o, "receipt").value_or(0) != kVersion)
    return fail(ErrorCode::kInvalidRequest, "{} is no receipt of version {}", where, kVersion);
  Receipt r;
  const std::pair<const char*, std::string*> texts[] = {
      {"model", &r.model}, {"model_sha256", &r.model_sha256}, {"build_id", &r.build_id}, {"device", &r.device},
      {"isa", &r.isa},     {"arithmetic", &r.arithmetic},     {"kv_type", &r.kv_type}};
  for (const auto& [key, place] : texts) {
    const auto found = json::find_text(*o, key);
    if (!found) return fail(ErrorCode::kInvalidRequest, "{}: no '{}'", where, key);
    if (security::check_display(*found))
      return fail(ErrorCode::kInvalidRequest, "{}: '{}' has control characters", where, key);
    *place = *found;
  }
  r.template_sha256 = json::find_text(*o, "template_sha256").value_or("");
  r.fields_sha256 = json::find_text(*o, "fields_sha256").value_or("");
  LLORCH_TRY(r.request.prompt, read_ids(*o, "prompt_ids", where));
  LLORCH_TRY(r.ids, read_ids(*o, "ids", where));
  const auto* params = json::find_object(*o, "params");
  const auto* hashes = json::find_array(*o, "logits");
  if (!params || !hashes) return fail(ErrorCode::kInvalidRequest, "{}: no 'params' or no 'logits'", where);
  LLORCH_OK(read_params(*params, where, r.request));
  for (const json::value& h : *hashes) {
    const auto* row = h.if_object();
    const auto index = row ? json::find_unsigned(*row, "index") : std::nullopt;
    const auto hash = row ? json::find_text(*row, "sha256") : std::nullopt;
    if (!index || *index >= std::max<std::size_t>(r.ids.size(), 1) || !hash)
      return fail(ErrorCode::kInvalidRequest, "{}: 'logits' holds no index of a token, or no sha256", where);
    r.logits.emplace_back(static_cast<int>(*index), *hash);
  }
  return r;
}

void add_token(Receipt& receipt, const Sampled& token) {
  if (!token.logits_sha256.empty())
    receipt.logits.emplace_back(static_cast<int>(receipt.ids.size()), token.logits_sha256);
  receipt.ids.push_back(token.id);
}

std::string difference(const Receipt& given, const Receipt& again) {
  for (std::size_t i = 0; i < std::min(given.logits.size(), again.logits.size()); ++i)
    if (given.logits[i] != again.logits[i])
      return fmt::format("the logits of token {} are others: {} in the receipt, {} now", given.logits[i].first,
                         given.logits[i].second, again.logits[i].second);
  for (std::size_t i = 0; i < std::max(given.ids.size(), again.ids.size()); ++i)
    if (i >= given.ids.size() || i >= again.ids.size() || given.ids[i] != again.ids[i])
      return fmt::format("token {} of the answer is {} in the receipt and {} now", i,
                         i < given.ids.size() ? fmt::to_string(given.ids[i]) : "none",
                         i < again.ids.size() ? fmt::to_string(again.ids[i]) : "none");
  if (given.logits.size() != again.logits.size())
    return fmt::format("{} hashes of logits are in the receipt, {} are computed now", given.logits.size(),
                       again.logits.size());
  // No bit of the answer tells what made the prompt of messages, or which settings would have drawn the same tokens.
  if (const std::string now = hash_of_fields(given); !given.fields_sha256.empty() && given.fields_sha256 != now)
    return fmt::format("a field of the receipt was changed: its fields_sha256 is {}, and its fields have {}",
                       security::sanitize(given.fields_sha256), now);
  return "";
}

}  // namespace llorch::worker
