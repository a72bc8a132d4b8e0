// template: how a model writes calls of tools, as its chat template shows it; a conversation rendered by the template;
// a text taken apart.
//
// CONVERSATION is {"messages", "tools", "add_generation_prompt", "chat_template_kwargs", "bos_token", "eos_token",
// "now"}: only messages are needed. Calls in it have the shape of Chat Completions.
#include <ctime>
#include <iostream>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "format/json.h"
#include "tools/conversation.h"
#include "tools/learn.h"
#include "tools/parser.h"
#include "worker/model_facts.h"
#include "worker/model_flags.h"

namespace llorch::worker {
namespace {

struct TemplateFlags {
  std::string model, file, render, parse;
  bool as_json = false;
};

struct Opened {
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<Tokenizer> tokenizer;
  ChatTemplate chat;
};

Result<Opened> open_template(const TemplateFlags& f) {
  Opened out;
  if (!f.file.empty()) {
    LLORCH_TRY(out.chat.source, read_text_file(f.file, jinja::kSourceMax));
    out.chat.bos = "<s>", out.chat.eos = "</s>";
    return out;
  }
  LLORCH_TRY(out.source, open_model(f.model));
  LLORCH_TRY(out.tokenizer, open_tokenizer(f.model, *out.source));
  LLORCH_TRY(out.chat, read_chat_template(*out.source, *out.tokenizer, f.model, {}));
  if (out.chat.source.empty()) return fail(ErrorCode::kChatTemplateMissing, "{} has no chat template", f.model);
  return out;
}

struct Conversation {
  json::object root;
  json::array messages, tools;
};

Result<Conversation> read_conversation(const std::string& path) {
  Conversation out;
  if (path.empty()) return out;
  LLORCH_TRY(const std::string text, read_text_file(path, limits::kTextBytesMax));
  LLORCH_TRY(const json::value parsed, json::parse(text, path));
  const auto* root = parsed.if_object();
  const auto* messages = root ? json::find_array(*root, "messages") : nullptr;
  if (!messages) return fail(ErrorCode::kInvalidRequest, "{}: \"messages\" is missing", path);
  out.root = *root, out.messages = *messages;
  if (const auto* tools = json::find_array(*root, "tools")) out.tools = *tools;
  return out;
}

Result<std::string> render(const ChatTemplate& chat, const tools::ToolFormat& format, const Conversation& c) {
  WorkLimit limit(limits::kRenderUnitsMax);
  LLORCH_TRY(const jinja::Template parsed, jinja::Template::parse(c.tools.empty() ? chat.source : chat.shows_tools()));
  LLORCH_TRY(const json::array history, tools::prepare_history(format, c.messages));
  json::object variables;
  if (const auto* more = json::find_object(c.root, "chat_template_kwargs")) variables = *more;
  tools::add_tool_variables(format, c.tools, "today", variables);
  LLORCH_TRY(jinja::Value messages, jinja::read_messages(history, limit));
  const auto word = [&](std::string_view key, const std::string& own) {
    return jinja::Value(json::find_text(c.root, key).value_or(own), true);
  };
  const auto now = json::find_unsigned(c.root, "now");
  LLORCH_TRY(const jinja::Text text,
             parsed.render(variables,
                           {{"messages", std::move(messages)},
                            {"add_generation_prompt",
                             jinja::Value(json::find_bool(c.root, "add_generation_prompt").value_or(true))},
                            {"bos_token", word("bos_token", chat.bos)},
                            {"eos_token", word("eos_token", chat.eos)}},
                           now ? static_cast<std::time_t>(*now) : std::time(nullptr), limit));
  return text.bytes;
}

/// With a vocabulary, spellings of control tokens in the text are those tokens.
Result<tools::Items> take_apart(const Opened& opened, const tools::ToolFormat& format, const Conversation& c,
                                const std::string& path) {
  LLORCH_TRY(const std::string text, read_text_file(path, limits::kTextBytesMax));
  LLORCH_TRY(std::vector<tools::DeclaredTool> declared, tools::read_tools(c.tools));
  if (!opened.tokenizer) {
    tools::ToolCallParser parser(format, std::move(declared));
    tools::Items items = parser.push(text);
    append(items, parser.finish());
    return items;
  }
  const Tokenizer& tokenizer = *opened.tokenizer;
  const auto control = [&](TokenId id) { return tokenizer.token(id).kind == TokenKind::kControl; };
  std::vector<std::string> controls;
  for (std::size_t i = 0; i < tokenizer.size(); ++i)
    if (const auto id = static_cast<TokenId>(i); control(id) && format.holds(tokenizer.token(id).text))
      controls.push_back(tokenizer.token(id).text);
  LLORCH_TRY(const TokenIds ids, tokenizer.encode(text, {.add_special = false, .parse_special = true}));
  tools::ToolCallParser parser(format, std::move(declared), std::move(controls));
  tools::Items items;
  for (const TokenId id : ids)
    append(items, control(id) ? parser.push({}, tokenizer.token(id).text) : parser.push(tokenizer.piece(id)));
  append(items, parser.finish());
  return items;
}

json::object item_json(const tools::Item& item) {
  using Kind = tools::Item::Kind;
  switch (item.kind) {
    case Kind::kText: return {{"text", item.text}};
    case Kind::kControl: return {{"control", item.text}};
    case Kind::kArguments: return {{"arguments", item.text}, {"index", item.index}};
    case Kind::kCallBegin: {
      json::object out{{"call", item.name}, {"index", item.index}};
      if (!item.id.empty()) out["id"] = item.id;
      return out;
    }
    case Kind::kCallEnd: break;
  }
  json::object out{{"end", item.index}, {"complete", item.complete}};
  if (!item.id.empty()) out["id"] = item.id;
  return out;
}

void show_format(const tools::ToolFormat& format) {
  for (const auto& [key, value] : to_json(format))
    show(stdout, "%-15s %s\n", std::string(key).c_str(), boost::json::serialize(value).c_str());
}

Status run_template(const TemplateFlags& f) {
  LLORCH_TRY(const Opened opened, open_template(f));
  WorkLimit limit(tools::kLearnUnitsMax);
  LLORCH_TRY(const tools::ToolFormat format,
             tools::learn_tool_format(opened.chat.shows_tools(), {opened.chat.bos, opened.chat.eos}, limit));
  LLORCH_TRY(const Conversation conversation, read_conversation(f.render));
  json::object out;
  if (!f.render.empty()) {
    LLORCH_TRY(const std::string text, render(opened.chat, format, conversation));
    if (f.as_json)
      out["text"] = text;
    else
      show(stdout, f.parse.empty() || text.ends_with('\n') ? "%s" : "%s\n", text.c_str());
  }
  if (!f.parse.empty()) {
    LLORCH_TRY(const tools::Items items, take_apart(opened, format, conversation, f.parse));
    json::array list;
    for (const tools::Item& item : items) list.push_back(item_json(item));
    if (f.as_json)
      out["items"] = std::move(list);
    else
      for (const json::value& item : list) cli::print(item);
  }
  if (f.as_json) {
    out["tool_format"] = to_json(format);
    cli::print(out);
  } else if (f.render.empty() && f.parse.empty()) {
    show_format(format);
  }
  return {};
}

}  // namespace

void add_command_template(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<TemplateFlags>();
  CLI::App* c =
      app.add_subcommand("template", "how a model writes calls of tools; render a conversation, parse a text");
  auto* model = c->add_option("-m,--model", flags->model, "GGUF file, SafeTensors directory, or builtin:haiku");
  auto* file = c->add_option("--file", flags->file, "a file that holds a chat template (Jinja)")->excludes(model);
  c->add_option(
      "--render", flags->render,
      "a file {\"messages\", \"tools\", \"add_generation_prompt\", \"chat_template_kwargs\"}: prints its prompt");
  c->add_option("--parse", flags->parse,
                "a file of text: prints the text and the calls in it; tools are those of --render, or any");
  c->add_flag("--json", flags->as_json, "everything, and errors, as one JSON object");
  c->callback([flags, model, file, &exit_code] {
    if (model->count() + file->count() == 0) {
      exit_code = cli::report({ErrorCode::kInvalidRequest, "--model or --file is required"}, flags->as_json);
      return;
    }
    if (const Status s = run_template(*flags); !s) exit_code = cli::report(s.error(), flags->as_json);
  });
}

}  // namespace llorch::worker
