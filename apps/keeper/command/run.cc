// run, infer, chat: a question to a model. Whatever is asleep is woken, and put to sleep again afterwards.
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <iostream>

#include "base/output_file.h"
#include "keeper/attachment.h"
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

/// What a command before `|` or a file behind `<` gives; another stdin, such as that of a service, is nobody's text.
bool stdin_has_text() {
  struct stat info {};
  return fstat(STDIN_FILENO, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISREG(info.st_mode));
}

/// The whole of stdin, where a prompt belongs to it or none was given.
Status read_prompt(RunFlags& f, Session& session, bool joins) {
  const bool person = isatty(STDIN_FILENO) == 1, tools_typed = f.question.tools == kStdin;
  const bool wanted = f.prompt.empty() ? !person : joins && !tools_typed && stdin_has_text();
  if (!wanted) return {};
  if (tools_typed) return fail(ErrorCode::kInvalidRequest, "--tools - takes stdin: give the prompt as an argument");
  constexpr int kSoonMs = 2000;
  pollfd input{STDIN_FILENO, POLLIN, 0};
  if (poll(&input, 1, kSoonMs) == 0) session.step("reading stdin to its end; < /dev/null leaves it out");
  constexpr std::size_t kMost = 8u << 20;  // what a queen takes of a request
  std::string text(kMost + 1, 0);
  std::cin.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::cin.gcount()));
  if (text.size() > kMost)
    return fail(ErrorCode::kPayloadTooLarge, "stdin has more than {} bytes, which is the most of a request", kMost);
  LLORCH_OK(check_utf8(text, "stdin"));
  while (!f.prompt.empty() && text.ends_with('\n')) text.pop_back();
  f.prompt = text.empty() || f.prompt.empty() ? text + f.prompt : text + "\n\n" + f.prompt;
  if (f.prompt.empty()) return fail(ErrorCode::kInvalidRequest, "there is no prompt");
  return {};
}

/// Told before anything is computed.
Status check_receipt(const std::string& path, bool conversation) {
  if (path.empty()) return {};
  if (conversation) return fail(ErrorCode::kInvalidRequest, "--receipt is of one answer: give a prompt");
  return check_writable_with_text(path);
}

enum class Kind { kRun, kInfer, kChat };

int run(RunFlags& f, Kind kind) {
  auto model = model_meant(f.question.model, f.common.of_this_machine() && f.question.hive.empty());
  if (!model) return complain(f.common, model.error());
  f.question.model = *std::move(model);
  if (!f.common.direct.empty())
    return complain(
        f.common, {ErrorCode::kInvalidRequest, "--direct asks a hive, which runs workers and answers no questions"},
        "leave out --direct: the queen asks a worker; `llorch worker list --direct` shows what a hive runs");
  Session session(f.common);
  const bool tools = !f.question.tools.empty(), tools_typed = f.question.tools == kStdin;
  if (kind != Kind::kChat)
    if (const Status s = read_prompt(f, session, kind == Kind::kRun); !s) return complain(f.common, s.error());
  for (const Status& text : {check_utf8(f.prompt, "the prompt"), check_is_no_picture(f.prompt, f.question.model)})
    if (!text) return complain(f.common, text.error());
  const bool conversation = kind == Kind::kChat || f.prompt.empty();
  if (const Status s = check_receipt(f.question.receipt, conversation); !s) return complain(f.common, s.error());
  auto request = tools ? chat_with_tools(f.question) : f.question.order();
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
  const auto add = [&](const char* name, const char* help, Kind kind) {
    const auto f = std::make_shared<RunFlags>();
    CLI::App* c = app.add_subcommand(name, help);
    f->common.add(*c);
    f->question.add(*c);
    c->callback([f, kind, &exit_code] { exit_code = run(*f, kind); });
    return std::pair(c, f);
  };
  const auto [one, run_flags] =
      add("run", "ask a model, starting what is needed; text on stdin comes before the prompt; without both: a chat",
          Kind::kRun);
  one->add_option("model", run_flags->question.model,
                  "builtin:haiku, org/repo or its page on Hugging Face, a file, or an alias")
      ->required();
  one->add_option("prompt", run_flags->prompt);
  run_flags->question.add_tools(*one);
  run_flags->question.add_receipt(*one);
  const auto [infer, infer_flags] = add("infer", "ask a model, for scripts", Kind::kInfer);
  infer->add_option("--model,-m", infer_flags->question.model)->required();
  infer->add_option("prompt", infer_flags->prompt);
  infer_flags->question.add_tools(*infer);
  infer_flags->question.add_receipt(*infer);
  const auto [chat, chat_flags] = add("chat", "a conversation with a model", Kind::kChat);
  chat->add_option("model", chat_flags->question.model)->required();
  chat_flags->question.add_tools(*chat);
}

}  // namespace llorch::keeper
