// A schema joined with others into one set of constraints, with its choices (anyOf and the like) left open.
//
// Values are constrained by sets of schemas that all hold (a property that two parts of an allOf name is under both),
// so the unit is a list of Items. gather() reads an item into a Shape; keywords that say "one of these" are put beside
// it as Choices, and negation becomes choices too: not (a and b) is (not a) or (not b). Errors: Refusal with the
// pointer and the keyword.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "grammar/char_dfa.h"
#include "grammar/limits.h"
#include "grammar/number.h"
#include "grammar/schema_document.h"

namespace llorch {

struct SchemaItem {
  const json::value* schema;
  bool negated = false;
  auto operator<=>(const SchemaItem&) const = default;
};
using SchemaItems = std::vector<SchemaItem>;

/// Types of JSON values, as bits; numbers with and without a fraction apart.
enum : std::uint8_t {
  kTypeNull = 1,
  kTypeBoolean = 2,
  kTypeInteger = 4,
  kTypeFraction = 8,
  kTypeString = 16,
  kTypeArray = 32,
  kTypeObject = 64,
  kTypeNumber = kTypeInteger | kTypeFraction,
  kTypeAny = 127
};

using SharedDfa = std::shared_ptr<const CharDfa>;

/// The texts in which every engine finds a pattern, and those in which some does (Pattern::Spaces); mostly the same. Of
/// a format: those that have it for certain, and those that somebody may say have it.
struct PatternDfa {
  SharedDfa certain, possible;
};

/// What one schema says of properties: the three keywords belong together.
struct ObjectPart {
  const json::object* properties = nullptr;
  std::vector<std::pair<SharedDfa, const json::value*>> patterns;
  const json::value* additional = nullptr;
};
struct ArrayPart {
  const json::array* prefix = nullptr;
  const json::value* rest = nullptr;
};
/// Some property exists that `of` leaves to its additional schema, and whose value is none of that (the negation of
/// additionalProperties); or one whose name matches `pattern`, and whose value is not what that asks for.
struct SomeProperty {
  ObjectPart of;
  SharedDfa pattern;
  const json::value* value = nullptr;  // what its value must not be; null: nothing that it could be

  [[nodiscard]] bool concerns(std::string_view name) const;
};
/// One of the alternatives holds, each a list of schemas that all hold.
struct SchemaChoice {
  std::vector<SchemaItems> alternatives;
};

struct SchemaShape {
  std::uint8_t types = kTypeAny;
  NumberRange numbers;
  std::uint32_t min_length = 0, max_length = kNone;
  std::vector<SharedDfa> strings;
  std::vector<ObjectPart> objects;
  std::vector<std::string_view> required;
  std::vector<SomeProperty> some;
  std::vector<SchemaItem> names;
  std::vector<PatternDfa>
      unclear_names;  // of patternProperties: no name that is matched by one engine and not by another
  std::uint32_t min_properties = 0, max_properties = kNone;
  std::vector<ArrayPart> arrays;
  std::vector<SchemaItem> contains;
  std::uint32_t min_items = 0, max_items = kNone;
  std::optional<std::vector<const json::value*>> allowed;  // enum, const
  std::vector<const json::value*> excluded;
  const json::value* source = nullptr;  // a schema to name in refusals
};

class SchemaReader {
 public:
  explicit SchemaReader(SchemaDocument& document) : document_(document) {}

