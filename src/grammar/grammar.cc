#include "grammar/grammar.h"

#include "grammar/pattern.h"
#include "grammar/schema_compiler.h"

namespace llorch {

Compiled<Grammar> Grammar::from_json_schema(std::string_view schema, const SchemaOptions& options) {
  LLORCH_TRY(const std::unique_ptr<SchemaDocument> document, SchemaDocument::parse(schema));
  auto net = std::make_shared<Network>();
  LLORCH_TRY(const NetRule root, SchemaCompiler(*document, options, *net).add(document->root()));
  LLORCH_OK(net->finish(root));
  return Grammar(std::move(net));
}

Compiled<Grammar> Grammar::any_json_object(const SchemaOptions& options) {
  return from_json_schema(R"({"type": "object"})", options);
}

Compiled<Grammar> Grammar::from_regex(std::string_view pattern) {
  LLORCH_TRY(const Pattern parsed, Pattern::parse(pattern));
  auto net = std::make_shared<Network>();
  const NetRule root = net->add_rule();
  const NetState end = net->add_state();
  net->set_end(end);
  LLORCH_OK(parsed.emit(*net, net->rule(root).start, end));
  LLORCH_OK(net->finish(root));
  return Grammar(std::move(net));
}

}  // namespace llorch
