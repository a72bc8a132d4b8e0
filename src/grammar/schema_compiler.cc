#include "grammar/schema_compiler.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "grammar/json_string.h"
#include "grammar/limits.h"

namespace llorch {

using namespace grammar_limits;

namespace {

constexpr std::uint32_t kIndentMax = 64;
const json::value kNullValue(nullptr), kTrueValue(true), kFalseValue(false);

}  // namespace

NetState SchemaCompiler::jump_state(NetState from) {
  const NetState state = net_->add_state();
  net_->add_jump(from, state);
  return state;
}

Refusal SchemaCompiler::full(const SchemaShape& shape) const { return reader_.too_large(shape.source); }

void SchemaCompiler::add_gap(NetState from, Gap gap, NetState to) {
  if (options_.whitespace == JsonWhitespace::kCompact ||
      (options_.whitespace == JsonWhitespace::kSpaced && gap == Gap::kInside))
    return net_->add_jump(from, to);
  if (options_.whitespace == JsonWhitespace::kSpaced) return net_->add_edge(from, ' ', ' ', to);
  if (indent_ == kNone) {
    indent_ = net_->add_rule();
    const NetState end = net_->add_state();
    net_->add_edge(net_->rule(indent_).start, ' ', ' ', end);
    net_->add_edge(net_->rule(indent_).start, '\t', '\t', end);
    net_->set_end(end);
  }
  const NetState line = net_->add_state(), carriage = net_->add_state();
  net_->add_jump(from, to);
  net_->add_edge(from, ' ', ' ', to);
  net_->add_edge(from, '\t', '\t', to);
  net_->add_edge(from, '\n', '\n', line);
  net_->add_edge(from, '\r', '\r', carriage);
  net_->add_edge(carriage, '\n', '\n', line);
  net_->add_call(line, indent_, to, 0, kIndentMax);
}

NetRule SchemaCompiler::free_string() {
  if (string_ != kNone) return string_;
  string_ = net_->add_rule();
  const NetState end = net_->add_state();
  net_->set_end(end);
  const NetState inside = add_string_body(*net_, StringBody::kFree, end);
  net_->add_edge(net_->rule(string_).start, '"', '"', inside);
  return string_;
}

NetRule SchemaCompiler::free_character() {
  if (character_ != kNone) return character_;
  character_ = net_->add_rule();
  const NetState end = net_->add_state(), start = net_->rule(character_).start;
  net_->set_end(end);
  add_free_character(*net_, start, end);
  net_->set_body(start, StringBody::kFreeCounted);
  return character_;
}

NetRule SchemaCompiler::any_value() {
  if (any_ != kNone) return any_;
  any_ = net_->add_rule();
  const NetState start = net_->rule(any_).start, end = net_->add_state();
  net_->set_end(end);
  for (const std::string_view word : {"null", "true", "false"}) net_->add_jump(net_->add_literal(start, word), end);
  (void)add_number(*net_, start, {}, end);
  net_->add_call(jump_state(start), free_string(), end);
  for (const bool object : {false, true}) {
    const NetState open = net_->add_literal(start, object ? "{" : "["), first = net_->add_state(),
                   close = net_->add_state();
    const NetState next = net_->add_state(), done = net_->add_state(), before_comma = net_->add_state();
    add_gap(open, Gap::kInside, first);
    net_->add_jump(first, close);
    net_->add_jump(first, next);
    if (object) {
      const NetState colon = net_->add_state(), value = net_->add_state();
      net_->add_call(next, free_string(), colon);
      add_gap(net_->add_literal(colon, ":"), Gap::kAfterColon, value);
      net_->add_call(value, any_, done);
    } else {
      net_->add_call(next, any_, done);
    }
    add_gap(done, Gap::kInside, before_comma);
    net_->add_jump(before_comma, close);
    add_gap(net_->add_literal(before_comma, ","), Gap::kAfterComma, next);
    const std::uint8_t bracket = object ? '}' : ']';
    net_->add_edge(close, bracket, bracket, end);
  }
  return any_;
}

NetRule SchemaCompiler::rule_for(SchemaItems items) {
  std::erase_if(items, [](const SchemaItem& i) {
    const bool* truth = i.schema->if_bool();
    return !i.negated && ((truth && *truth) || (i.schema->is_object() && i.schema->get_object().empty()));
  });
  if (items.empty()) return any_value();
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  const auto [found, fresh] = rules_.try_emplace(items, kNone);
  if (!fresh) return found->second;
  found->second = net_->add_rule();
  to_write_.emplace_back(std::move(items), found->second);
  return found->second;
}

Compiled<NetRule> SchemaCompiler::add(const json::value& part, const RawValue* raw) {
  NetRule rule = kNone;
  if (raw) {
    rule = net_->add_rule();
    raw_ = raw;
    const Compiled<void> written = write_rule({{&part, false}}, rule);
    raw_ = nullptr;
    LLORCH_OK(written);
  } else {
    rule = rule_for({{&part, false}});
  }
  LLORCH_OK(write_pending());
  if (net_->full() || reader_.exhausted()) return std::unexpected(reader_.too_large(&part));
  return rule;
}

Compiled<void> SchemaCompiler::write_pending() {
  while (!to_write_.empty()) {
    const auto [items, rule] = std::move(to_write_.front());
    to_write_.pop_front();
    LLORCH_OK(write_rule(items, rule));
    if (net_->full() || reader_.exhausted()) return std::unexpected(reader_.too_large(items[0].schema));
  }
  return {};
}

Compiled<void> SchemaCompiler::write_rule(const SchemaItems& items, NetRule rule) {
  SchemaShape shape;
  std::vector<SchemaChoice> choices;
  LLORCH_OK(reader_.gather_all(items, shape, choices));
  const NetState end = net_->add_state();
  net_->set_end(end);
  alternatives_ = 0;
  return expand(shape, choices, 0, net_->rule(rule).start, end);
}

/// Choices from `next` on are open; those that alternatives bring are put behind them, and taken off again.
Compiled<void> SchemaCompiler::expand(const SchemaShape& shape, std::vector<SchemaChoice>& choices, std::size_t next,
                                      NetState from, NetState to) {
  if (next == choices.size()) {
    if (++alternatives_ > kAlternativesMax || ++total_alternatives_ > kAlternativesTotal || net_->full())
      return std::unexpected(full(shape));
    return write_shape(shape, from, to);
  }
  if (next > static_cast<std::size_t>(kNestingMax))
    return refuse(reader_.document().pointer(*shape.source), "anyOf",
                  "alternatives lead back to themselves without end");
  const std::size_t size = choices.size();
  for (std::size_t i = 0; i < choices[next].alternatives.size(); ++i) {
    if (!reader_.charge(4) || !reader_.charge_copy(shape)) return std::unexpected(full(shape));
    SchemaShape joined = shape;
    const SchemaItems alternative = choices[next].alternatives[i];  // the list of choices moves as it grows
    LLORCH_OK(reader_.gather_all(alternative, joined, choices));
    const bool none = reader_.contradictory(joined);
    if (reader_.exhausted()) return std::unexpected(full(shape));
    if (!none) LLORCH_OK(expand(joined, choices, next + 1, from, to));
    choices.erase(choices.begin() + static_cast<std::ptrdiff_t>(size), choices.end());
  }
  return {};
}

Compiled<void> SchemaCompiler::write_shape(const SchemaShape& shape, NetState from, NetState to) {
  if (raw_ && (shape.types & ~raw_->types)) {
    SchemaShape less = shape;
    less.types &= raw_->types;
    return write_shape(less, from, to);
  }
  if (shape.allowed) return write_allowed(shape, from, to);
  if (!reader_.charge_copy(shape)) return std::unexpected(full(shape));
  SchemaShape rest = shape;
  for (const json::value* v : shape.excluded) {  // strings and numbers are left out where they are written
    if (v->is_null()) rest.types &= static_cast<std::uint8_t>(~kTypeNull);
    const bool array = v->is_array() && (shape.types & kTypeArray),
               object = v->is_object() && (shape.types & kTypeObject);
    if (array && v->get_array().empty())
      rest.min_items = std::max(rest.min_items, 1u);
    else if (object && v->get_object().empty())
      rest.min_properties = std::max(rest.min_properties, 1u);
    else if (array || object)
      return refuse(reader_.document().pointer(*v), "not", "an array or object cannot be left out");
  }
  if (rest.types & kTypeNull) write_scalars({&kNullValue}, jump_state(from), to);
  if (rest.types & kTypeBoolean)
    for (const bool truth : {true, false}) {
      const auto same = [&](const json::value* v) { return v->is_bool() && v->get_bool() == truth; };
      if (std::none_of(rest.excluded.begin(), rest.excluded.end(), same))
        write_scalars({truth ? &kTrueValue : &kFalseValue}, jump_state(from), to);
    }
  if (rest.types & kTypeNumber) LLORCH_OK(write_numbers(rest, from, to));
  if (rest.types & kTypeString) LLORCH_OK(write_string(rest, from, to));
  if (rest.types & kTypeArray) LLORCH_OK(write_array(rest, from, to));
  if (rest.types & kTypeObject) LLORCH_OK(write_object(rest, from, to));
  return {};
}

Compiled<void> SchemaCompiler::write_allowed(const SchemaShape& shape, NetState from, NetState to) {
  const bool plain = shape.strings.empty() && shape.excluded.empty() && shape.objects.empty() && shape.arrays.empty() &&
                     shape.required.empty() && shape.contains.empty() && shape.names.empty() && shape.min_length == 0 &&
                     shape.max_length == kNone && shape.min_items == 0 && shape.max_items == kNone &&
                     shape.min_properties == 0 && shape.max_properties == kNone && !shape.numbers.low &&
                     !shape.numbers.high && shape.numbers.multiples.empty() && shape.numbers.not_multiples.empty();
  std::vector<const json::value*> scalars;
  const SchemaReader::Values excluded = reader_.values_of(shape.excluded);
  for (const json::value* v : *shape.allowed) {
    bool fits = (type_of(*v) & shape.types) != 0 && !reader_.among(excluded, *v);
    if (fits && !plain) {
      LLORCH_TRY(fits, reader_.holds_beside_values(shape, *v));
    }
    if (!reader_.charge(1)) return std::unexpected(full(shape));
    if (!fits || net_->full()) continue;
    if (v->is_structured())
      write_literal(*v, jump_state(from), to);
    else
      scalars.push_back(v);
  }
  write_scalars(scalars, from, to);
  return {};
}

Compiled<void> SchemaCompiler::write_numbers(const SchemaShape& shape, NetState from, NetState to) {
  NumberRange range = shape.numbers;
  range.integer = !(shape.types & kTypeFraction);
  range.fractional = !(shape.types & kTypeInteger);
  std::vector<Decimal> holes;
  const std::size_t multiples = range.multiples.size() + range.not_multiples.size();
  if (!reader_.charge((4 + multiples) * (1 + shape.excluded.size()))) return std::unexpected(full(shape));
  for (const json::value* v : shape.excluded)
    if (const auto d = Decimal::of(*v)) holes.push_back(*d);
  std::sort(holes.begin(), holes.end(), [](const Decimal& a, const Decimal& b) { return Decimal::compare(a, b) < 0; });
  for (std::size_t i = 0; i <= holes.size(); ++i) {  // between each two numbers that are left out
    NumberRange part = range;
    if (i > 0) part.at_least(holes[i - 1], true);
    if (i < holes.size()) part.at_most(holes[i], true);
    if (part.empty()) continue;
    if (!add_number(*net_, jump_state(from), part, to))
      return refuse(reader_.document().pointer(*shape.source), part.multiples.empty() ? "minimum" : "multipleOf",
                    "numbers within these bounds take too many states");
  }
  return {};
}

Compiled<void> SchemaCompiler::write_string(const SchemaShape& shape, NetState from, NetState to) {
  if (shape.min_length > shape.max_length) return {};
  if (raw_) return write_raw_string(shape, from, to);
  LLORCH_TRY(const SharedDfa dfa, reader_.string_dfa(shape, false));
  const NetState start = jump_state(from);
  if (dfa) {
    dfa->emit(*net_, net_->add_literal(start, "\""), to);
    return {};
  }
  if (shape.min_length == 0 && shape.max_length == kNone) {
    net_->add_call(start, free_string(), to);
    return {};
  }
  const NetState inside = net_->add_literal(start, "\""), behind = net_->add_state();
  net_->add_call(inside, free_character(), behind, shape.min_length, shape.max_length);
  net_->add_edge(behind, '"', '"', to);
  return {};
}

Compiled<void> SchemaCompiler::write_raw_string(const SchemaShape& shape, NetState from, NetState to) {
  auto free = CharDfa::before(raw_->end);
  if (!free || !reader_.charge(free->weight())) return std::unexpected(full(shape));
  LLORCH_TRY(const SharedDfa own, reader_.string_dfa(shape, true));
  LLORCH_TRY(const SharedDfa dfa, reader_.joined(own, std::make_shared<const CharDfa>(*std::move(free)), shape.source));
  dfa->emit_raw(*net_, jump_state(from), to);
  return {};
}

void SchemaCompiler::write_literal(const json::value& value, NetState from, NetState to) {
  if (!value.is_structured()) return write_scalars({&value}, from, to);
  const auto* object = value.if_object();
  const std::size_t size = object ? object->size() : value.get_array().size();
  NetState at = net_->add_literal(from, object ? "{" : "[");
  for (std::size_t i = 0; i < size && !net_->full(); ++i) {
    const NetState item = net_->add_state(), done = net_->add_state(), behind = net_->add_state();
    add_gap(at, i == 0 ? Gap::kInside : Gap::kAfterComma, item);
    NetState begin = item;
    if (object) {
      const auto& pair = *(object->begin() + static_cast<std::ptrdiff_t>(i));
      begin = net_->add_state();
      add_gap(net_->add_literal(item, fmt::format("\"{}\":", plain_spelling(pair.key()))), Gap::kAfterColon, begin);
    }
    write_literal(object ? (object->begin() + static_cast<std::ptrdiff_t>(i))->value() : value.get_array()[i], begin,
                  done);
    add_gap(done, Gap::kInside, behind);
    at = i + 1 < size ? net_->add_literal(behind, ",") : behind;
  }
  if (size == 0) {
    const NetState inner = net_->add_state();
    add_gap(at, Gap::kInside, inner);
    at = inner;
  }
  const std::uint8_t bracket = object ? '}' : ']';
  net_->add_edge(at, bracket, bracket, to);
}

void SchemaCompiler::write_scalars(const std::vector<const json::value*>& values, NetState from, NetState to) {
  std::set<std::string> texts;
  for (const json::value* v : values) {
    if (!reader_.charge(2)) return;
    if (const auto* text = v->if_string()) {
      if (!raw_)
        texts.insert(fmt::format("\"{}\"", plain_spelling(*text)));
      else if (const auto free = CharDfa::before(raw_->end); free && free->accepts(*text))
        texts.emplace(*text);
    } else if (const auto number = Decimal::of(*v)) {
      std::string digits = (number->negative ? "-" : "") + number->whole;
      if (!number->fraction.empty()) digits += "." + number->fraction;
      if (!reader_.charge(digits.size() / 8)) return;
      texts.insert(digits);
      if (v->is_double() && number->fraction.empty()) texts.insert(digits + ".0");
    } else if (!v->is_number()) {
      texts.insert(v->is_null() ? "null" : v->get_bool() ? "true" : "false");
      if (raw_) texts.insert(v->is_null() ? raw_->null_word : v->get_bool() ? raw_->true_word : raw_->false_word);
    }
  }
  // A trie, so that the texts' common beginnings are common states; sorted texts share what the last one has.
  std::vector<NetState> path{from};
  std::string_view before;
  for (const std::string& text : texts) {
    if (net_->full()) return;
    const auto common = static_cast<std::size_t>(
        std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin());
    path.resize(common + 1);
    for (std::size_t i = common; i < text.size(); ++i) {
      const auto byte = static_cast<std::uint8_t>(text[i]);
      path.push_back(net_->add_state());
      net_->add_edge(path[i], byte, byte, path.back());
    }
    net_->add_jump(path.back(), to);
    before = text;
  }
}

}  // namespace llorch