  [[nodiscard]] Compiled<void> gather(const SchemaItem& item, SchemaShape& shape, std::vector<SchemaChoice>& choices);
  [[nodiscard]] Compiled<void> gather_all(const SchemaItems& items, SchemaShape& shape,
                                          std::vector<SchemaChoice>& choices);
  /// What the value of a property must be under all parts of a shape.
  [[nodiscard]] SchemaItems property_items(const SchemaShape& shape, std::string_view name);
  /// What the item at `index` must be; `index` kNone: items behind all prefixes.
  [[nodiscard]] SchemaItems array_items(const SchemaShape& shape, std::size_t index);
  /// The strings that a shape allows; null: any.
  /// `whole`: also where only the length is limited.
  [[nodiscard]] Compiled<SharedDfa> string_dfa(const SchemaShape& shape, bool whole);
  /// The names that propertyNames allows; null: any.
  [[nodiscard]] Compiled<SharedDfa> names_dfa(const SchemaShape& shape);
  [[nodiscard]] Compiled<SharedDfa> joined(const SharedDfa& a, const SharedDfa& b, const json::value* where);
  /// Whether a value fulfils all; nullopt where that cannot be said.
  [[nodiscard]] Compiled<bool> holds(const SchemaItems& items, const json::value& value, int depth = 0);
  [[nodiscard]] Compiled<bool> holds(const SchemaShape& shape, const json::value& value, int depth = 0);
  /// The same for a value that is among those allowed and none of those excluded.
  [[nodiscard]] Compiled<bool> holds_beside_values(const SchemaShape& shape, const json::value& value, int depth = 0);
  /// Nothing can satisfy it, found by a look at types, values and required properties.
  [[nodiscard]] bool contradictory(const SchemaShape& shape);
  [[nodiscard]] bool never(const SchemaItems& items) const;  // one of them is the schema `false`
  [[nodiscard]] SchemaDocument& document() { return document_; }
  [[nodiscard]] Refusal too_large(const json::value* where) const;

  /// Takes from the schema's budget of work, in steps of some 100 ns. False once it is used up: the caller ends then,
  /// or does no more than was charged, and what was found is not to be relied on.
  bool charge(std::size_t steps) { return (spent_ += std::min(steps, kChargeMax)) <= grammar_limits::kSchemaWorkMax; }
  [[nodiscard]] bool exhausted() const { return spent_ > grammar_limits::kSchemaWorkMax; }
  /// What the budgets have been charged so far: schemas of one request share them.
  struct Spent {
    std::size_t gathered = 0, work = 0, steps = 0;
  };
  [[nodiscard]] Spent spent() const { return {gathered_, work_, spent_}; }
  void start_from(const Spent& spent) { gathered_ = spent.gathered, work_ = spent.work, spent_ = spent.steps; }
  bool charge_copy(const SchemaShape& shape);
  bool charge_texts(const std::vector<std::string_view>& texts);
  [[nodiscard]] SharedDfa complement_of(const SharedDfa& dfa);
  /// Values as JSON Schema compares them.
  using Values = std::set<std::string>;
  [[nodiscard]] Values values_of(const std::vector<const json::value*>& list);
  [[nodiscard]] bool among(const Values& values, const json::value& value);

 private:
  static constexpr std::size_t kChargeMax = std::size_t{1} << 40;
  static constexpr std::size_t kMadeSteps = 16;   // a schema that is made of another
  static constexpr std::size_t kValueSteps = 8;   // a value as text
  static constexpr std::size_t kChoiceSteps = 4;  // an alternative: some 64 bytes
  [[nodiscard]] Compiled<void> gather_negated(const json::value& schema, SchemaShape& shape,
                                              std::vector<SchemaChoice>& choices);
  [[nodiscard]] Compiled<void> gather_object(const json::value& schema, SchemaShape& shape,
                                             std::vector<SchemaChoice>& choices);
  [[nodiscard]] Compiled<bool> gather_types(std::string_view key, const json::value& value, const json::value& schema,
                                            SchemaShape& shape);
  [[nodiscard]] Compiled<bool> gather_number(std::string_view key, const json::value& value, const json::object& all,
                                             const json::value& schema, SchemaShape& shape);
  [[nodiscard]] Compiled<bool> gather_string(std::string_view key, const json::value& value, const json::value& schema,
                                             SchemaShape& shape);
  [[nodiscard]] Compiled<bool> gather_counts(std::string_view key, const json::value& value, const json::value& schema,
                                             SchemaShape& shape);
  [[nodiscard]] Compiled<bool> gather_choices(std::string_view key, const json::value& value, const json::object& all,
                                              const json::value& schema, SchemaShape& shape,
                                              std::vector<SchemaChoice>& choices);
  [[nodiscard]] Compiled<bool> gather_dependencies(std::string_view key, const json::value& value,
                                                   const json::value& schema, std::vector<SchemaChoice>& choices);
  [[nodiscard]] Compiled<void> gather_parts(const json::object& all, const json::value& schema, SchemaShape& shape);
  [[nodiscard]] Compiled<ObjectPart> object_part(const json::object& all, const json::value& schema,
                                                 std::vector<PatternDfa>& unclear_names);
  [[nodiscard]] Compiled<void> gather_some(const json::value& origin, std::string_view pattern, SchemaShape& shape);
  [[nodiscard]] Compiled<void> gather_one_of(const json::array& branches, const json::value& schema, SchemaShape& shape,
                                             std::vector<SchemaChoice>& choices);
  [[nodiscard]] Compiled<void> add_choice(SchemaChoice choice, SchemaShape& shape, std::vector<SchemaChoice>& choices);
  [[nodiscard]] Compiled<bool> disjoint(const json::value& a, const json::value& b);

