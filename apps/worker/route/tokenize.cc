// POST /tokenize and /detokenize, in the fields of llama.cpp's server and of vLLM.
#include "base/utf8.h"
#include "worker/turn.h"

namespace llorch::worker {
namespace {

using service::Scope;

/// A request whose whole answer is written where it is prepared: it may have as many tokens as a body has bytes.
template<class Request>
struct Written : Request {
  std::string answer;
};
using Tokenize = Prepared<Written<wire::TokenizeRequest>>;
using Detokenize = Prepared<Written<wire::DetokenizeRequest>>;

/// A reader of `Request` as one of Written<Request>.
template<class Request>
auto written(std::expected<Request, wire::Refused> (*read)(const boost::json::object&, const wire::Bounds&)) {
  return [read](const boost::json::object& body,
                const wire::Bounds& bounds) -> std::expected<Written<Request>, wire::Refused> {
    auto request = read(body, bounds);
    if (!request) return std::unexpected(std::move(request).error());
    return Written<Request>{*std::move(request), {}};
  };
}

/// Its bytes, where they are no text.
boost::json::value piece_of(const Tokenizer& tokenizer, TokenId id) {
  const std::string_view piece = tokenizer.piece(id, true);
  if (utf8_valid(piece)) return boost::json::string(piece);
  boost::json::array bytes;
  for (const char c : piece) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

bool render(const Worker& w, Tokenize& p, const PrepareBound& bound) {
  auto& r = p.request;
  if (!r.chat)
    return p.take(
        w.model().renderer.text(r.text, {.add_special = r.add_special, .parse_special = r.parse_special}, bound));
  Prepared<wire::CompletionRequest> turn;
  turn.request = *std::move(r.chat);
  if (prepare_turn(w, turn, bound, false)) return p.take(std::move(turn.prompts[0]));
  p.error = std::move(turn.error), p.details = std::move(turn.details), p.param = std::move(turn.param);
  return false;
}

Tokenize prepare_tokenize(const Worker& w, const std::string& text, PrepareBound bound) {
  Tokenize p;
  if (!p.read(text, w.bounds(), bound, written(wire::read_tokenize)) || !render(w, p, bound)) return p;
  const Tokenizer& tokenizer = *w.loaded().tokenizer;
  boost::json::array tokens, strings;
  for (const TokenId id : p.prompts[0]) {
    if (p.request.pieces)
      tokens.push_back({{"id", id}, {"piece", piece_of(tokenizer, id)}});
    else
      tokens.push_back(id);
    if (p.request.strings) strings.push_back(boost::json::string(token_text(tokenizer, id)));
  }
  boost::json::object o{
      {"tokens", std::move(tokens)}, {"count", p.prompts[0].size()}, {"max_model_len", w.model().context}};
  if (p.request.strings) o["token_strs"] = std::move(strings);
  p.request.answer = boost::json::serialize(o);
  p.request.text.clear(), p.prompts.clear();
  p.good = true;
  return p;
}

Detokenize prepare_detokenize(const Worker& w, const std::string& text, PrepareBound bound) {
  Detokenize p;
  if (!p.read(text, w.bounds(), bound, written(wire::read_detokenize))) return p;
  auto spelling = w.model().renderer.spelling(p.request.tokens, bound, true);
  if (!spelling) return p.error = std::move(spelling).error(), p;
  boost::json::object o{{"content", *spelling}};
  o["prompt"] = *std::move(spelling);  // vLLM's name of it
  p.request.answer = boost::json::serialize(o);
  p.request.tokens.clear();
  p.good = true;
  return p;
}

template<class Request>
void submit_written(Worker&, const PromptRequestPtr& r, Prepared<Request>& p) {
  net::Response response;
  response.body = std::move(p.request.answer);
  name_ignored(p.request, response.headers);
  if (r->has_key()) r->answered("", response);
  r->c->reply(std::move(response));
}

}  // namespace

void add_route_tokenize(Worker& w) {
  auto& r = w.router();
  for (const std::string prefix : {"/v1", ""}) {
    r.route_by_head<Scope::kInfer>(
        "POST", prefix + "/tokenize",
        prepare_and_submit(w, prepare_tokenize, submit_written<Written<wire::TokenizeRequest>>));
    r.route_by_head<Scope::kInfer>(
        "POST", prefix + "/detokenize",
        prepare_and_submit(w, prepare_detokenize, submit_written<Written<wire::DetokenizeRequest>>));
  }
}

}  // namespace llorch::worker
