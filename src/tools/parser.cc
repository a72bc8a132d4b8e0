#include "tools/parser.h"

#include <algorithm>

#include "base/utf8.h"
#include "tools/blanks.h"
#include "tools/json_scanner.h"
#include "tools/marker_matcher.h"
#include "tools/values.h"

namespace llorch::tools {
namespace {

using Values = Parameters::Values;
constexpr std::size_t kValueBytesMax = 8u << 20;  // of one value that cannot be passed on before it is whole
constexpr char kQuote = '\xff';                   // in place of a quote that is a control token: no byte of UTF-8

std::string_view trimmed(std::string_view t) {
  const std::size_t first = t.find_first_not_of(kBlanks);
  return first == t.npos ? std::string_view() : t.substr(first, t.find_last_not_of(kBlanks) + 1 - first);
}

Piece text_piece(std::string text) { return {Piece::Kind::kText, std::move(text)}; }
Pieces chain(std::initializer_list<Pieces> parts) {
  Pieces out;
  for (const Pieces& part : parts) out.insert(out.end(), part.begin(), part.end());
  return joined(std::move(out));
}

/// Bytes at the end of `text` that begin a character without ending it.
std::size_t cut_character(std::string_view text) {
  for (std::size_t n = 1; n <= std::min<std::size_t>(3, text.size()); ++n) {
    const auto c = static_cast<unsigned char>(text[text.size() - n]);
    if ((c & 0xc0) == 0x80) continue;
    return utf8_sequence(text.substr(text.size() - n)) < 0 ? n : 0;
  }
  return 0;
}

}  // namespace

void append(Items& to, Items more) {
  for (Item& item : more) {
    const bool joins = (item.kind == Item::Kind::kText || item.kind == Item::Kind::kArguments) && !to.empty() &&
                       to.back().kind == item.kind && to.back().index == item.index;
    if (joins)
      to.back().text += item.text;
    else
      to.push_back(std::move(item));
  }
}

class ToolCallParser::Machine {
 public:
  Machine(const ToolFormat& format, std::vector<DeclaredTool> tools, std::vector<std::string> controls)
      : format_(format), tools_(std::move(tools)), controls_(std::move(controls)), notation_(format_.parameters) {
    if (!format_.none()) make_patterns();
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  Items push(std::string_view text, std::string_view control) {
    for (const char c : text) input_.push_back({static_cast<Symbol>(static_cast<unsigned char>(c)), {}});
    if (!control.empty()) input_.push_back({controls_.find(control), std::string(control)});
    run();
    return std::exchange(out_, {});
  }

  Items finish() {
    while (state_ == State::kHead || state_ == State::kBlock) {
      give_up();
      run();
    }
    if (state_ == State::kValue && streams_) pass_text(value_.size());
    if (in_call()) end_call(state_ == State::kBehind);
    if (!behind_call_) text(blanks_);
    blanks_.clear();
    state_ = State::kText;
    return std::exchange(out_, {});
  }

  [[nodiscard]] bool in_call() const { return state_ >= State::kJson; }

 private:
  enum class State : std::uint8_t {
    kText,
    kHead,   // something that may begin a call
    kBlock,  // behind a call: another, or the block's end
    // In a call:
    kJson,  // arguments that are JSON
    kJsonText,
    kKey,     // a parameter's name, or the end
    kValue,   // and its value
    kBehind,  // the arguments are whole
  };
  /// What a pattern leads to.
  enum class Then : std::uint8_t { kArguments, kEmptyCall, kTextValue, kOtherValue, kCallEnd, kBlockEnd };
  struct Input {
    Symbol symbol;
    std::string spelling;  // of a control token
  };
  struct Ways {
    std::vector<Pieces> patterns;
    std::vector<Then> then;
    MarkerMatcher matcher;

    void add(Pieces pattern, Then what) { patterns.push_back(std::move(pattern)), then.push_back(what); }
    void make(const ControlTokens& controls, std::span<const DeclaredTool> tools) {
      matcher = MarkerMatcher(patterns, controls, tools);
    }
  };

  void make_patterns();
  void add_call(const Pieces& head, Ways& ways) const;
  void add_keys(const Pieces& before, Ways& ways) const;
  [[nodiscard]] Pieces call_part(const Pieces& call, bool before) const;
  void run();
  void step_text(Input in);
  void step_ways(Input in);
  void follow(Then then, const MarkerMatcher::Match& match);
  void broken(Input in);
  void give_up();
  void step_json(const Input& in);
  void step_json_text(const Input& in);
  void step_value(const Input& in);
  void step_raw(const Input& in);
  void scanned(JsonScanner::Step step, const Input& in);
  void begin_call(const MarkerMatcher::Match& match);
  void end_call(bool complete, std::string id = {});
  void begin_value(const std::string& name, bool as_text);
  void end_value();
  void pass_text(std::size_t size);
  void wait_for(State state, Ways& ways) { state_ = state, ways_ = &ways, ways.matcher.start(), attempt_.clear(); }
  void add(Item::Kind kind, int index, std::string_view t) {
    if (t.empty()) return;
    if (out_.empty() || out_.back().kind != kind || out_.back().index != index)
      out_.push_back({kind, {}, {}, {}, index, true});
    out_.back().text += t;
  }
  void text(std::string_view t) { add(Item::Kind::kText, 0, t); }
  void delta(std::string_view t) { add(Item::Kind::kArguments, index_, t); }

  const ToolFormat format_;
  const std::vector<DeclaredTool> tools_;
  const ControlTokens controls_;
  Parameters notation_;  // with quotes as they are in value_
  Ways heads_, block_, tails_, keys_;
  Ways* ways_ = nullptr;
  Symbols close_;             // what ends a raw value, from its first byte that is no white space
  std::string close_blanks_;  // and the white space before
  bool only_at_start_ = false;

  State state_ = State::kText;
  std::deque<Input> input_;
  std::vector<Input> attempt_;
  std::string blanks_;
  bool at_start_ = true, behind_call_ = false;
  Items out_;

  int index_ = -1;
  const DeclaredTool* tool_ = nullptr;
  JsonScanner json_;
  std::string escape_;  // begun, of a JSON string that holds the arguments
  bool any_parameter_ = false;
  // Of the value under way.
  std::string value_, skip_;
  Symbols ending_;
  std::size_t passed_ = 0;
  std::uint8_t types_ = kAnyValue;
  bool streams_ = false;
  std::optional<NotationScanner> notation_scanner_;
};

Pieces ToolCallParser::Machine::call_part(const Pieces& call, bool before) const {
  ToolFormat one = format_;
  one.call = call, one.open.clear(), one.close.clear();
  return before ? one.head() : one.tail();
}

void ToolCallParser::Machine::add_call(const Pieces& head, Ways& ways) const {
  const Pieces tail = call_part(format_.call, false);
  switch (format_.arguments) {
    case ToolFormat::Arguments::kJson: return ways.add(chain({head, {text_piece("{")}}), Then::kArguments);
    case ToolFormat::Arguments::kJsonText: return ways.add(chain({head, {text_piece("\"")}}), Then::kArguments);
    default: break;
  }
  ways.add(chain({head, tail}), Then::kEmptyCall);
  add_keys(chain({head, {text_piece(format_.parameters.first)}}), ways);
}

/// `before`, a name, and what stands between it and a value.
void ToolCallParser::Machine::add_keys(const Pieces& before, Ways& ways) const {
  const Parameters& p = format_.parameters;
  const auto key = [&](const std::string& assign) {
    return chain({before, {{Piece::Kind::kArguments, {}}}, {text_piece(assign)}});
  };
  if (p.values == Values::kRaw && p.assign_text != p.assign_other) ways.add(key(p.assign_text), Then::kTextValue);
  ways.add(key(p.assign_other), Then::kOtherValue);
}

void ToolCallParser::Machine::make_patterns() {
  using Pattern = Pieces;
  const Parameters& p = format_.parameters;
  const Pattern open{text_piece(format_.open)}, tail = call_part(format_.call, false);
  add_call(chain({open, call_part(format_.call, true)}), heads_);
  for (const Pieces& other : format_.other_calls) add_call(chain({open, call_part(other, true)}), heads_);
  if (!format_.close.empty() || format_.between.find_first_not_of(kBlanks) != std::string::npos) {
    add_call(chain({{text_piece(format_.between)}, call_part(format_.call, true)}), block_);
    if (!format_.close.empty()) block_.add({text_piece(format_.close)}, Then::kBlockEnd);
  }
  tails_.add(tail, Then::kCallEnd);
  const auto id = std::find_if(tail.begin(), tail.end(), [](const Piece& t) { return t.kind == Piece::Kind::kId; });
  if (id != tail.end() && id + 1 != tail.end() && (id + 1)->text.starts_with('"'))  // models may leave an id out
    tails_.add(chain({{text_piece((id + 1)->text.substr(1))}, {id + 2, tail.end()}}), Then::kCallEnd);
  if (format_.arguments == ToolFormat::Arguments::kParameters) {
    const std::string close = p.values == Values::kRaw ? "" : p.close_other;
    keys_.add(chain({{text_piece(close)}, tail}), Then::kCallEnd);
    add_keys({text_piece(close + p.next)}, keys_);
    const std::size_t first = std::min(p.close_text.find_first_not_of(kBlanks), p.close_text.size());
    close_blanks_ = p.close_text.substr(0, first), close_ = controls_.read(p.close_text.substr(first));
    for (std::string* quote : {&notation_.quote_open, &notation_.quote_close})
      if (controls_.find(*quote) != kUnknownControl) *quote = kQuote;
  }
  for (Ways* ways : {&heads_, &block_, &tails_, &keys_}) ways->make(controls_, tools_);
  only_at_start_ = format_.begin().starts_with('{');
}

void ToolCallParser::Machine::run() {
  while (!input_.empty()) {
    Input in = std::move(input_.front());
    input_.pop_front();
    switch (state_) {
      case State::kText: step_text(std::move(in)); break;
      case State::kJson: step_json(in); break;
      case State::kJsonText: step_json_text(in); break;
      case State::kValue: step_value(in); break;
      default: step_ways(std::move(in)); break;
    }
  }
}

void ToolCallParser::Machine::step_text(Input in) {
  if (is_blank(in.symbol)) {
    blanks_ += static_cast<char>(in.symbol);
    return;
  }
  if (!format_.none() && (!only_at_start_ || at_start_) && heads_.matcher.may_begin(in.symbol)) {
    wait_for(State::kHead, heads_);
    return step_ways(std::move(in));
  }
  attempt_ = {std::move(in)};
  give_up();
}

/// What seemed to begin a call is text: its first symbol at least; the others are looked at again.
void ToolCallParser::Machine::give_up() {
  state_ = State::kText;
  if (attempt_.empty()) return;
  input_.insert(input_.begin(), attempt_.begin() + 1, attempt_.end());
  const Input first = std::move(attempt_[0]);
  attempt_.clear();
  if (is_blank(first.symbol)) {
    blanks_ += static_cast<char>(first.symbol);
    return;
  }
  if (!behind_call_ || first.spelling.empty()) text(blanks_);
  blanks_.clear();
  at_start_ = behind_call_ = false;
  if (first.spelling.empty())
    text(std::string(1, static_cast<char>(first.symbol)));
  else
    out_.push_back({Item::Kind::kControl, first.spelling, {}, {}, 0, true});
}

void ToolCallParser::Machine::step_ways(Input in) {
  const bool alive = ways_->matcher.feed(in.symbol);
  if (!alive) {
    if (state_ >= State::kJson) return broken(std::move(in));
    attempt_.push_back(std::move(in));
    return give_up();
  }
  attempt_.push_back(std::move(in));
  if (const auto* match = ways_->matcher.matched()) {
    const MarkerMatcher::Match found = *match;
    attempt_.clear();
    follow(ways_->then[static_cast<std::size_t>(found.pattern)], found);
  }
}

/// A call goes on in a way that the format does not know.
void ToolCallParser::Machine::broken(Input in) {
  end_call(state_ == State::kBehind);
  attempt_.clear();
  state_ = State::kText;
  input_.push_front(std::move(in));
}

void ToolCallParser::Machine::follow(Then then, const MarkerMatcher::Match& match) {
  switch (then) {
    case Then::kArguments:
      begin_call(match);
      json_ = {};
      state_ = format_.arguments == ToolFormat::Arguments::kJson ? State::kJson : State::kJsonText;
      if (state_ == State::kJson) step_json({u'{', {}});
      return;
    case Then::kEmptyCall: begin_call(match); return end_call(true);
    case Then::kTextValue:
    case Then::kOtherValue:
      if (state_ != State::kKey) begin_call(match);
      return begin_value(match.key, then == Then::kTextValue);
    case Then::kCallEnd: return end_call(true, match.id);
    case Then::kBlockEnd: state_ = State::kText; return;
  }
}

void ToolCallParser::Machine::begin_call(const MarkerMatcher::Match& match) {
  blanks_.clear();
  at_start_ = false, any_parameter_ = false;
  tool_ = find_tool(tools_, match.name);
  out_.push_back({Item::Kind::kCallBegin, {}, match.name, match.id, ++index_, true});
}

void ToolCallParser::Machine::end_call(bool complete, std::string id) {
  if (format_.arguments == ToolFormat::Arguments::kParameters && complete) delta(any_parameter_ ? "}" : "{}");
  out_.push_back({Item::Kind::kCallEnd, {}, {}, std::move(id), index_, complete});
  behind_call_ = at_start_ = true;
  if (block_.patterns.empty())
    state_ = State::kText;
  else
    wait_for(State::kBlock, block_);
}

void ToolCallParser::Machine::scanned(JsonScanner::Step step, const Input& in) {
  if (step == JsonScanner::Step::kMore) return;
  if (step == JsonScanner::Step::kBad) return broken(in);
  if (state_ == State::kValue) end_value();
  if (state_ != State::kKey) wait_for(State::kBehind, tails_);
  // Ends that need no byte more have been reached.
  if (step == JsonScanner::Step::kBehind) input_.push_front(in);
  if (const auto* match = ways_->matcher.matched()) {
    const MarkerMatcher::Match found = *match;
    follow(ways_->then[static_cast<std::size_t>(found.pattern)], found);
  }
}

void ToolCallParser::Machine::step_json(const Input& in) {
  if (in.symbol >= kControlBase) return broken(in);
  const char c = static_cast<char>(in.symbol);
  const JsonScanner::Step step = json_.feed(c);
  if (step != JsonScanner::Step::kBad) delta({&c, 1});
  scanned(step, in);
}

void ToolCallParser::Machine::step_json_text(const Input& in) {
  if (in.symbol >= kControlBase) return broken(in);
  const char c = static_cast<char>(in.symbol);
  std::string bytes;
  if (!escape_.empty()) {
    escape_ += c;
    if (escape_[1] == 'u' && escape_.size() < 6) return;
    const std::string all = "\"" + std::exchange(escape_, {}) + "\"";
    boost::system::error_code bad;
    const auto read = boost::json::parse(all, bad);
    if (bad || !read.is_string()) return broken(in);
    bytes = read.get_string();
  } else if (c == '\\') {
    escape_ = c;
    return;
  } else if (c == '"') {
    return broken(in);  // the string ends before the JSON in it
  } else {
    bytes = c;
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const JsonScanner::Step step = json_.feed(bytes[i]);
    if (step == JsonScanner::Step::kBad || step == JsonScanner::Step::kBehind) return broken(in);
    delta({&bytes[i], 1});
    if (step != JsonScanner::Step::kDone) continue;
    wait_for(State::kBehind, tails_);
    return;
  }
}

void ToolCallParser::Machine::begin_value(const std::string& name, bool as_text) {
  const Parameters& p = format_.parameters;
  const std::string key(trimmed(name));
  types_ = tool_ ? types_of(*tool_, key) : std::uint8_t{kAnyValue};
  if (p.values == Values::kRaw && p.assign_text != p.assign_other) {  // the model says which it is
    const auto others = static_cast<std::uint8_t>(types_ & ~kStringValue);
    types_ = as_text ? std::uint8_t{kStringValue} : others ? others : std::uint8_t{kAnyValue};
  }
  delta((any_parameter_ ? ", " : "{") + json_quoted(key) + ": ");
  any_parameter_ = true;
  const std::string& assign = as_text ? p.assign_text : p.assign_other;
  const std::size_t last = assign.find_last_not_of(kBlanks);
  skip_ = assign.substr(last == std::string::npos ? 0 : last + 1);
  value_.clear(), ending_.clear(), passed_ = 0, json_ = {};
  streams_ = p.values == Values::kRaw && types_ == kStringValue;
  notation_scanner_.emplace(notation_);
  if (streams_) delta("\"");
  state_ = State::kValue;
}

void ToolCallParser::Machine::step_value(const Input& in) {
  if (!skip_.empty()) {
    const bool same = in.symbol == static_cast<unsigned char>(skip_[0]);
    skip_.erase(0, same ? 1 : skip_.size());
    if (same) return;
  }
  if (value_.size() > kValueBytesMax + passed_) return broken(in);
  switch (format_.parameters.values) {
    case Values::kRaw: return step_raw(in);
    case Values::kJson: {
      if (in.symbol >= kControlBase) return broken(in);
      const char c = static_cast<char>(in.symbol);
      const JsonScanner::Step step = json_.feed(c);
      if (step == JsonScanner::Step::kMore || step == JsonScanner::Step::kDone) delta({&c, 1});
      return scanned(step, in);
    }
    case Values::kNotation: {
      const bool quote = !in.spelling.empty() && (in.spelling == format_.parameters.quote_open ||
                                                  in.spelling == format_.parameters.quote_close);
      if (in.symbol >= kControlBase && !quote) return broken(in);
      const char c = quote ? kQuote : static_cast<char>(in.symbol);
      const JsonScanner::Step step = notation_scanner_->feed(c);
      if (step != JsonScanner::Step::kBehind) value_ += c;
      return scanned(step, in);
    }
  }
}

void ToolCallParser::Machine::step_raw(const Input& in) {
  if (in.symbol < kControlBase) value_ += static_cast<char>(in.symbol);
  ending_ += in.symbol;
  while (!close_.starts_with(ending_)) ending_.erase(0, 1);
  const auto held = static_cast<std::size_t>(
      std::count_if(ending_.begin(), ending_.end(), [](Symbol s) { return s < kControlBase; }));
  std::size_t size = value_.size() - held;
  std::size_t blanks = std::min(size, close_blanks_.size());  // those that may belong to the end
  while (!std::string_view(value_).substr(0, size).ends_with(std::string_view(close_blanks_).substr(0, blanks)))
    --blanks;
  if (ending_ != close_) {
    if (streams_) pass_text(size - blanks);
    return;
  }
  if (blanks == close_blanks_.size()) size -= blanks;
  value_.resize(size);
  end_value();
}

/// Of a string that is passed on as it comes; whole characters.
void ToolCallParser::Machine::pass_text(std::size_t size) {
  if (size <= passed_) return;
  std::string_view more = std::string_view(value_).substr(passed_, size - passed_);
  if (size != value_.size() || state_ == State::kValue) more.remove_suffix(cut_character(more));
  std::string escaped;
  append_json_escaped(escaped, more);
  delta(escaped);
  passed_ += more.size();
}

void ToolCallParser::Machine::end_value() {
  const Parameters& p = format_.parameters;
  state_ = State::kKey;
  if (streams_) {
    pass_text(value_.size());
    delta("\"");
  } else if (p.values == Values::kRaw) {
    delta(json_of_raw(value_, types_));
  } else if (p.values == Values::kNotation) {
    delta(json_of_notation(value_, notation_).value_or(json_quoted(value_)));
  }
  value_.clear();
  wait_for(State::kKey, keys_);
}

ToolCallParser::ToolCallParser(const ToolFormat& format, std::vector<DeclaredTool> tools,
                               std::vector<std::string> controls)
    : machine_(std::make_unique<Machine>(format, std::move(tools), std::move(controls))) {}
ToolCallParser::~ToolCallParser() = default;
ToolCallParser::ToolCallParser(ToolCallParser&&) noexcept = default;
ToolCallParser& ToolCallParser::operator=(ToolCallParser&&) noexcept = default;
Items ToolCallParser::push(std::string_view text, std::string_view control) { return machine_->push(text, control); }
Items ToolCallParser::finish() { return machine_->finish(); }
bool ToolCallParser::in_call() const { return machine_->in_call(); }

}  // namespace llorch::tools
