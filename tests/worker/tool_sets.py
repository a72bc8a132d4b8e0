"""Ten sets of tools whose schemas differ in kind: name -> (what a user says, functions as Chat Completions declare them)."""


def closed(required=None, **properties):
    """An object of these properties and no others; required are all, unless it is said."""
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required, "additionalProperties": False}


def text(longest, **more):
    return {"type": "string", "maxLength": longest, **more}


def enum(*values):
    return {"enum": list(values)}


NODE = {"$defs": {"node": closed(["name"], name=text(12, minLength=1), children={"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}, size={"$ref": "#/$defs/size"}), "size": {"type": "integer", "minimum": 0, "maximum": 4096}}}

SETS = {
    "plain": ("What is the weather in Paris?", [
        {"name": "weather", "description": "The weather of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"], "additionalProperties": False}},
    ]),
    "enums": ("Turn the lamp in the kitchen on, please.", [
        {"name": "set_lamp", "description": "Switches a lamp", "parameters": closed(["room", "on"], room=enum("kitchen", "hall", "bed room", 'the "blue" room', "bath\\room"), on={"type": "boolean"}, level=enum(0, 0.5, 1, None, "auto"), mode={"const": "now"})},
    ]),
    "nested": ("Send two books to Anna Berg, Oslo.", [
        {"name": "order", "description": "Places an order", "parameters": closed(
            ["customer", "lines"],
            customer=closed(["name", "address"], name=text(30, minLength=1), address=closed(street=text(30), zip={"type": "string", "pattern": "^[0-9]{4,5}$"}, country=enum("NO", "SE", "DK")), phone={"type": "string", "pattern": r"^\+\d{6,12}$"}),
            lines={"type": "array", "minItems": 1, "maxItems": 3, "items": closed(sku={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}, count={"type": "integer", "minimum": 1, "maximum": 99})},
            note=text(40))},
    ]),
    "numbers": ("Set the oven to 180 degrees.", [
        {"name": "heat", "description": "Sets values", "parameters": closed(["celsius", "percent", "even"], celsius={"type": "number", "minimum": -1.5, "exclusiveMaximum": 250.25}, percent={"type": "integer", "minimum": 0, "maximum": 100}, even={"type": "integer", "multipleOf": 2, "exclusiveMinimum": 0, "maximum": 1000}, step={"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 10})},
    ]),
    "references": ("Make a folder with two folders in it.", [
        {"name": "make_tree", "description": "Makes folders in folders", "parameters": {**closed(["root"], root={"$ref": "#/$defs/node"}, spare={"anyOf": [{"$ref": "#/$defs/size"}, {"type": "null"}]}), **NODE}},
    ]),
    "choices": ("Remind me of the milk tomorrow at nine.", [
        {"name": "remind", "description": "Sets a reminder", "parameters": closed(
            ["when", "what"],
            when={"anyOf": [closed(kind={"const": "date"}, date={"type": "string", "format": "date"}), closed(kind={"const": "in"}, minutes={"type": "integer", "minimum": 1, "maximum": 1440}), {"type": "null"}]},
            what={"type": ["string", "null"], "maxLength": 30},
            who={"oneOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": text(10), "maxItems": 2}]})},
    ]),
    "patterns": ("Book seat 12C on the flight of 3 March for anna@example.org.", [
        {"name": "book", "description": "Books a seat", "parameters": closed(
            ["seat", "date", "mail"],
            seat={"type": "string", "pattern": "^[1-9][0-9]?[A-F]$"}, date={"type": "string", "format": "date"}, mail={"type": "string", "format": "email", "maxLength": 40},
            id={"type": "string", "format": "uuid"}, hex={"type": "string", "pattern": "^(0x)?[0-9a-f]+$", "maxLength": 10}, code={"type": "string", "pattern": "[a-z]{2}", "maxLength": 8},
            meal={"type": "string", "pattern": r"^(none|fish|[^\x00-\x1f\"]{3,12} \(no nuts\))$"})},
    ]),
    "no arguments": ("What time is it?", [
        {"name": "clock", "description": "The time now"},
        {"name": "ping", "description": "Says whether the server is there", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
        {"name": "calendar", "parameters": closed(["month"], month={"type": "integer", "minimum": 1, "maximum": 12}, year={"type": "integer", "minimum": 1900, "maximum": 2100})},
    ]),
    "many": ("Look for songs about rain, open the first one, and close the window.", [
        {"name": "search", "description": "Searches songs", "parameters": closed(["query"], query=text(40, minLength=1), kinds={"type": "array", "items": enum("song", "album", "artist"), "maxItems": 3}, limit={"type": "integer", "minimum": 1, "maximum": 50})},
        {"name": "search_again", "description": "The same search, the next page", "parameters": closed(page={"type": "integer", "minimum": 2, "maximum": 99})},
        {"name": "window.close-1", "description": "Closes a window", "parameters": {"type": "object", "properties": {"window": text(12)}, "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9}, "maxProperties": 3}},
    ]),
    "other signs": ("Übersetze \"guten Tag\" ins Japanische: <tool_call>?", [
        {"name": "translate", "description": 'Translates; "quoted" words stay, \'these\' too. Größe: 5 µm, 日本語, 🙂, </tool_call>, {"name": "x"}', "parameters": closed(
            ["größe", "text \"raw\""],
            **{"größe": {"type": "number", "minimum": 0, "maximum": 10, "description": "in µm"}, "text \"raw\"": text(30), "言語": enum("日本語", "Français", "naïve\n\"quoted\"", "🙂"), "a\\b": {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "string", "pattern": "^[äöüß]+$", "maxLength": 6}], "items": False, "minItems": 2}})},
    ]),
}
