// grammar: what a JSON schema, a pattern or a GBNF grammar accepts, and how long its masks take.
//
// Exit code 3: the grammar is refused; the message names the place in it and the keyword.
#include <time.h>

#include <algorithm>
#include <fstream>
#include <iostream>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "format/json.h"
#include "grammar/limits.h"
#include "grammar/matcher.h"
#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

constexpr int kRefused = 3;

struct GrammarFlags {
  std::string vocab, schema, regex, gbnf, check, cases, whitespace = "bounded";
  bool bench = false, as_json = false;
};

std::int64_t thread_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * std::int64_t{1'000'000'000} + t.tv_nsec;
}

SchemaOptions options_of(const GrammarFlags& f) {
  SchemaOptions options;
  if (f.whitespace == "compact") options.whitespace = JsonWhitespace::kCompact;
  if (f.whitespace == "spaced") options.whitespace = JsonWhitespace::kSpaced;
  return options;
}

struct Vocab {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Tokenizer> tokenizer;
  std::shared_ptr<const Vocabulary> vocabulary =
      std::make_shared<const Vocabulary>(std::vector<std::string>(), std::vector<std::uint32_t>());
};

Result<Vocab> open_vocab(const GrammarFlags& f) {
  Vocab out;
  if (f.vocab.empty()) return out;
  LLORCH_TRY(out.source, open_model(f.vocab));
  LLORCH_TRY(out.tokenizer, open_tokenizer(f.vocab, *out.source));
  out.vocabulary = Vocabulary::of(*out.tokenizer);
  return out;
}

struct Checked {
  bool accepted = false;
  TokenIds tokens;
  std::vector<std::int64_t> mask_ns;
};

Result<Checked> check_text(const std::shared_ptr<Constraint>& constraint, const Vocab& vocab, std::string_view text,
                           bool bench) {
  Checked out;
  Matcher whole(constraint);
  out.accepted = whole.advance(text) && whole.can_end();
  if (!bench) return out;
  LLORCH_TRY(out.tokens, vocab.tokenizer->encode(text, {}));
  Matcher matcher(constraint);
  std::vector<std::uint32_t> bits(vocab.vocabulary->mask_words());
  bool allowed = true;
  for (const TokenId token : out.tokens) {
    const std::int64_t before = thread_ns();
    LLORCH_OK(matcher.mask(bits));
    out.mask_ns.push_back(thread_ns() - before);
    const auto id = static_cast<std::uint32_t>(token);
    const bool in_mask = bits[id >> 5] >> (id & 31) & 1;
    allowed = matcher.advance_token(id);
    if (allowed != in_mask)
      return fail(ErrorCode::kInternal, "the mask and the automaton differ about token {} of {}", token, text);
    if (!allowed) break;
  }
  if (out.tokens.empty()) allowed = true;
  if (out.accepted != (allowed && matcher.can_end()))
    return fail(ErrorCode::kInternal, "tokens and bytes differ about {}", text);
  return out;
}

json::object refusal_json(const Refusal& refusal) {
  return {{"pointer", refusal.pointer}, {"keyword", refusal.keyword}, {"message", refusal.message}};
}

void add_times(json::object& out, std::vector<std::int64_t> ns) {
  if (ns.empty()) return;
  std::sort(ns.begin(), ns.end());
  const auto us = [&](double part) {
    return static_cast<double>(ns[static_cast<std::size_t>(part * static_cast<double>(ns.size() - 1))]) / 1000;
  };
  out["masks"] = ns.size();
  out["mask_us_median"] = us(0.5), out["mask_us_p99"] = us(0.99), out["mask_us_max"] = us(1);
}

/// One line of --cases: {"schema": ..., "texts": [...]}; a schema may be given as JSON or as its text.
Result<json::object> run_case(const GrammarFlags& f, const Vocab& vocab, const std::string& line) {
  LLORCH_TRY(const json::value parsed, json::parse(line, "a case"));
  const auto* object = parsed.if_object();
  const auto* schema = object ? object->if_contains("schema") : nullptr;
  const auto* texts = object ? json::find_array(*object, "texts") : nullptr;
  if (!schema || !texts) return fail(ErrorCode::kInvalidRequest, "a case is an object of \"schema\" and \"texts\"");
  const std::string text = schema->is_string() ? std::string(schema->get_string()) : boost::json::serialize(*schema);
  json::object out;
  const std::int64_t before = thread_ns();
  const auto grammar = Grammar::from_json_schema(text, options_of(f));
  out["compile_ns"] = thread_ns() - before;
  if (!grammar) {
    out["refused"] = refusal_json(grammar.error());
    return out;
  }
  out["states"] = grammar->network()->size();
  const auto constraint = std::make_shared<Constraint>(*grammar, vocab.vocabulary);
  json::array results, tokens, times;
  for (const json::value& t : *texts) {
    if (!t.is_string()) return fail(ErrorCode::kInvalidRequest, "\"texts\" are strings");
    LLORCH_TRY(const Checked checked, check_text(constraint, vocab, t.get_string(), f.bench));
    results.push_back(checked.accepted);
    if (!f.bench) continue;
    tokens.push_back(json::array(checked.tokens.begin(), checked.tokens.end()));
    times.push_back(json::array(checked.mask_ns.begin(), checked.mask_ns.end()));
  }
  out["accepted"] = std::move(results);
  if (f.bench) out["tokens"] = std::move(tokens), out["mask_ns"] = std::move(times);
  return out;
}

