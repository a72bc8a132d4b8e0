#include "tools/learn.h"

#include "format/json.h"
#include "tools/blanks.h"
#include "tools/family.h"
#include "tools/json_scanner.h"
#include "tools/probe.h"
#include "tools/shape.h"

namespace llorch::tools {
namespace {

using Content = ToolFormat::Content;
using Values = Parameters::Values;
constexpr auto kNowhere = std::string_view::npos;

json::object arguments(std::size_t key, const json::value& value) { return {{probe::kKeys[key], value}}; }
json::object arguments(std::size_t key) { return arguments(key, json::value(probe::kValues[key])); }

class Learner {
 public:
  Learner(const jinja::Template& chat, const LearnOptions& options, WorkLimit& limit)
      : limit_(limit), prober_(chat, options, limit) {}

  /// Errors: those of the limit.
  Result<ToolFormat> run() {
    if (const Status s = learn(); !s) {
      LLORCH_OK(limit_.charge(1));
      format_.arguments = ToolFormat::Arguments::kNone;
      format_.reason = s.error().message;
    }
    return std::move(format_);
  }

 private:
  static std::unexpected<Error> none(std::string_view why) { return fail(ErrorCode::kUnsupportedValue, "{}", why); }

  Status learn() {
    Result<std::string> prompt = prober_.prompt();
    if (!prompt) {
      prober_.manner.functions = format_.wants_functions = true;
      if (auto again = prober_.prompt())
        prompt = std::move(again);
      else
        return std::unexpected(std::move(prompt).error().in("the template fails"));
    }
    prompt_ = *std::move(prompt);
    format_.declares_tools = prompt_.contains(probe::kNames[0]);
    LLORCH_TRY(answer_, prober_.answered(probe::kText));
    const std::size_t text = answer_.find(probe::kText);
    if (text == kNowhere) return none("the template does not show what the model says");
    end_of_message_ = answer_.substr(text + probe::kText.size());
    LLORCH_OK(choose_manner());
    LLORCH_TRY(const std::string one, turn({arguments(0)}));
    if (json_key(one, 0, false, 0) != kNowhere || json_key(one, 0, true, 0) != kNowhere)
      LLORCH_OK(learn_json(one));
    else
      LLORCH_OK(learn_parameters(one));
    learn_habits();
    return {};
  }

  /// Where what the model writes begins in a rendering.
  [[nodiscard]] std::size_t start_of(std::string_view rendered) const {
    const std::size_t shared = shared_front(rendered, answer_);
    // Where texts and calls have heads of their own, only the prompt is before both.
    if (!std::string_view(answer_).substr(shared).starts_with(probe::kText) && rendered.starts_with(prompt_))
      return prompt_.size();
    return shared;
  }
  Result<std::string> turn(const std::vector<json::object>& calls) {
    LLORCH_TRY(const std::string all, prober_.called(calls));
    const std::size_t start = start_of(all);
    if (all.find(probe::kNames[0], start) == kNowhere) return none("the template shows no calls of tools");
    return all.substr(start);
  }

  /// As objects where the template can write them as such; with the content that leaves least behind.
  Status choose_manner() {
    Error why{ErrorCode::kUnsupportedValue, "the template shows no calls of tools"};
    for (const bool as_text : {false, true}) {
      std::size_t shortest = kNowhere;
      Prober::Manner best = prober_.manner;
      for (const Content content : {Content::kEmpty, Content::kNull, Content::kAbsent}) {
        prober_.manner.arguments_as_text = as_text, prober_.manner.content = content;
        const auto shown = turn({arguments(0)});
        if (!shown) {
          if (content == Content::kEmpty && !as_text) why = shown.error();
          continue;
        }
        const bool printed = shown->contains('\'' + std::string(probe::kKeys[0]) + '\'');  // by Python, as an object
        if (printed || !shown->contains(probe::kValues[0]) || shown->size() >= shortest) continue;
        shortest = shown->size(), best = prober_.manner;
      }
      if (shortest == kNowhere) continue;
      prober_.manner = best;
      format_.arguments_as_text = as_text, format_.content = best.content;
      return {};
    }
    return std::unexpected(std::move(why));
  }

