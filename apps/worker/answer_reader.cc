#include "worker/answer_reader.h"

#include "base/ids.h"
#include "format/json.h"

namespace llorch::worker {
namespace {

using Kind = AnswerItem::Kind;

void append(AnswerItems& out, Kind kind, std::string text) {
  if (text.empty()) return;
  if (!out.empty() && out.back().kind == kind && kind != Kind::kCall)
    out.back().text += text;
  else
    out.push_back({kind, std::move(text), {}, {}});
}

bool is_object(const std::string& text) {
  const auto v = json::parse(text, "arguments");
  return v && v->is_object();
}

}  // namespace

AnswerReader::AnswerReader(const ModelFacts& model, std::string_view prompt_end, std::vector<tools::DeclaredTool> tools)
    : channels_(model.reasoning == Reasoning::Style::kChannels), reasoning_(model.reasoning, prompt_end) {
  if (!tools.empty() && !model.tools->none()) calls_.emplace(*model.tools, std::move(tools), model.tool_controls);
}

/// Channels are control tokens, some of which belong to calls: these are taken out first.
AnswerItems AnswerReader::push(std::string_view text, std::string_view control) {
  AnswerItems out;
  if (channels_ && calls_) {
    written_ += text, written_ += control;
    take(calls_->push(text, control), out);
    return out;
  }
  const bool thought = reasoning_.thinking();
  const Reasoning::Parts parts = reasoning_.push(text, control);
  append(out, Kind::kReasoning, parts.reasoning);
  if (!parts.content.empty() || (!control.empty() && !thought)) say(parts.content, control, out);
  return out;
}

AnswerItems AnswerReader::finish() {
  AnswerItems out;
  if (!channels_) {
    const Reasoning::Parts parts = reasoning_.finish();
    append(out, Kind::kReasoning, parts.reasoning);
    if (!parts.content.empty()) say(parts.content, {}, out);
  }
  if (calls_) take(calls_->finish(), out);
  return out;
}

void AnswerReader::say(std::string_view text, std::string_view control, AnswerItems& out) {
  if (!calls_) return append(out, Kind::kText, std::string(text));
  written_ += text, written_ += control;
  take(calls_->push(text, control), out);
}

void AnswerReader::think(const Reasoning::Parts& parts, AnswerItems& out) {
  append(out, Kind::kReasoning, parts.reasoning);
  append(out, Kind::kText, parts.content);
}

void AnswerReader::take(tools::Items items, AnswerItems& out) {
  using Event = tools::Item::Kind;
  for (tools::Item& item : items) switch (item.kind) {
      case Event::kText:
        written_.clear();
        channels_ ? think(reasoning_.push(item.text), out) : append(out, Kind::kText, std::move(item.text));
        break;
      case Event::kControl:
        written_.clear();
        if (channels_) think(reasoning_.push({}, item.text), out);
        break;
      case Event::kCallBegin: call_ = {Kind::kCall, {}, std::move(item.name), std::move(item.id)}; break;
      case Event::kArguments: call_.text += item.text; break;
      case Event::kCallEnd: end_call(item, out); break;
    }
}

void AnswerReader::end_call(const tools::Item& end, AnswerItems& out) {
  if (!end.id.empty()) call_.id = end.id;
  if (call_.id.empty()) call_.id = "call_" + random_hex(12);
  if (call_.text.empty() && end.complete) call_.text = "{}";
  if (end.complete && is_object(call_.text))
    out.push_back(std::move(call_));
  else
    append(out, Kind::kText, written_);
  call_ = {}, written_.clear();
}

}  // namespace llorch::worker