Status run_cases(const GrammarFlags& f, const Vocab& vocab) {
  std::ifstream file;
  if (f.cases != "-") file.open(f.cases);
  if (f.cases != "-" && !file) return fail(ErrorCode::kIo, "cannot open {}", f.cases);
  std::istream& in = f.cases == "-" ? std::cin : file;
  for (std::string line; std::getline(in, line);) {
    LLORCH_TRY(const json::object out, run_case(f, vocab, line));
    cli::print(out);
    std::fflush(stdout);
  }
  return {};
}

Result<Compiled<Grammar>> compile(const GrammarFlags& f) {
  if (!f.regex.empty()) return Grammar::from_regex(f.regex);
  LLORCH_TRY(const std::string text,
             read_text_file(f.schema.empty() ? f.gbnf : f.schema, grammar_limits::kSourceBytesMax));
  return f.schema.empty() ? Grammar::from_gbnf(text) : Grammar::from_json_schema(text, options_of(f));
}

Result<int> run_grammar(const GrammarFlags& f) {
  LLORCH_TRY(const Vocab vocab, open_vocab(f));
  if (!f.cases.empty()) {
    LLORCH_OK(run_cases(f, vocab));
    return 0;
  }
  const std::int64_t before = thread_ns();
  LLORCH_TRY(const Compiled<Grammar> grammar, compile(f));
  const std::int64_t compile_ns = thread_ns() - before;
  if (!grammar) {
    if (f.as_json)
      show_json(stderr, boost::json::serialize(json::object{{"error", refusal_json(grammar.error())}}));
    else
      show(stderr, "refused: %s\n", grammar.error().error().message.c_str());
    return kRefused;
  }
  json::object summary{{"compile_us", static_cast<double>(compile_ns) / 1000}, {"states", grammar->network()->size()}};
  if (!f.check.empty()) {
    LLORCH_TRY(const std::string lines, read_text_file(f.check, limits::kTextBytesMax));
    const auto constraint = std::make_shared<Constraint>(*grammar, vocab.vocabulary);
    std::vector<std::int64_t> times;
    json::array results;
    for (std::size_t at = 0; at < lines.size();) {
      const std::size_t end = std::min(lines.find('\n', at), lines.size());
      LLORCH_TRY(const Checked checked,
                 check_text(constraint, vocab, std::string_view(lines).substr(at, end - at), f.bench));
      at = end + 1;
      times.insert(times.end(), checked.mask_ns.begin(), checked.mask_ns.end());
      if (f.as_json)
        results.emplace_back(checked.accepted ? "accept" : "reject");
      else
        std::puts(checked.accepted ? "accept" : "reject");
    }
    if (f.as_json) summary["results"] = std::move(results);
    add_times(summary, std::move(times));
  }
  if (f.as_json || f.bench || f.check.empty()) cli::print(summary);
  return 0;
}

}  // namespace

void add_command_grammar(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<GrammarFlags>();
  CLI::App* c = app.add_subcommand("grammar", "compile a grammar, check texts against it, time its masks");
  c->add_option("--vocab", flags->vocab, "GGUF file, SafeTensors directory, or builtin:haiku; needed by --bench");
  auto* schema = c->add_option("--schema", flags->schema, "a file that holds a JSON schema");
  auto* regex = c->add_option("--regex", flags->regex, "a pattern that the whole text matches")->excludes(schema);
  auto* gbnf =
      c->add_option("--gbnf", flags->gbnf, "a file that holds a GBNF grammar")->excludes(schema)->excludes(regex);
  auto* check = c->add_option("--check", flags->check, "a file of texts, one a line: prints accept or reject for each");
  auto* cases =
      c->add_option("--cases", flags->cases,
                    "a file (- is stdin) of {\"schema\", \"texts\"}, one a line: prints one JSON object for each");
  cases->excludes(schema)->excludes(regex)->excludes(gbnf)->excludes(check);
  c->add_option("--whitespace", flags->whitespace,
                "between JSON tokens: bounded, compact (none) or spaced (behind , and :)")
      ->check(CLI::IsMember({"bounded", "compact", "spaced"}));
  c->add_flag("--bench", flags->bench, "also time each mask along the texts, in CPU time of this thread");
  c->add_flag("--json", flags->as_json, "results and errors as JSON");
  c->callback([flags, schema, regex, gbnf, cases, &exit_code] {
    if (schema->count() + regex->count() + gbnf->count() + cases->count() == 0) {
      exit_code =
          cli::report({ErrorCode::kInvalidRequest, "--schema, --regex, --gbnf or --cases is required"}, flags->as_json);
      return;
    }
    if (flags->bench && flags->vocab.empty()) {
      exit_code = cli::report({ErrorCode::kInvalidRequest, "--bench needs --vocab"}, flags->as_json);
      return;
    }
    if (const auto code = run_grammar(*flags); code)
      exit_code = *code;
    else
      exit_code = cli::report(code.error(), flags->as_json);
  });
}

}  // namespace llorch::worker
