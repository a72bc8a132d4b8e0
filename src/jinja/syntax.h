// A template as a tree. Made by parse(), walked by interpreter.cc.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/value.h"

namespace llorch::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    kLiteral,  // literal
    kName,     // name
    kList,     // children; name: "tuple" or empty
    kDict,     // children: key, value, key, value ...
    kIf,       // children: condition, then, else (may be null)
    kAnd,      // children: 2
    kOr,
    kNot,  // children: 1
    kNegative,
    kPositive,
    kBinary,     // name: the operator; children: 2
    kCompare,    // children: n + 1; operators: n
    kAttribute,  // children: object; name
    kSubscript,  // children: object, key
    kSlice,      // children: object, start, stop, step (each may be null)
    kCall,       // children: callee, then positional arguments; named
    kFilter,     // children: subject, then positional arguments; named; name
    kTest,       // likewise; negated
  };
  Kind kind = Kind::kLiteral;
  int line = 0;
  Value literal;
  std::string name;
  bool negated = false;
  int depth = 1;  // of the tree below, this node included
  std::vector<ExpressionPtr> children;
  std::vector<std::string> operators;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
};

struct Statement {
  enum class Kind {
    kText,   // text
    kPrint,  // value
    kIf,     // branches: condition (null: else) and body
    kFor,    // targets, value (iterable), condition, body, otherwise
    kSet,    // targets, attribute of the first (namespace), value, or body when value is null (then filtered by filter)
    kMacro,  // name, targets (parameters), defaults (from the end), body
    kFilter,  // filter (a chain whose innermost subject is null), body
    kWith,    // targets, defaults (their values), body
    kGroup,   // body only
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  int line = 0;
  std::string text, name, attribute;
  std::vector<std::string> targets;
  ExpressionPtr value, condition;
  std::vector<ExpressionPtr> defaults;
  std::vector<Statement> body, otherwise;
  std::vector<std::pair<ExpressionPtr, std::vector<Statement>>> branches;
};

struct Token {
  enum class Kind {
    kText,
    kOpenPrint,
    kClosePrint,
    kOpenBlock,
    kCloseBlock,
    kName,
    kInteger,
    kFloat,
    kString,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 0;
};

/// With trim_blocks and lstrip_blocks, as chat templates are written for. Throws Failure.
[[nodiscard]] std::vector<Token> tokenize(std::string_view source);
[[nodiscard]] std::vector<Statement> parse(std::string_view source);

}  // namespace llorch::jinja