  struct Span {
    std::size_t first, end;
  };
  /// Where a key's name stands in quotes, with a colon behind it; `in_text`: in a JSON string.
  static std::size_t json_key(std::string_view text, std::size_t key, bool in_text, std::size_t from) {
    const std::string quoted = fmt::format("{0}{1}{0}", in_text ? "\\\"" : "\"", probe::kKeys[key]);
    const std::size_t at = text.find(quoted, from);
    if (at == kNowhere) return at;
    const std::size_t behind = text.find_first_not_of(kBlanks, at + quoted.size());
    return behind != kNowhere && text[behind] == ':' ? at : kNowhere;
  }
  /// The JSON that holds a key's name: an object, or a string with an object in it.
  static Result<Span> json_around(std::string_view text, std::size_t key, bool in_text, std::size_t from) {
    std::size_t at = json_key(text, key, in_text, from);
    if (at == kNowhere || at == 0) return none("the arguments of a call are not shown");
    at = text.find_last_not_of(kBlanks, at - 1);
    if (at == kNowhere || text[at] != '{') return none("the arguments of a call are no object");
    if (in_text && (at == 0 || text[--at] != '"')) return none("the arguments of a call are no text of their own");
    const std::size_t end = JsonScanner::end_of(text, at);
    if (end == kNowhere) return none("the arguments of a call are no JSON");
    return Span{at, end};
  }

  Status learn_json(const std::string& one) {
    const bool in_text = json_key(one, 0, false, 0) == kNowhere;
    format_.arguments = in_text ? ToolFormat::Arguments::kJsonText : ToolFormat::Arguments::kJson;
    LLORCH_TRY(const Span first, json_around(one, 0, in_text, 0));
    Around around{marked(one.substr(0, first.first)), marked(one.substr(first.end)), std::nullopt, end_of_message_};
    if (const auto two = turn({arguments(0), arguments(1)}); two && two->contains(probe::kNames[1])) {
      const auto a = json_around(*two, 0, in_text, 0);
      const auto b = a ? json_around(*two, 1, in_text, a->end) : a;
      if (b) around.step = marked(two->substr(a->end, b->first - a->end));
    }
    return split(around);
  }

  Status split(const Around& around) {
    if (!around.before.contains(probe::kNameMark)) return none("a call's name does not stand before its arguments");
    format_.parallel = around.step && around.step->contains(probe::kNameMark);
    Around checked = around;
    if (!format_.parallel) checked.step.reset();
    split_block(checked, format_);
    if (format_.begin().empty()) return none("a call begins with its name: nothing tells it from text");
    return {};
  }

  /// What stands around one value.
  struct ValueShape {
    std::string before, assign, behind;
  };
  static Result<ValueShape> around_value(std::string_view text, std::size_t key, std::string_view value) {
    const std::size_t at = text.find(probe::kKeys[key]);
    const std::size_t behind = at == kNowhere ? at : at + probe::kKeys[key].size();
    const std::size_t found = at == kNowhere ? at : text.find(value, behind);
    if (found == kNowhere) return none("the arguments of a call are not shown");
    return ValueShape{marked(text.substr(0, at)), std::string(text.substr(behind, found - behind)),
                      marked(text.substr(found + value.size()))};
  }

  Status learn_parameters(const std::string& one) {
    format_.arguments = ToolFormat::Arguments::kParameters;
    Parameters& p = format_.parameters;
    LLORCH_TRY(ValueShape text, around_value(one, 0, probe::kValues[0]));
    LLORCH_TRY(const std::string numbered, turn({arguments(0, probe::kInteger)}));
    LLORCH_TRY(const ValueShape number, around_value(numbered, 0, std::to_string(probe::kInteger)));
    LLORCH_OK(learn_values(text, number));
    const std::size_t opening = p.values == Values::kRaw ? 0 : text.assign.size() - number.assign.size();
    const std::size_t quote = p.values == Values::kRaw ? 0 : text.behind.size() - number.behind.size();
    LLORCH_TRY(const std::string two,
               turn({json::object{{probe::kKeys[1], probe::kValues[1]}, {probe::kKeys[0], probe::kValues[0]}}}));
    p.sorted = two.find(probe::kKeys[0]) < two.find(probe::kKeys[1]);
    LLORCH_TRY(const ValueShape first, around_value(two, p.sorted ? 0 : 1, probe::kValues[p.sorted ? 0 : 1]));
    const std::string rest = first.behind.substr(std::min(quote, first.behind.size()));
    const std::string next = rest.substr(0, rest.find(probe::kKeys[p.sorted ? 1 : 0]));
    LLORCH_TRY(const std::string empty, turn({json::object{}}));
    const std::string none_at_all = marked(empty);
    const std::size_t end = value_end({text.before, next, number.behind, none_at_all});
    if (end == 0 && p.values == Values::kRaw) return none("nothing shows where a value ends");
    p.next = next.substr(end);
    p.first = text.before.ends_with(p.next) ? p.next : "";
    p.assign_text = text.assign, p.assign_other = number.assign;
    p.close_other = next.substr(0, end), p.close_text = text.behind.substr(0, quote) + p.close_other;
    if (p.values == Values::kNotation)
      p.quote_open = text.assign.substr(text.assign.size() - opening), p.quote_close = text.behind.substr(0, quote);
    if (p.values == Values::kJson) p.assign_text = p.assign_other, p.close_text = p.close_other;
    Around around{text.before.substr(0, text.before.size() - p.first.size()), number.behind.substr(end), std::nullopt,
                  end_of_message_};
    find_step(quote + end, around);
    LLORCH_OK(split(around));
    if (p.next.empty() && p.close_other.empty()) return none("nothing stands between two arguments");
    if (none_at_all != around.before + around.after)
      format_.reason = "the template writes a call without arguments in another way";
    learn_words();
    return {};
  }

