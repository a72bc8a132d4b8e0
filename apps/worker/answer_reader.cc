#include "worker/answer_reader.h"

#include <algorithm>

#include "base/ids.h"
#include "format/json.h"

namespace llorch::worker {
namespace {

using Kind = AnswerItem::Kind;

void append(AnswerItems& out, Kind kind, std::string text) {
  if (text.empty()) return;
  if (!out.empty() && out.back().kind == kind)
    out.back().text += text;
  else
    out.push_back({.kind = kind, .text = std::move(text)});
}

std::string new_call_id() { return "call_" + random_hex(12); }

bool is_object(const std::string& text) {
  const auto v = json::parse(text, "arguments");
  return v && v->is_object();
}

bool id_is_behind(const tools::ToolFormat& format) {
  return std::ranges::any_of(format.tail(), [](const auto& piece) { return piece.kind == tools::Piece::Kind::kId; });
}

}  // namespace

AnswerReader::AnswerReader(const ModelFacts& model, std::string_view prompt_end, const wire::CompletionRequest& request)
    : channels_(model.reasoning == Reasoning::Style::kChannels),
      streams_(request.tool_use.held && request.stop.empty() && !id_is_behind(*model.tools)),
      reasoning_(model.reasoning, prompt_end) {
  if (request.tool_use.may_call() && !model.tools->none())
    calls_.emplace(*model.tools, request.tool_use.tools, model.tool_controls);
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
      case Event::kCallBegin: begin_call(item, out); break;
      case Event::kArguments:
        streams_ ? append(out, Kind::kArguments, std::move(item.text)) : void(call_.text += item.text);
        break;
      case Event::kCallEnd: end_call(item, out); break;
    }
}

void AnswerReader::begin_call(tools::Item& begin, AnswerItems& out) {
  call_ = {.kind = Kind::kCall, .name = std::move(begin.name), .id = std::move(begin.id)};
  if (!streams_) return;
  if (call_.id.empty()) call_.id = new_call_id();
  out.push_back(std::exchange(call_, {}));
}

void AnswerReader::end_call(const tools::Item& end, AnswerItems& out) {
  if (streams_) {
    out.push_back({.kind = Kind::kCallEnd, .complete = end.complete});
  } else if (end.complete && is_object(call_.text)) {
    if (!end.id.empty()) call_.id = end.id;
    if (call_.id.empty()) call_.id = new_call_id();
    std::string arguments = std::exchange(call_.text, {});
    out.push_back(std::move(call_));
    append(out, Kind::kArguments, std::move(arguments));
    out.push_back({.kind = Kind::kCallEnd});
  } else {
    append(out, Kind::kText, written_);
  }
  call_ = {}, written_.clear();
}

}  // namespace llorch::worker
