// Arrays and objects of a shape.
#include <algorithm>
#include <set>

#include "grammar/json_string.h"
#include "grammar/limits.h"
#include "grammar/schema_compiler.h"

namespace llorch {

using namespace grammar_limits;

Compiled<void> SchemaCompiler::write_array(const SchemaShape& shape, NetState from, NetState to) {
  std::uint32_t prefix = 0, most = shape.max_items;
  for (const ArrayPart& part : shape.arrays)
    if (part.prefix) prefix = std::max(prefix, static_cast<std::uint32_t>(part.prefix->size()));
  for (std::uint32_t i = 0; i < std::min(prefix, most) && !reader_.exhausted(); ++i)
    if (reader_.never(reader_.array_items(shape, i))) most = std::min(most, i);
  const SchemaItems rest = reader_.array_items(shape, kNone);
  if (reader_.never(rest)) most = std::min(most, prefix);
  prefix = std::min(prefix, most);
  if (shape.min_items > most) return {};
  if (!shape.contains.empty()) return write_containing(shape, from, to);
  const NetState open = net_->add_literal(jump_state(from), "["), close = net_->add_state();
  net_->add_edge(close, ']', ']', to);
  NetState at = net_->add_state();
  add_gap(open, Gap::kInside, at);
  if (shape.min_items == 0) net_->add_jump(at, close);
  if (most == 0) return {};
  std::uint32_t done = 0;
  do {  // the items that have a schema of their own, and the first of the others
    const NetState item = net_->add_state(), after = net_->add_state(), behind = net_->add_state();
    if (done == 0)
      net_->add_jump(at, item);
    else
      add_gap(net_->add_literal(at, ","), Gap::kAfterComma, item);
    net_->add_call(item, rule_for(done < prefix ? reader_.array_items(shape, done) : rest), after);
    add_gap(after, Gap::kInside, behind);
    ++done;
    if (done >= shape.min_items && done < prefix) net_->add_jump(behind, close);
    at = behind;
  } while (done < prefix && !net_->full() && !reader_.exhausted());
  const NetRule more = net_->add_rule();
  const NetState next = net_->add_state(), after = net_->add_state(), end = net_->add_state();
  net_->set_end(end);
  add_gap(net_->add_literal(net_->rule(more).start, ","), Gap::kAfterComma, next);
  net_->add_call(next, rule_for(rest), after);
  add_gap(after, Gap::kInside, end);
  const NetState tail = jump_state(at);
  net_->add_call(tail, more, close, shape.min_items > done ? shape.min_items - done : 0,
                 most == kNone ? kNone : most - done);
  return {};
}

Compiled<void> SchemaCompiler::write_containing(const SchemaShape& shape, NetState from, NetState to) {
  // One item is the one that is contained; which, is left open. A cell is (items so far, whether it has come).
  if (shape.contains.size() > 1)
    return refuse(reader_.document().pointer(*shape.contains[1].schema), "contains",
                  "two of them in one array are not supported");
  std::uint32_t last = shape.min_items;
  for (const ArrayPart& part : shape.arrays)
    if (part.prefix) last = std::max(last, static_cast<std::uint32_t>(part.prefix->size()));
  if (shape.max_items != kNone) last = std::max(last, shape.max_items);
  if (last > 2000) return std::unexpected(full(shape));
  const NetState open = net_->add_literal(jump_state(from), "["), close = net_->add_state(), first = net_->add_state();
  net_->add_edge(close, ']', ']', to);
  add_gap(open, Gap::kInside, first);
  std::vector<NetState> cells;  // behind so many items; two for each number
  for (std::uint32_t i = 0; i < 2 * (last + 1); ++i) cells.push_back(net_->add_state());
  const auto write_item = [&](std::uint32_t count, bool found, bool now) {
    const NetState before = count == 0 ? first : cells[2 * count + found];
    const NetState item = net_->add_state(), after = net_->add_state();
    if (count == 0)
      net_->add_jump(before, item);
    else
      add_gap(net_->add_literal(before, ","), Gap::kAfterComma, item);
    SchemaItems items = reader_.array_items(shape, count < last || shape.max_items != kNone ? count : kNone);
    if (now) items.push_back(shape.contains[0]);
    net_->add_call(item, rule_for(std::move(items)), after);
    add_gap(after, Gap::kInside, cells[2 * std::min(count + 1, last) + (found || now)]);
  };
  if (last == 0) {  // any number: the cells of no items double as those of some
    cells.push_back(net_->add_state()), cells.push_back(net_->add_state());
    last = 1;
  }
  for (std::uint32_t count = 0; count <= last && !net_->full() && !reader_.exhausted(); ++count) {
    if (count >= shape.max_items) break;
    for (const bool found : {false, true}) {
      if (count == 0 && found) continue;
      write_item(count, found, false);
      if (!found) write_item(count, found, true);
    }
  }
  for (std::uint32_t count = std::max(shape.min_items, 1u); count <= last; ++count)
    net_->add_jump(cells[2 * count + 1], close);
  return {};
}

struct SchemaCompiler::ObjectPlan {
  struct Property {
    std::string_view name;
    SchemaItems items;
    bool required;
  };
  std::vector<Property> properties;     // those that may be there, in order
  std::vector<std::string_view> known;  // all names that are not others
  std::vector<NetRule> extras;          // one of a name that is not known, with its value
  std::vector<NetRule> needed;          // one of those comes last, where not empty
  bool needs_extra = false;
  std::uint32_t least = 0, most = kNone;
  bool possible = true;
};

Compiled<SchemaCompiler::ObjectPlan> SchemaCompiler::plan_object(const SchemaShape& shape) {
  ObjectPlan plan;
  std::vector<std::string_view> order;
  std::set<std::string_view> seen, required(shape.required.begin(), shape.required.end());
  for (const ObjectPart& part : shape.objects)
    if (part.properties) {
      if (!reader_.charge(4 * part.properties->size())) return std::unexpected(full(shape));
      for (const auto& pair : *part.properties)
        if (seen.insert(pair.key()).second) order.push_back(pair.key());
    }
  if (!reader_.charge(4 * shape.required.size())) return std::unexpected(full(shape));
  for (const std::string_view name : shape.required)
    if (seen.insert(name).second) order.push_back(name);
  LLORCH_TRY(const SharedDfa names, reader_.names_dfa(shape));
  plan.least = shape.min_properties, plan.most = shape.max_properties;
  for (const std::string_view name : order) {
    SchemaItems items = reader_.property_items(shape, name);
    if (reader_.exhausted()) return std::unexpected(full(shape));
    const bool needed = required.contains(name);
    plan.known.push_back(name);
    if (reader_.never(items) || (names && !names->accepts(name))) {
      if (needed) plan.possible = false;
      continue;
    }
    plan.properties.push_back({name, std::move(items), needed});
  }
  if (required.size() > plan.most) plan.possible = false;
  if (plan.possible) LLORCH_OK(plan_extras(shape, names, plan));
  return plan;
}

Compiled<void> SchemaCompiler::plan_extras(const SchemaShape& shape, const SharedDfa& names, ObjectPlan& plan,
                                           const SomeProperty* some) {
  // Names fall into classes by the patterns that they match; each class has its own schemas.
  struct Class {
    SharedDfa dfa;
    std::vector<const CharDfa*> matched;
  };
  std::vector<Class> classes{{names, {}}};
  if (some) {  // names that it concerns alone
    SharedDfa concerned = some->pattern;
    std::vector<std::string_view> own;
    if (!some->pattern && some->of.properties)
      for (const auto& pair : *some->of.properties) own.push_back(pair.key());
    if (!reader_.charge_texts(own)) return std::unexpected(full(shape));
    if (const auto texts = own.empty() ? std::nullopt : CharDfa::of_texts(own))
      concerned = std::make_shared<const CharDfa>(texts->complement());
    for (const auto& [dfa, value] : some->of.patterns) {
      LLORCH_TRY(concerned, reader_.joined(concerned, reader_.complement_of(dfa), value));
    }
    LLORCH_TRY(classes[0].dfa, reader_.joined(names, concerned, shape.source));
    plan.needs_extra = true;
  }
  for (const ObjectPart& part : shape.objects)
    for (const auto& [dfa, value] : part.patterns) {
      std::vector<Class> split;
      for (const Class& c : classes) {
        if (!reader_.charge(1 + c.matched.size() / 4)) return std::unexpected(full(shape));
        if (std::find(c.matched.begin(), c.matched.end(), dfa.get()) != c.matched.end()) {
          split.push_back(c);
          continue;
        }
        LLORCH_TRY(SharedDfa inner, reader_.joined(c.dfa, dfa, value));
        LLORCH_TRY(SharedDfa outer, reader_.joined(c.dfa, reader_.complement_of(dfa), value));
        if (!reader_.charge((inner->weight() + outer->weight()) / 8)) return std::unexpected(full(shape));
        if (!inner->empty()) {
          split.push_back({std::move(inner), c.matched});
          split.back().matched.push_back(dfa.get());
        }
        if (!outer->empty()) split.push_back({std::move(outer), c.matched});
      }
      classes = std::move(split);
      if (classes.size() > 64) return std::unexpected(full(shape));
    }
  for (Class& c : classes) {
    SchemaItems items;
    for (const ObjectPart& part : shape.objects) {
      bool matched = false;
      if (!reader_.charge(1 + part.patterns.size() * (1 + c.matched.size() / 16))) return std::unexpected(full(shape));
      for (const auto& [dfa, value] : part.patterns)
        if (std::find(c.matched.begin(), c.matched.end(), dfa.get()) != c.matched.end())
          items.push_back({value, false}), matched = true;
      if (!matched && part.additional) items.push_back({part.additional, false});
    }
    if (some) items.push_back({some->value, true});
    if (reader_.never(items)) continue;
    if (!reader_.charge_texts(plan.known)) return std::unexpected(full(shape));
    if (c.dfa && !plan.known.empty()) {
      const auto texts = CharDfa::of_texts(plan.known);
      if (!texts) return std::unexpected(full(shape));
      LLORCH_TRY(c.dfa, reader_.joined(c.dfa, std::make_shared<const CharDfa>(texts->complement()), shape.source));
    }
    (some ? plan.needed : plan.extras).push_back(extra_rule(plan, c.dfa, std::move(items)));
  }
  return {};
}

NetRule SchemaCompiler::extra_rule(const ObjectPlan& plan, const SharedDfa& names, SchemaItems items) {
  const NetRule rule = net_->add_rule();
  const NetState name = net_->add_literal(net_->rule(rule).start, "\""), behind = net_->add_state();
  const NetState value = net_->add_state(), end = net_->add_state();
  net_->set_end(end);
  if (names)
    names->emit(*net_, name, behind);
  else
    write_other_names(plan, name, behind);
  add_gap(net_->add_literal(behind, ":"), Gap::kAfterColon, value);
  net_->add_call(value, rule_for(std::move(items)), end);
  return rule;
}

void SchemaCompiler::write_other_names(const ObjectPlan& plan, NetState from, NetState to) {
  // Names run along a trie of the known ones; a byte that leaves it goes as it would from inside of any string. Where a
  // known name is complete, its quote leads nowhere.
  const NetState inside = add_string_body(*net_, StringBody::kPlain, to), nowhere = net_->add_state();
  const auto target = [&](NetState state, std::uint8_t byte) {
    for (std::uint32_t e = net_->state(state).edges; e != kNone; e = net_->edge(e).next)
      if (net_->edge(e).low <= byte && byte <= net_->edge(e).high) return net_->edge(e).to;
    return kNone;
  };
  if (plan.known.empty()) return net_->add_jump(from, inside);
  std::map<std::pair<NetState, std::uint8_t>, NetState> children;
  const NetState root = jump_state(from);
  net_->set_fallback(root, inside);
  net_->set_body(root, StringBody::kPlainBut);
  for (const std::string_view known : plan.known) {
    NetState at = root, beside = inside;  // the place in the trie, and in any string
    for (const char c : plain_spelling(known)) {
      const auto byte = static_cast<std::uint8_t>(c);
      beside = target(beside, byte);
      const auto [child, fresh] = children.try_emplace({at, byte}, kNone);
      if (fresh) {
        child->second = net_->add_state();
        net_->set_fallback(child->second, beside);
        if (beside == inside) net_->set_body(child->second, StringBody::kPlainBut);
        net_->add_edge(at, byte, byte, child->second);
      }
      at = child->second;
    }
    if (!children.try_emplace({at, '"'}, nowhere).second) continue;
    net_->add_edge(at, '"', '"', nowhere);
  }
}

/// States of one object: a cell is (the property that comes next, how many have come).
class SchemaCompiler::ObjectWriter {
 public:
  ObjectWriter(SchemaCompiler& compiler, const ObjectPlan& plan) : c_(compiler), net_(*compiler.net_), plan_(plan) {
    limited_ = plan.most != kNone;
    cap_ = std::max({1u, plan.least, limited_ ? plan.most : 0u});
    rows_ = static_cast<std::uint32_t>(plan.properties.size()) + 2;  // others come last: the first of them, and more
    for (std::uint32_t row = 0; row < others(); ++row)
      if (plan.properties[row].required) optional_ = row + 1;
  }