  void find_step(std::size_t close, Around& around) {
    const auto two = turn({arguments(0), arguments(1)});
    if (!two || !two->contains(probe::kNames[1])) return;
    const auto first = around_value(*two, 0, probe::kValues[0]);
    if (!first) return;
    const std::size_t key = first->behind.find(probe::kKeys[1]), opening = format_.parameters.first.size();
    if (key == kNowhere || key < close + opening) return;
    around.step = first->behind.substr(close, key - close - opening);
  }

  Status learn_values(const ValueShape& text, const ValueShape& number) {
    Parameters& p = format_.parameters;
    LLORCH_TRY(const std::string quoted, turn({arguments(0, json::value(std::string(probe::kValues[0]) + "\"x"))}));
    if (text.assign.ends_with('"') && text.behind.starts_with('"') && quoted.contains("\\\"x")) {
      p.values = Values::kJson;
    } else if (text.behind == number.behind) {
      p.values = Values::kRaw;
    } else {
      p.values = Values::kNotation;
      if (!quoted.contains(std::string(probe::kValues[0]) + "\"x"))
        return none("strings are escaped in a way that is not known");
    }
    if (p.values != Values::kRaw && (!text.assign.starts_with(number.assign) || !text.behind.ends_with(number.behind)))
      return none("strings and numbers are written in ways that have nothing in common");
    return {};
  }

  void learn_words() {
    Parameters& p = format_.parameters;
    const auto word = [&](const json::value& value, std::string& out) {
      const auto shown = turn({arguments(0, value)});
      if (!shown) return;
      const std::size_t key = shown->find(probe::kKeys[0]);
      if (key == kNowhere) return;
      const std::size_t at = key + probe::kKeys[0].size() + p.assign_other.size();
      for (const std::string_view known : {"null", "None", "true", "True", "false", "False"})
        if (shown->compare(std::min(at, shown->size()), known.size(), known) == 0) out = known;
    };
    word(nullptr, p.null_word), word(true, p.true_word), word(false, p.false_word);
    const auto nested = turn({arguments(0, json::object{{"zqinner", json::array{1}}})});
    p.python_containers = nested && nested->contains("'zqinner'");
  }

  void learn_habits() {
    if (const auto all = prober_.called({arguments(0)}, probe::kText)) {
      const std::size_t text = all->find(probe::kText), name = all->rfind(probe::kNames[0]);
      format_.text_before = text != kNowhere && name != kNowhere && text < name;
    }
    const auto turn = prober_.whole_turn();
    format_.takes_answers = turn && turn->contains(probe::kAnswer);
    prober_.manner.long_ids = true;
    format_.short_ids = !prober_.called({arguments(0)});
  }

  WorkLimit& limit_;
  Prober prober_;
  ToolFormat format_;
  std::string prompt_, answer_, end_of_message_;
};

}  // namespace

Result<ToolFormat> learn_tool_format(std::string_view chat_template, const LearnOptions& options, WorkLimit& limit) {
  LLORCH_TRY(const jinja::Template chat, jinja::Template::parse(chat_template));
  LLORCH_TRY(ToolFormat format, Learner(chat, options, limit).run());
  complete_by_family(chat_template, format);
  return format;
}

Result<ToolFormat> learn_tool_format(std::string_view chat_template, const LearnOptions& options) {
  WorkLimit limit(kLearnUnitsMax);
  return learn_tool_format(chat_template, options, limit);
}

}  // namespace llorch::tools
