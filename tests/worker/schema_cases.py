"""Instances of JSON schemas for tests: put into the order in which a schema names properties, and changed a little."""
import copy
import re
import urllib.parse

import jsonschema

OLD = (jsonschema.Draft3Validator, jsonschema.Draft4Validator, jsonschema.Draft6Validator, jsonschema.Draft7Validator)


class Order:
    """A schema's own properties come first, then those of what it refers to and joins, then of the branches that a value fulfils."""

    def __init__(self, root, validator):
        self.root, self.old, self.validator = root, issubclass(validator, OLD), validator(root)

    def put(self, value):
        return self._put([self.root], value)

    def _resolve(self, reference):
        at = self.root
        if not reference.startswith("#"):
            return True
        for token in reference[1:].split("/")[1:]:
            token = urllib.parse.unquote(token).replace("~1", "/").replace("~0", "~")
            if isinstance(at, list):
                at = at[int(token)]
            elif isinstance(at, dict) and token in at:
                at = at[token]
            else:
                return True
        return at

    def _fits(self, schema, value):
        try:
            return self.validator.evolve(schema=schema).is_valid(value)
        except Exception:  # a reference into another document, a pattern that Python does not know
            return False

    def _flat(self, schema, value, out, open_schemas):
        if not isinstance(schema, dict) or id(schema) in open_schemas:
            return
        open_schemas = open_schemas | {id(schema)}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if not self.old:
                out.append(schema)
            self._flat(self._resolve(reference), value, out, open_schemas)
            if self.old:
                return
        else:
            out.append(schema)
        branches = []
        for key, part in schema.items():
            if key == "allOf" and isinstance(part, list):
                for branch in part:
                    self._flat(branch, value, out, open_schemas)
            elif key in ("anyOf", "oneOf") and isinstance(part, list):
                branches += [b for b in part if self._fits(b, value)][:1]
            elif key == "if":
                branches += [part, schema.get("then", True)] if self._fits(part, value) else [schema.get("else", True)]
            elif key in ("dependencies", "dependentSchemas") and isinstance(part, dict) and isinstance(value, dict):
                branches += [b for name, b in part.items() if name in value and isinstance(b, dict)]
        for branch in branches:
            self._flat(branch, value, out, open_schemas)

    def _put(self, schemas, value):
        out = []
        for schema in schemas:
            self._flat(schema, value, out, frozenset())
        if isinstance(value, dict):
            names = {n: None for s in out if isinstance(s.get("properties"), dict) for n in s["properties"]}
            return {n: self._put(self._below(out, n), value[n]) for n in [*(n for n in names if n in value), *(n for n in value if n not in names)]}
        if isinstance(value, list):
            return [self._put(self._items(out, i, v), v) for i, v in enumerate(value)]
        return value

    def _items(self, schemas, index, value):
        found = []
        for s in schemas:
            prefix = next((s[k] for k in ("prefixItems", "items") if isinstance(s.get(k), list)), [])
            rest = s.get("additionalItems" if isinstance(s.get("items"), list) else "items")
            found += [prefix[index]] if index < len(prefix) else [rest] if rest is not None else []
            if "contains" in s and self._fits(s["contains"], value):
                found.append(s["contains"])
        return found

    @staticmethod
    def _below(schemas, name):
        found = []
        for s in schemas:
            mine = [s["properties"][name]] if isinstance(s.get("properties"), dict) and name in s["properties"] else []
            for pattern, part in (s.get("patternProperties") or {}).items():
                try:
                    mine += [part] if re.search(pattern, name) else []
                except re.error:
                    pass
            found += mine or ([s["additionalProperties"]] if "additionalProperties" in s else [])
        return found


VALUES = [None, True, False, 0, -1, 1, 17, 3.5, -2.25, 1e6, "", "x", "z" * 20, [], [1], ["a"], {}, {"k": 1}, [None], "2020-01-01"]


def mutated(rng, value):
    """A copy with one part changed: another type, a property or item less or more, numbers past borders, longer and shorter strings."""
    holder = [copy.deepcopy(value)]
    places = []

    def walk(parent, key):
        places.append((parent, key))
        child = parent[key]
        for k in child if isinstance(child, dict) else range(len(child)) if isinstance(child, list) else ():
            walk(child, k)

    walk(holder, 0)
    parent, key = rng.choice(places)
    part, kind = parent[key], rng.random()
    if kind < 0.35 or part is None or isinstance(part, bool):
        parent[key] = rng.choice(VALUES)
    elif isinstance(part, dict):
        if part and kind < 0.7:
            del part[rng.choice(list(part))]
        else:
            part[rng.choice(["extra", "x", "zz_9", "a", "id"])] = rng.choice(VALUES)
    elif isinstance(part, list):
        if part and kind < 0.6:
            del part[rng.randrange(len(part))]
        else:
            part.append(copy.deepcopy(rng.choice(part)) if part and kind < 0.8 else rng.choice(VALUES))
    elif isinstance(part, (int, float)):
        parent[key] = rng.choice([part + 1, part - 1, -part, part * 10, part * 1000, -(10**6), 10**9, part + 0.5, 0])
    else:
        parent[key] = rng.choice([part * 50, part[:-1], part + "!", "", part[1:], part.upper(), part + " ", part * 3, " " + part])
    return holder[0]
