"""The order of events, as OpenAI's Responses and Anthropic's Messages state it: judges of a whole stream's events, which are dicts.

Sources: OpenAI's API reference, "Streaming events"; Anthropic's, "Streaming messages"."""
import json


class OutOfOrder(Exception):
    pass


def want(truth, flaw):
    if not truth:
        raise OutOfOrder(flaw)


class Order:
    def flaws_of(self, events, fails):
        """The first flaw, or none. `fails`: the stream ends with an error, wherever it was."""
        self.events, self.at, self.fails = events, 0, fails
        try:
            self.stream()
            want(self.at == len(events), f"event {self.at} stands behind the end")
        except OutOfOrder as e:
            yield str(e)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
            yield f"event {self.at - 1}: {e!r}"

    def peek(self):
        want(self.at < len(self.events), "it ends in the middle")
        return self.events[self.at]["type"]

    def take(self, *types):
        kind = self.peek()
        want(kind in types, f"event {self.at} is {kind}, not {' or '.join(types)}")
        self.at += 1
        return self.events[self.at - 1]

    def failed(self):
        """Whether the stream ends here, with an error."""
        if not self.fails or self.peek() != "error":
            return False
        self.at += 1
        return True


class ResponsesOrder(Order):
    PARTS = {"message": ("output_text", "response.output_text"), "reasoning": ("reasoning_text", "response.reasoning_text")}

    def stream(self):
        for number, event in enumerate(self.events):
            want(event["sequence_number"] == number, f"event {number} has number {event['sequence_number']}")
        begun = self.take("response.created")["response"]
        want((begun["status"], begun["output"]) == ("in_progress", []), "it begins with more than nothing")
        want(self.take("response.in_progress")["response"] == begun, "response.in_progress is another response")
        items = []
        while self.peek() == "response.output_item.added":
            item = self.item(len(items))
            if item is None:
                return
            items.append(item)
        if self.failed():
            return
        last = self.take("response.completed", "response.incomplete")
        want(not self.fails, "it ends without its error")
        self.end(last, begun, items)

    def item(self, index):
        event = self.take("response.output_item.added")
        added = event["item"]
        want(event["output_index"] == index, f"item {index} is added as {event['output_index']}")
        want(added["status"] == "in_progress" and not added.get("content") and not added.get("arguments"), f"item {index} is added with content")
        self.place = {"item_id": added["id"], "output_index": index}
        whole = self.call(added) if added["type"] == "function_call" else self.text(added)
        if whole is None:
            return None
        done = self.take("response.output_item.done")
        status = done["item"]["status"]
        want((done["output_index"], done["item"]) == (index, {**added, **whole, "status": status}), f"item {index} is done as another")
        want(status in ("completed", "incomplete"), f"item {index} is done and {status}")
        if added["type"] == "function_call" and status == "completed":
            json.loads(whole["arguments"])
        return done["item"]

    def here(self, event, **more):
        want({k: event[k] for k in (*self.place, *more)} == {**self.place, **more}, f"event {self.at - 1} belongs to another place: {event}")
        return event

    def pieces(self, prefix, **place):
        """The text of all deltas; None where the stream fails among them."""
        text = ""
        while self.peek() == prefix + ".delta":
            delta = self.here(self.take(prefix + ".delta"), **place)["delta"]
            want(delta, f"event {self.at - 1} is empty")
            text += delta
        return None if self.failed() else text

    def text(self, added):
        kind, prefix = self.PARTS[added["type"]]
        place = {"content_index": 0}
        part = self.here(self.take("response.content_part.added"), **place)["part"]
        want((part["type"], part["text"]) == (kind, ""), "a part is added with text")
        text = self.pieces(prefix, **place)
        if text is None:
            return None
        want(text, "a part has no delta")
        want(self.here(self.take(prefix + ".done"), **place)["text"] == text, "the text is not that of its deltas")
        done = self.here(self.take("response.content_part.done"), **place)["part"]
        want(done == {**part, "text": text}, "the part is not that of its deltas")
        return {"content": [done]}

    def call(self, added):
        arguments = self.pieces("response.function_call_arguments")
        if arguments is None:
            return None
        done = self.here(self.take("response.function_call_arguments.done"))
        want((done["arguments"], done["name"]) == (arguments, added["name"]), "the arguments are not those of their deltas")
        return {"arguments": arguments}

    def end(self, last, begun, items):
        response, usage = last["response"], last["response"]["usage"]
        want(last["type"] == "response." + response["status"], "the status is another than the event says")
        want((response["incomplete_details"] is not None) == (response["status"] == "incomplete"), "incomplete_details do not fit the status")
        want(all(i["status"] == "completed" for i in items[:-1]), "another item than the last one breaks off")
        if items:
            cut, call = items[-1]["status"] == "incomplete", items[-1]["type"] == "function_call"
            want(cut == (response["status"] == "incomplete") or (call and not cut), "the last item's status does not fit the response's")
        want(response["output"] == items, "the output is not the items that were done")
        want(all(response[k] == v for k, v in begun.items() if k not in ("status", "output", "usage", "incomplete_details")), "another response ends than began")
        want(usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0, "usage does not add up")


class MessagesOrder(Order):
    DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking"), "tool_use": ("input_json_delta", "partial_json")}

    def stream(self):
        begun = self.take("message_start")["message"]
        want((begun["content"], begun["stop_reason"], begun["stop_sequence"]) == ([], None, None), "it begins with more than nothing")
        types, self.cut = [], None
        while self.peek() == "content_block_start":
            block = self.block(len(types))
            if block is None:
                return
            types.append(block)
        if self.failed():
            return
        last = self.take("message_delta")
        want(not self.fails, "it ends without its error")
        reason, usage = last["delta"]["stop_reason"], last["usage"]
        want(self.cut in (None, len(types) - 1) and (self.cut is None or reason == "max_tokens"), f"the input of block {self.cut} breaks off")
        want(reason == "max_tokens" or (reason == "tool_use") == ("tool_use" in types), f"stop_reason {reason} behind {types}")
        want(usage["output_tokens"] > begun["usage"]["output_tokens"], "nothing was counted")
        want(all(usage[k] == v for k, v in begun["usage"].items() if k != "output_tokens"), "the prompt is counted otherwise at the end")
        self.take("message_stop")

    def block(self, index):
        event = self.take("content_block_start")
        block = event["content_block"]
        kind, field = self.DELTAS[block["type"]]
        want(event["index"] == index, f"block {index} begins as {event['index']}")
        want(not block["input"] if block["type"] == "tool_use" else block[field] == "", f"block {index} begins with content")
        text = ""
        while self.peek() == "content_block_delta":
            event = self.take("content_block_delta")
            want((event["index"], event["delta"]["type"]) == (index, kind), f"event {self.at - 1} belongs to another block: {event}")
            want(event["delta"][field], f"event {self.at - 1} is empty")
            text += event["delta"][field]
        if self.failed():
            return None
        want(self.take("content_block_stop")["index"] == index, f"another block than {index} ends")
        want(text, f"block {index} has no delta")
        if block["type"] == "tool_use":
            try:
                want(isinstance(json.loads(text), dict), f"the input of block {index} is no object")
            except ValueError:
                want(text.startswith("{") and self.cut is None, f"the input of block {index} is no object")
                self.cut = index
        return block["type"]