  // not: schema_negation.cc
  [[nodiscard]] Compiled<SchemaChoice> negation(const json::value& schema);
  [[nodiscard]] Compiled<void> negate_keyword(std::string_view key, const json::value& value, const json::value& schema,
                                              SchemaChoice& out, bool& lossy);
  [[nodiscard]] bool negate_parts(std::string_view key, const json::value& value, const json::value& schema,
                                  SchemaChoice& out);
  [[nodiscard]] bool negate_bounds(std::string_view key, const json::value& value, const json::value& schema,
                                   SchemaChoice& out);
  [[nodiscard]] bool negate_applied(std::string_view key, const json::value& value, const json::value& schema,
                                    SchemaChoice& out);

  [[nodiscard]] Compiled<PatternDfa> pattern_dfa(std::string_view pattern, const json::value& schema,
                                                 std::string_view keyword);
  [[nodiscard]] Compiled<bool> holds_object(const SchemaShape& shape, const json::object& value, int depth);
  [[nodiscard]] Compiled<bool> holds_array(const SchemaShape& shape, const json::array& value, int depth);
  [[nodiscard]] bool has_no_value(const SchemaShape& shape);
  [[nodiscard]] bool no_object(const SchemaShape& shape);
  [[nodiscard]] bool no_value(const SchemaItems& items);
  [[nodiscard]] std::string place(const json::value* schema) const {
    return quiet_ || !schema ? "" : document_.pointer(*schema);
  }
  [[nodiscard]] Refusal at(const json::value& schema, std::string_view keyword, std::string message) const {
    return {place(&schema), std::string(keyword), std::move(message)};
  }
  /// derive(), with `make` called where the schema is not made yet.
  template<class F>
  json::value* made(const json::value& origin, std::string_view name, const F& make) {
    charge(4 + name.size() / 16);
    if (json::value* known = document_.derived(origin, name)) return known;
    charge(kMadeSteps);
    return document_.derive(origin, name, make());
  }

  SchemaDocument& document_;
  std::map<std::string, PatternDfa, std::less<>> patterns_;  // null: too many states
  std::map<SharedDfa, SharedDfa> complements_;
  std::map<std::tuple<const json::value*, const json::value*, int>, bool> disjoint_;
  int looking_ = 0;               // contradictory() inside of itself
  int depth_ = 0;                 // gather() inside of itself
  int quiet_ = 0;                 // refusals are dropped: they need not find out where
  std::vector<SchemaItem> open_;  // being gathered: a $ref back to one of them never ends
  std::size_t gathered_ = 0, work_ = 0, spent_ = 0;
};

/// Texts of a format; both null: the format is not a standard one, and says nothing.
[[nodiscard]] PatternDfa format_dfa(std::string_view format);
/// Same value as JSON Schema sees it: 1 is 1.0.
[[nodiscard]] bool same_value(const json::value& a, const json::value& b);
/// A text that the same values share, and no others.
[[nodiscard]] std::string canonical(const json::value& value);
[[nodiscard]] std::uint8_t type_of(const json::value& value);

}  // namespace llorch
