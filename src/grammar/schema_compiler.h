// From a JSON schema to a network: each list of schemas that hold together becomes a rule.
//
// A rule's choices are multiplied out; each combination is one shape, and each of its types is written as states.
// Objects have their properties in the order in which the schema first names them, and others behind them.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "grammar/grammar.h"
#include "grammar/schema_shape.h"

namespace llorch {

/// A value that is not inside of JSON: strings stand as they are, in front of the first `end`.
struct RawValue {
  std::string end;
  std::uint8_t types = kTypeAny;                                             // others are left out
  std::string null_word = "null", true_word = "true", false_word = "false";  // further spellings
};

class SchemaCompiler {
 public:
  /// Into `net`, which outlives this and which others may write into as well.
  SchemaCompiler(SchemaDocument& document, const SchemaOptions& options, Network& net)
      : reader_(document), options_(options), net_(&net) {}
  /// The rule of a part of the document: its JSON, or, outermost, `raw`. finish() of the network is left to the caller.
  [[nodiscard]] Compiled<NetRule> add(const json::value& part, const RawValue* raw = nullptr);
  /// The budgets that are used up, for schemas that share them.
  [[nodiscard]] SchemaReader::Spent spent() const { return reader_.spent(); }
  void start_from(const SchemaReader::Spent& spent) { reader_.start_from(spent); }

 private:
  enum class Gap : std::uint8_t { kInside, kAfterComma, kAfterColon };
  struct ObjectPlan;
  class ObjectWriter;

  [[nodiscard]] NetRule rule_for(SchemaItems items);
  [[nodiscard]] NetRule any_value();
  [[nodiscard]] NetRule free_string();
  [[nodiscard]] NetRule free_character();
  void add_gap(NetState from, Gap gap, NetState to);
  [[nodiscard]] Compiled<void> write_rule(const SchemaItems& items, NetRule rule);
  [[nodiscard]] Compiled<void> expand(const SchemaShape& shape, std::vector<SchemaChoice>& choices, std::size_t next,
                                      NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_shape(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_allowed(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_numbers(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_pending();
  [[nodiscard]] Compiled<void> write_raw_string(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_string(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_array(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_containing(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_object(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_some(const SchemaShape& shape, NetState from, NetState to);
  [[nodiscard]] Compiled<void> write_plan(const SchemaShape& shape, ObjectPlan plan, NetState from, NetState to);
  [[nodiscard]] Compiled<ObjectPlan> plan_object(const SchemaShape& shape);
  [[nodiscard]] Compiled<void> plan_extras(const SchemaShape& shape, const SharedDfa& names, ObjectPlan& plan,
                                           const SomeProperty* some = nullptr);
  [[nodiscard]] NetRule extra_rule(const ObjectPlan& plan, const SharedDfa& names, SchemaItems items);
  void write_other_names(const ObjectPlan& plan, NetState from, NetState to);
  void write_literal(const json::value& value, NetState from, NetState to);
  void write_scalars(const std::vector<const json::value*>& values, NetState from, NetState to);
  [[nodiscard]] NetState jump_state(NetState from);
  [[nodiscard]] Refusal full(const SchemaShape& shape) const;

  SchemaReader reader_;
  SchemaOptions options_;
  Network* net_;
  const RawValue* raw_ = nullptr;  // while the outermost shapes of one are written
  std::map<SchemaItems, NetRule> rules_;
  std::deque<std::pair<SchemaItems, NetRule>> to_write_;
  std::size_t alternatives_ = 0, total_alternatives_ = 0;
  NetRule any_ = kNone, string_ = kNone, character_ = kNone, indent_ = kNone;
};

}  // namespace llorch
