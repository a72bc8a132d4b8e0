#include "tools/parameters_grammar.h"

#include <algorithm>
#include <map>

#include "tools/blanks.h"

namespace llorch::tools {
namespace {

using Part = GrammarComposer::Part;
using Values = Parameters::Values;

const json::value kAnything(true);
constexpr std::size_t kPropertiesMax = 2000;

/// What says nothing about which values are valid, in a schema whose properties are read one by one.
constexpr std::string_view kSilent[] = {"type",     "properties", "required",    "additionalProperties",
                                        "$defs",    "title",      "description", "definitions",
                                        "$schema",  "$id",        "default",     "examples",
                                        "$comment", "strict",     "deprecated"};

/// Arguments that are written one by one.
class ParametersWriter {
 public:
  ParametersWriter(const ArgumentsContext& context, SchemaDocument& document)
      : c_(context),
        composer_(context.composer),
        p_(context.format.parameters),
        document_(document),
        compiler_(document, context.options, context.composer.network()) {
    compiler_.start_from(context.spent);
    raw_.null_word = p_.null_word, raw_.true_word = p_.true_word, raw_.false_word = p_.false_word;
    raw_.end = p_.close_text;
    raw_.end.erase(0, std::min(raw_.end.find_first_not_of(kBlanks), raw_.end.size()));
    if (p_.values == Values::kNotation) raw_.end = p_.quote_close;
  }

  [[nodiscard]] SchemaReader::Spent spent() const { return compiler_.spent(); }

  Compiled<Part> run() {
    const auto* root = document_.root().if_object();
    if (!root) return refuse("", "tools", "the parameters are no object");
    return object(*root, p_.first, p_.next, [this](const Property& p) { return value(*p.schema); });
  }

 private:
  struct Property {
    std::string name;
    const json::value* schema;
    bool required;
  };

  Compiled<std::vector<Property>> properties(const json::object& schema) {
    for (const auto& pair : schema) {
      const bool closed = pair.key() == "unevaluatedProperties" || pair.key() == "additionalItems";
      if (!closed && std::find(std::begin(kSilent), std::end(kSilent), pair.key()) == std::end(kSilent))
        return refuse(document_.pointer(pair.value()), pair.key(),
                      "is not supported of arguments that the model writes one by one");
    }
    std::vector<Property> out;
    if (const auto* all = json::find_object(schema, "properties"))
      for (const auto& pair : *all) out.push_back({pair.key(), &pair.value(), false});
    if (const auto* names = json::find_array(schema, "required"))
      for (const json::value& name : *names) {
        if (!name.is_string()) return refuse(document_.pointer(*names), "required", "holds something but names");
        const std::string_view text = name.get_string();
        const auto found = std::find_if(out.begin(), out.end(), [&](const Property& p) { return p.name == text; });
        if (found == out.end())
          out.push_back({std::string(text), &kAnything, true});
        else
          found->required = true;
      }
    if (out.size() > kPropertiesMax)
      return refuse(document_.pointer(document_.root()), "properties", "there are more than {}", kPropertiesMax);
    if (p_.sorted) std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return out;
  }

  /// Properties in order, each there or, where it is not required, not.
  template<class F>
  Compiled<Part> object(const json::object& schema, std::string_view first, std::string_view next, const F& written) {
    LLORCH_TRY(const std::vector<Property> list, properties(schema));
    Network& net = composer_.network();
    const NetRule rule = net.add_rule();
    NetState none = net.rule(rule).start, some = net.add_state();  // whether one has come
    for (const Property& p : list) {
      LLORCH_TRY(const Part assigned, written(p));
      const NetState none_after = net.add_state(), some_after = net.add_state();
      for (const bool any : {false, true}) {
        const NetState from = any ? some : none;
        const Part parts[] = {c_.text(any ? next : first), c_.text(p.name), assigned};
        const NetState at = net.add_state();
        net.add_jump(from, at);
        net.add_call(at, composer_.sequence(parts), some_after);
        if (!p.required) net.add_jump(from, any ? some_after : none_after);
      }
      none = none_after, some = some_after;
    }
    net.set_end(none), net.set_end(some);
    return rule;
  }

