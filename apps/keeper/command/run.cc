// run, infer, chat: a question to a model. Whatever is asleep is woken, and put to sleep again afterwards.
#include <iostream>
#include <iterator>

#include "keeper/conversation.h"
#include "keeper/given_file.h"
#include "keeper/model_argument.h"

namespace llorch::keeper {
namespace {

struct RunFlags {
  Common common;
  Question question;
  std::string prompt;
};

int run(RunFlags& f, bool chat) {
  auto model = model_meant(f.question.model, f.common.of_this_machine() && f.question.hive.empty());
  if (!model) return complain(f.common, model.error());
  f.question.model = *std::move(model);
  Session session(f.common);
  const bool person = isatty(STDIN_FILENO) == 1, tools = !f.question.tools.empty(),
             tools_typed = f.question.tools == kStdin;
  if (!chat && f.prompt.empty() && !person) {
    if (tools_typed)
      return complain(f.common, {ErrorCode::kInvalidRequest, "--tools - takes stdin: give the prompt as an argument"});
    f.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (f.prompt.empty()) return complain(f.common, {ErrorCode::kInvalidRequest, "there is no prompt"});
  }
  const bool conversation = chat || f.prompt.empty();
  auto request = tools ? chat_with_tools(f.question, f.common) : f.question.order();
  if (!request) return complain(f.common, request.error());
  if (conversation && tools_typed)
    if (const Status s = stdin_from_terminal(); !s) return complain(f.common, s.error());
  if (const Status s = session.wake(); !s) return complain(f.common, s.error());
  if (conversation) return converse(session, f.common, f.question, *std::move(request));
  if (!tools) {
    (*request)["prompt"] = f.prompt;
    return ask_once(session, f.common, f.question, ask_job(*std::move(request)));
  }
  (*request)["messages"] = boost::json::array{{{"role", "user"}, {"content", f.prompt}}};
  return ask_once(session, f.common, f.question, ask_chat(*std::move(request)));
}

}  // namespace

void add_command_run(CLI::App& app, int& exit_code) {
  const auto add = [&](const char* name, const char* help, bool chat) {
    const auto f = std::make_shared<RunFlags>();
    CLI::App* c = app.add_subcommand(name, help);
    f->common.add(*c);
    f->question.add(*c);
    c->callback([f, chat, &exit_code] { exit_code = run(*f, chat); });
    return std::pair(c, f);
  };
  const auto [one, run_flags] =
      add("run", "ask a model, waking what is needed; without a prompt: read it, or chat on a terminal", false);
  one->add_option("model", run_flags->question.model,
                  "builtin:haiku, org/repo or its page on Hugging Face, a file, or an alias")
      ->required();
  one->add_option("prompt", run_flags->prompt);
  run_flags->question.add_tools(*one);
  const auto [infer, infer_flags] = add("infer", "ask a model, for scripts", false);
  infer->add_option("--model,-m", infer_flags->question.model)->required();
  infer->add_option("prompt", infer_flags->prompt);
  infer_flags->question.add_tools(*infer);
  const auto [chat, chat_flags] = add("chat", "a conversation with a model", true);
  chat->add_option("model", chat_flags->question.model)->required();
  chat_flags->question.add_tools(*chat);
}

}  // namespace llorch::keeper