  [[nodiscard]] bool too_large() const { return std::uint64_t{rows_} * (cap_ + 1) > kCountedCellsMax && cap_ > 1; }

  void write(NetState from, NetState to) {
    const std::uint32_t size = rows_ * (cap_ + 1);
    before_.assign(size, kNone), after_.assign(size, kNone), values_.assign(size, kNone);
    const NetState open = net_.add_literal(c_.jump_state(from), "{"), start = net_.add_state();
    close_ = net_.add_state();
    net_.add_edge(close_, '}', '}', to);
    c_.add_gap(open, Gap::kInside, start);
    net_.add_jump(start, before(0, 0));
    if (plan_.least == 0 && !plan_.needs_extra && optional_from(0)) net_.add_jump(start, close_);
    while (!todo_.empty() && !net_.full()) {
      const auto [row, count, is_after] = todo_.back();
      todo_.pop_back();
      if (is_after)
        write_after(row, count);
      else
        write_before(row, count);
    }
  }

 private:
  struct Cell {
    std::uint32_t row, count;
    bool after;
  };

  [[nodiscard]] std::uint32_t others() const { return static_cast<std::uint32_t>(plan_.properties.size()); }
  [[nodiscard]] bool optional_from(std::uint32_t row) const { return row >= optional_; }
  NetState before(std::uint32_t row, std::uint32_t count) { return cell(before_, row, count, false); }
  NetState after(std::uint32_t row, std::uint32_t count) { return cell(after_, row, count, true); }
  NetState cell(std::vector<NetState>& cells, std::uint32_t row, std::uint32_t count, bool is_after) {
    NetState& state = cells[row * (cap_ + 1) + count];
    if (state != kNone) return state;
    state = net_.add_state();
    todo_.push_back({row, count, is_after});
    return state;
  }