  /// What stands between a name and the next one: the assignment, the value, its end.
  Compiled<Part> value(const json::value& schema) {
    switch (p_.values) {
      case Values::kJson: {
        LLORCH_TRY(const Part json, compiler_.add(schema));
        return around(p_.assign_other, json, p_.close_other);
      }
      case Values::kNotation: {
        LLORCH_TRY(const Part inner, notation(schema, 0));
        return around(p_.assign_other, inner, p_.close_other);
      }
      case Values::kRaw: break;
    }
    if (p_.assign_text == p_.assign_other) {
      LLORCH_TRY(const Part any, raw(schema, kTypeAny));
      return around(p_.assign_text, any, p_.close_text);
    }
    LLORCH_TRY(const Part text, raw(schema, kTypeString));
    LLORCH_TRY(const Part other, raw(schema, kTypeAny & ~kTypeString));
    const Part ways[] = {around(p_.assign_text, text, p_.close_text), around(p_.assign_other, other, p_.close_other)};
    return composer_.any_of(ways);
  }

  Part around(std::string_view before, Part part, std::string_view behind) {
    const Part parts[] = {c_.text(before), part, c_.text(behind)};
    return composer_.sequence(parts);
  }
  Compiled<Part> raw(const json::value& schema, int types) {
    raw_.types = static_cast<std::uint8_t>(types);
    return compiler_.add(schema, &raw_);
  }

  /// A value in the model's own notation. Containers are read one keyword at a time; others as everywhere.
  Compiled<Part> notation(const json::value& schema, int depth) {
    const auto known = notations_.find(&schema);
    if (known != notations_.end()) return known->second;
    if (depth > kDepthMax) return refuse(document_.pointer(schema), "properties", "nests too deep");
    Network& net = composer_.network();
    const NetRule rule = net.add_rule();
    notations_.emplace(&schema, rule);
    LLORCH_TRY(const Part text, raw(schema, kTypeString));
    LLORCH_TRY(const Part other, raw(schema, kTypeNumber | kTypeBoolean | kTypeNull));
    std::vector<Part> ways{around(p_.quote_open, text, p_.quote_close), other};
    LLORCH_OK(containers(schema, depth, ways));
    const NetState end = net.add_state(), at = net.add_state();
    net.set_end(end);
    net.add_jump(net.rule(rule).start, at);
    net.add_call(at, composer_.any_of(ways), end);
    return rule;
  }

  Compiled<void> containers(const json::value& schema, int depth, std::vector<Part>& ways) {
    if (++looked_ > kPropertiesMax) return refuse(document_.pointer(schema), "anyOf", "takes too many states");
    static const json::object kEmpty;
    const auto* o = schema.if_object();
    if (schema.is_bool() && schema.get_bool()) o = &kEmpty;
    if (!o || o->contains("enum") || o->contains("const")) return {};
    if (const auto reference = json::find_text(*o, "$ref")) {
      LLORCH_TRY(const json::value* target, document_.resolve(schema, *reference));
      if (depth > kDepthMax) return refuse(document_.pointer(schema), "$ref", "nests too deep");
      return containers(*target, depth + 1, ways);
    }
    for (const std::string_view key : {"anyOf", "oneOf"})
      if (const auto* branches = json::find_array(*o, key)) {
        for (const json::value& branch : *branches) LLORCH_OK(containers(branch, depth + 1, ways));
        return {};
      }
    const DeclaredTool one{{}, {{"properties", json::object{{"x", *o}}}}};
    const std::uint8_t types = types_of(one, "x");
    if (types & kArrayValue) LLORCH_OK(array(*o, depth, ways));
    if (types & kObjectValue) LLORCH_OK(map(*o, depth, ways));
    return {};
  }

