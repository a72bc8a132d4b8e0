// A JSON schema as a document: its parts, where $ref leads, and where a part stands.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "format/json.h"
#include "grammar/refusal.h"

namespace llorch {

class SchemaDocument {
 public:
  /// Errors: keyword "$schema" for what is not JSON.
  [[nodiscard]] static Compiled<std::unique_ptr<SchemaDocument>> parse(std::string_view text);

  [[nodiscard]] const json::value& root() const { return root_; }
  /// Up to draft 7, what stands beside a $ref is ignored.
  [[nodiscard]] bool ref_stands_alone() const { return ref_stands_alone_; }
  /// The schema that a $ref inside of `from` names. Errors: keyword "$ref".
  [[nodiscard]] Compiled<const json::value*> resolve(const json::value& from, std::string_view reference);
  /// JSON pointer of a part; of a part that this class made, the pointer of what it was made from.
  [[nodiscard]] std::string pointer(const json::value& part) const;

  /// A schema made of `origin`, kept as long as the document; null: not made yet under that name.
  [[nodiscard]] json::value* derived(const json::value& origin, std::string_view name) const;
  json::value* derive(const json::value& origin, std::string_view name, json::value schema);
  [[nodiscard]] bool is_derived(const json::value& schema) const { return origins_.contains(&schema); }
  /// `node`, a part of what derive() made, stands for another schema or for its negation.
  struct StandIn {
    const json::value* schema;
    bool negated;
  };
  void stand_in(const json::value& node, StandIn what) { stand_ins_.emplace(&node, what); }
  [[nodiscard]] const StandIn* stands_for(const json::value& node) const {
    const auto found = stand_ins_.find(&node);
    return found == stand_ins_.end() ? nullptr : &found->second;
  }

  explicit SchemaDocument(json::value root) : root_(std::move(root)) {}

 private:
  struct Resource {
    std::string uri;
    const json::value* root;
  };
  void index(const json::value& part, std::size_t resource, int depth);
  [[nodiscard]] Compiled<const json::value*> follow(const json::value& from, const json::value& root,
                                                    std::string_view pointer, std::string_view reference) const;

  json::value root_;
  bool ref_stands_alone_ = false, old_ids_ = false, indexed_ = false;
  std::vector<Resource> resources_;
  std::unordered_map<std::string, std::size_t> resource_named_;
  std::unordered_map<const json::value*, std::size_t> resource_of_;
  std::unordered_map<std::string, const json::value*> anchors_;  // by resource's number and name
  std::unordered_map<const json::value*, const json::value*> origins_;
  std::vector<std::unique_ptr<json::value>> made_;
  std::unordered_map<std::string, json::value*> derived_;
  std::unordered_map<const json::value*, StandIn> stand_ins_;
};

}  // namespace llorch