  /// A name may come: that of the row, or, where it may be left out, of the next.
  void write_before(std::uint32_t row, std::uint32_t count) {
    const NetState here = before(row, count);
    const bool room = !limited_ || count < plan_.most;
    const std::uint32_t next = std::min(count + 1, cap_);
    if (row < others()) {
      if (room) net_.add_jump(here, value(row, next));
      if (!plan_.properties[row].required) net_.add_jump(here, before(row + 1, count));
      return;
    }
    // Names may come twice, and the last one counts: of all others one alone is sure to be a property more.
    const std::uint32_t counted = row == others() || limited_ ? next : count;
    if (!room || (plan_.needs_extra && row > others())) return;
    const std::uint32_t last = others() + (plan_.needs_extra ? 0 : 1);
    for (const NetRule extra : plan_.extras) net_.add_call(c_.jump_state(here), extra, after(last, counted));
    for (const NetRule extra : plan_.needed) net_.add_call(c_.jump_state(here), extra, after(others() + 1, counted));
  }

  /// The name and value of a property that makes `count`.
  NetState value(std::uint32_t row, std::uint32_t count) {
    NetState& state = values_[row * (cap_ + 1) + count];
    if (state != kNone) return state;
    state = net_.add_state();
    const ObjectPlan::Property& property = plan_.properties[row];
    const NetState begin = net_.add_state();
    const NetState name = net_.add_literal(state, fmt::format("\"{}\":", plain_spelling(property.name)));
    c_.add_gap(name, Gap::kAfterColon, begin);
    net_.add_call(begin, c_.rule_for(property.items), after(row + 1, count));
    return state;
  }