  Compiled<void> array(const json::object& o, int depth, std::vector<Part>& ways) {
    for (const std::string_view key : {"prefixItems", "contains", "uniqueItems", "allOf", "not"})
      if (const auto* v = o.if_contains(key))
        return refuse(document_.pointer(*v), key, "is not supported in the model's notation");
    const auto* items = o.if_contains("items");
    LLORCH_TRY(const Part item, notation(items ? *items : kAnything, depth + 1));
    const auto count = [&](std::string_view key, std::uint32_t otherwise) {
      const auto number = json::find_unsigned(o, key);
      return number && *number < 1'000'000 ? static_cast<std::uint32_t>(*number) : otherwise;
    };
    const std::uint32_t least = count("minItems", 0), most = count("maxItems", kNone);
    const Part more_parts[] = {composer_.literal(","), item};
    const Part more = composer_.sequence(more_parts);
    const Part open = composer_.literal("["), close = composer_.literal("]");
    if (least == 0) ways.push_back(composer_.literal("[]"));
    if (most == 0) return {};
    const Part whole[] = {open, item,
                          composer_.repeat(more, least > 0 ? least - 1 : 0, most == kNone ? kNone : most - 1), close};
    ways.push_back(composer_.sequence(whole));
    return {};
  }

  Compiled<void> map(const json::object& o, int depth, std::vector<Part>& ways) {
    const auto* additional = o.if_contains("additionalProperties");
    const bool closed = additional && additional->is_bool() && !additional->get_bool();
    Part inside = kNone;
    if (json::find_object(o, "properties") || o.contains("required") || closed) {
      LLORCH_TRY(inside, object(o, "", ",", [&](const Property& p) -> Compiled<Part> {
                   LLORCH_TRY(const Part v, notation(*p.schema, depth + 1));
                   return around(":", v, "");
                 }));
    } else {
      for (const std::string_view key : {"patternProperties", "propertyNames", "minProperties", "allOf", "not"})
        if (const auto* v = o.if_contains(key))
          return refuse(document_.pointer(*v), key, "is not supported in the model's notation");
      LLORCH_TRY(const Part v, notation(additional ? *additional : kAnything, depth + 1));
      constexpr std::pair<char, char> kLetters[] = {{'a', 'z'}, {'A', 'Z'}, {'0', '9'}, {'_', '_'}, {'-', '-'}};
      const Part entry_parts[] = {composer_.repeat(composer_.byte_of(kLetters), 1, 64), composer_.literal(":"), v};
      const Part entry = composer_.sequence(entry_parts);
      const Part more_parts[] = {composer_.literal(","), entry};
      const Part all_parts[] = {entry, composer_.repeat(composer_.sequence(more_parts), 0, kNone)};
      inside = composer_.repeat(composer_.sequence(all_parts), 0, 1);
    }
    const Part whole[] = {composer_.literal("{"), inside, composer_.literal("}")};
    ways.push_back(composer_.sequence(whole));
    return {};
  }

  static constexpr int kDepthMax = 32;
  const ArgumentsContext& c_;
  GrammarComposer& composer_;
  const Parameters& p_;
  SchemaDocument& document_;
  SchemaCompiler compiler_;
  RawValue raw_;
  std::map<const json::value*, Part> notations_;
  std::size_t looked_ = 0;
};

Compiled<Part> write(const ArgumentsContext& context, const DeclaredTool& tool) {
  json::object schema = tool.parameters;
  schema["type"] = "object";  // read_tools() has refused what allows none
  LLORCH_TRY(const std::unique_ptr<SchemaDocument> document, SchemaDocument::parse(boost::json::serialize(schema)));
  if (context.format.arguments == ToolFormat::Arguments::kParameters) {
    ParametersWriter writer(context, *document);
    LLORCH_TRY(const Part part, writer.run());
    context.spent = writer.spent();
    return part;
  }
  SchemaCompiler compiler(*document, context.options, context.composer.network());
  compiler.start_from(context.spent);
  LLORCH_TRY(const Part part, compiler.add(document->root()));
  context.spent = compiler.spent();
  return part;
}

}  // namespace

Compiled<Part> arguments_part(const ArgumentsContext& context, const DeclaredTool& tool) {
  Compiled<Part> part = write(context, tool);
  if (part) return part;
  Refusal refusal = std::move(part).error();
  refusal.message = fmt::format("of tool '{}': {}", tool.name, refusal.message);
  return std::unexpected(std::move(refusal));
}

}  // namespace llorch::tools