  void write_after(std::uint32_t row, std::uint32_t count) {
    const NetState behind = net_.add_state();
    c_.add_gap(after(row, count), Gap::kInside, behind);
    const bool complete = !plan_.needs_extra || row > others();
    if (complete && count >= plan_.least && optional_from(row)) net_.add_jump(behind, close_);
    if (row >= others() && plan_.extras.empty() && plan_.needed.empty()) return;
    c_.add_gap(net_.add_literal(behind, ","), Gap::kAfterComma, before(row, count));
  }

  SchemaCompiler& c_;
  Network& net_;
  const ObjectPlan& plan_;
  bool limited_ = false;
  std::uint32_t cap_ = 1, rows_ = 0;
  std::uint32_t optional_ = 0;  // the row behind the last property that is required
  NetState close_ = 0;
  std::vector<NetState> before_, after_, values_;
  std::vector<Cell> todo_;
};

Compiled<void> SchemaCompiler::write_some(const SchemaShape& shape, NetState from, NetState to) {
  // The property that must exist is one of those that are named, or another; each is an alternative.
  if (!reader_.charge_copy(shape)) return std::unexpected(full(shape));
  SchemaShape rest = shape;
  const SomeProperty some = rest.some.back();
  rest.some.pop_back();
  std::vector<std::string_view> names;
  for (const ObjectPart& part : shape.objects)
    if (part.properties && reader_.charge(part.properties->size()))
      for (const auto& pair : *part.properties) names.push_back(pair.key());
  names.insert(names.end(), shape.required.begin(), shape.required.end());
  std::set<std::string_view> seen;
  for (const std::string_view name : names) {
    if (!reader_.charge(1 + some.of.patterns.size())) return std::unexpected(full(shape));
    if (!some.concerns(name) || !seen.insert(name).second) continue;
    if (++alternatives_ > kAlternativesMax || ++total_alternatives_ > kAlternativesTotal)
      return std::unexpected(full(shape));
    if (!reader_.charge_copy(rest)) return std::unexpected(full(shape));
    SchemaShape with = rest;
    with.required.push_back(name);
    json::value* part =
        reader_.document().derive(*some.value, fmt::format("some {}", name), json::object{{name, nullptr}});
    reader_.document().stand_in(part->get_object()[name], {some.value, true});
    with.objects.push_back({&part->get_object(), {}, nullptr});
    if (!reader_.contradictory(with)) LLORCH_OK(write_object(with, from, to));
  }
  if (!rest.some.empty()) return {};  // two that are both among the others: not produced
  LLORCH_TRY(ObjectPlan plan, plan_object(rest));
  if (!plan.possible || plan.extras.empty()) return {};
  LLORCH_TRY(const SharedDfa allowed, reader_.names_dfa(shape));
  LLORCH_OK(plan_extras(rest, allowed, plan, &some));
  if (plan.needed.empty()) return {};
  return write_plan(rest, std::move(plan), from, to);
}

Compiled<void> SchemaCompiler::write_object(const SchemaShape& shape, NetState from, NetState to) {
  if (!shape.some.empty()) return write_some(shape, from, to);
  LLORCH_TRY(ObjectPlan plan, plan_object(shape));
  return write_plan(shape, std::move(plan), from, to);
}

Compiled<void> SchemaCompiler::write_plan(const SchemaShape& shape, ObjectPlan plan, NetState from, NetState to) {
  if (!plan.possible || plan.least > plan.most) return {};
  const auto required = static_cast<std::uint32_t>(
      std::count_if(plan.properties.begin(), plan.properties.end(), [](const auto& p) { return p.required; }));
  if (plan.least <= required) plan.least = 0;
  if (plan.extras.empty() && plan.most >= plan.properties.size()) plan.most = kNone;
  if (plan.extras.empty() && plan.needed.empty() && plan.least > plan.properties.size()) return {};
  if (plan.least > plan.properties.size() + 1)
    return refuse(reader_.document().pointer(*shape.source), "minProperties",
                  "of names that the schema does not list only one counts, because names may repeat; {} are asked for",
                  plan.least);
  if (plan.least > 1 && (plan.most != kNone || plan.needs_extra) && !plan.extras.empty())
    return refuse(reader_.document().pointer(*shape.source), "minProperties",
                  "together with maxProperties and names that the schema does not list it is not supported");
  ObjectWriter writer(*this, plan);
  if (writer.too_large())
    return refuse(reader_.document().pointer(*shape.source), plan.most == kNone ? "minProperties" : "maxProperties",
                  "so many properties, counted, take too many states");
  writer.write(from, to);
  return {};
}

}  // namespace llorch
