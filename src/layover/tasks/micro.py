"""A suite of tiny generated text tasks whose transfer effects are known before any training.

Thirty-two invented nouns belong to two hidden classes. The training rows of a target show half of the nouns and its
validation rows ask mainly about the other half, so nothing but a source that names the classes can tell them apart.
All rows come from `random.Random` seeded with strings: the same in every process and on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from random import Random

from layover.tasks.formats import Choice, Pair, Single
from layover.tasks.task import Format, Task

Row = dict[str, str]
Make = Callable[[Random, int], Row]
"""Makes row number `i` of a split; what must come out balanced follows from `i`, the rest is drawn."""

# Every noun is two or three pieces to a BERT tokenizer: a word of its vocabulary would bring a meaning of its own.
SHOWN = {
    "creature": ("blicket", "fendle", "mabbit", "wug", "zib", "chuv", "skeld", "nerp"),
    "device": ("norlet", "rundel", "fimbo", "dalp", "crell", "rotch", "zeff", "wibble"),
}
# A plain encoder guesses a hidden noun by its likeness to shown ones. Which noun has which class was chosen so that
# these guesses come to about one half right (MiniLM, 4 seeds), directly or after the unrelated source.
HIDDEN = {
    "creature": ("prinn", "quav", "pagle", "trell", "kovel", "gorp", "frub", "shoble"),
    "device": ("pilloth", "brandil", "jeld", "vartic", "tiv", "blim", "tulver", "nuvo"),
}
CLASSES = ("creature", "device")
OTHER = {"creature": "device", "device": "creature"}
CLASS_OF = {noun: kind for half in (SHOWN, HIDDEN) for kind in CLASSES for noun in half[kind]}


def alternating(half: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The nouns of one half with the classes in turn, so that every prefix of a split is nearly balanced."""
    return tuple(chain.from_iterable(zip(*(half[kind] for kind in CLASSES), strict=True)))


SHOWN_NOUNS, HIDDEN_NOUNS = alternating(SHOWN), alternating(HIDDEN)

# The source says in other words what the target asks, so that neither sentences nor label names are shared.
SOURCE_NAMES = {"creature": "animal", "device": "machine"}
SOURCE_FRAMES = ("{person} drew a {noun}.", "page {number} shows a {noun}.")
TARGET_FRAMES = ("{person} saw the {noun}.", "the {noun} is in the {place}.")
CLUES = {"creature": ("hungry", "asleep", "thirsty"), "device": ("rusty", "unplugged", "greasy")}

PEOPLE = ("anna", "ben", "clara", "david", "emma", "frank", "grace", "henry", "irene", "jack", "kate", "leo")
PLACES = ("barn", "hall", "yard", "shed", "attic", "garden", "kitchen", "harbour", "station", "market")
SCENES = {
    "indoors": ("kitchen", "attic", "office", "bedroom", "library", "cellar", "bathroom", "corridor"),
    "outdoors": ("forest", "meadow", "beach", "garden", "river", "desert", "orchard", "valley"),
}
SCENE_FRAMES = ("{person} went to the {scene}.", "{person} is in the {scene}.", "{person} left the {scene}.")
VERBS = {"past": "was", "present": "is"}
DOING = ("walking", "singing", "waiting", "sleeping", "working", "writing", "dancing", "playing")


def say(rng: Random, frames: Sequence[str], **words: str) -> str:
    """One frame with its given words in place and its free slots drawn."""
    drawn = {"person": rng.choice(PEOPLE), "place": rng.choice(PLACES), "number": str(rng.randint(2, 99))}
    return rng.choice(frames).format(**drawn, **words)


def about_noun(frames: Sequence[str], nouns: Sequence[str], label_of: Callable[[str], str]) -> Make:
    """A sentence about each noun in turn."""

    def make(rng: Random, i: int) -> Row:
        noun = nouns[i % len(nouns)]
        return {"sentence": say(rng, frames, noun=noun), "label": label_of(noun)}

    return make


def true_name(noun: str) -> str:
    """The source's name for a noun's class."""
    return SOURCE_NAMES[CLASS_OF[noun]]


def misleading_name(noun: str) -> str:
    """Right about the nouns a target shows, wrong about the others: flipping all would cost a new head nothing."""
    kind = CLASS_OF[noun]
    return SOURCE_NAMES[OTHER[kind] if noun in HIDDEN_NOUNS else kind]


def scene(rng: Random, i: int) -> Row:
    """A sentence about a scene, indoors or outdoors."""
    label = ("indoors", "outdoors")[i % 2]
    return {"sentence": say(rng, SCENE_FRAMES, scene=rng.choice(SCENES[label])), "label": label}


def tense(rng: Random, i: int) -> Row:
    """A sentence in the past or in the present."""
    label = ("past", "present")[i % 2]
    sentence = f"{rng.choice(PEOPLE)} {VERBS[label]} {rng.choice(DOING)} in the {rng.choice(PLACES)}."
    return {"sentence": sentence, "label": label}


def same_class(second_half: Mapping[str, Sequence[str]]) -> Make:
    """Ask whether two things are of one class. One noun is always a shown one: two wrong classes agree."""

    def make(rng: Random, i: int) -> Row:
        kind, same = CLASSES[i % 2], i // 2 % 2 == 0
        first = rng.choice(SHOWN[kind])
        second = rng.choice([noun for noun in second_half[kind if same else OTHER[kind]] if noun != first])
        left, right = rng.sample((first, second), 2)
        frame = TARGET_FRAMES[:1]
        sentences = {"sentence1": say(rng, frame, noun=left), "sentence2": say(rng, frame, noun=right)}
        return sentences | {"label": "yes" if same else "no"}

    return make


def which_one(half: Mapping[str, Sequence[str]]) -> Make:
    """Ask which of two things, one of each class, the context speaks of."""

    def make(rng: Random, i: int) -> Row:
        kind, label = CLASSES[i % 2], i // 2 % 2
        right, wrong = (f"the {rng.choice(half[k])}" for k in (kind, OTHER[kind]))
        choices = (right, wrong) if label == 0 else (wrong, right)
        context = f"{rng.choice(PEOPLE)} saw something {rng.choice(CLUES[kind])}."
        return {"context": context, "choice0": choices[0], "choice1": choices[1], "label": str(label)}

    return make


# Per task: what makes its training rows, how many, and the same for its validation rows. Counts are whole rounds of
# the nouns; three validation rows of four in `micro_target` are about hidden nouns.
SUITE: dict[str, tuple[Make, int, Make, int]] = {
    "micro_target": (
        about_noun(TARGET_FRAMES, SHOWN_NOUNS, CLASS_OF.__getitem__),
        64,
        about_noun(TARGET_FRAMES, HIDDEN_NOUNS * 3 + SHOWN_NOUNS, CLASS_OF.__getitem__),
        128,
    ),
    "micro_teacher": (
        about_noun(SOURCE_FRAMES, SHOWN_NOUNS + HIDDEN_NOUNS, true_name),
        320,
        about_noun(SOURCE_FRAMES, SHOWN_NOUNS + HIDDEN_NOUNS, true_name),
        64,
    ),
    "micro_unrelated": (scene, 320, scene, 64),
    "micro_misleading": (
        about_noun(SOURCE_FRAMES, SHOWN_NOUNS + HIDDEN_NOUNS, misleading_name),
        320,
        about_noun(SOURCE_FRAMES, SHOWN_NOUNS + HIDDEN_NOUNS, misleading_name),
        64,
    ),
    "micro_pair": (same_class(SHOWN), 64, same_class(HIDDEN), 128),
    "micro_choice": (which_one(SHOWN), 64, which_one(HIDDEN), 128),
    "micro_probe": (tense, 96, tense, 128),
}
NAMES = tuple(SUITE)

# Sign of (through the source) minus (direct), per source and target, measured with MiniLM. Cells left out have no
# dependable sign: the unrelated source leaves `micro_pair` a few points low and, in some runs, `micro_probe` too.
EXPECTED: dict[tuple[str, str], str] = {
    ("micro_teacher", "micro_target"): "positive",
    ("micro_teacher", "micro_pair"): "positive",
    ("micro_teacher", "micro_choice"): "positive",
    ("micro_teacher", "micro_probe"): "zero",
    ("micro_unrelated", "micro_target"): "zero",
    ("micro_unrelated", "micro_choice"): "zero",
    ("micro_misleading", "micro_target"): "negative",
    ("micro_misleading", "micro_pair"): "negative",
    ("micro_misleading", "micro_choice"): "negative",
}


def draw(rng: Random, make: Make, count: int, taken: set[tuple[str, ...]]) -> list[Row]:
    """`count` rows of which none is in `taken`, which grows: no sentence is in a task twice, or in both its splits."""
    rows: list[Row] = []
    while len(rows) < count:
        row = make(rng, len(rows))
        text = tuple(value for field, value in row.items() if field != "label")
        if text not in taken:
            taken.add(text)
            rows.append(row)
    return rows


def generate(name: str) -> dict[str, list[Row]]:
    """The `train` and `validation` rows of one task of `NAMES`; any other name is a KeyError."""
    make_train, train, make_validation, validation = SUITE[name]
    taken: set[tuple[str, ...]] = set()
    return {
        "train": draw(Random(f"{name}/train"), make_train, train, taken),
        "validation": draw(Random(f"{name}/validation"), make_validation, validation, taken),
    }


def _task(name: str, about: str, form: Format, labels: tuple[str, ...] = ()) -> Task:
    return Task(
        name=name,
        version=1,
        format=form,
        metrics=("accuracy",),
        labels=labels,
        generate=partial(generate, name),
        about=about,
        source="Generated by layover from a seed; part of layover, under its licence.",
    )


SENTENCE = Single("sentence")
TARGET = _task("micro_target", "Which class does an invented noun have? Half of the nouns unseen.", SENTENCE, CLASSES)
TEACHER = _task("micro_teacher", "A source that names the class of every noun.", SENTENCE, ("animal", "machine"))
UNRELATED = _task("micro_unrelated", "A source about scenes, without nouns.", SENTENCE, ("indoors", "outdoors"))
MISLEADING = _task("micro_misleading", "A source wrong about unseen nouns.", SENTENCE, ("animal", "machine"))
PAIR = _task("micro_pair", "Are two nouns of one class?", Pair("sentence1", "sentence2"), ("no", "yes"))
CHOICE = _task("micro_choice", "Which thing does a context speak of?", Choice("context", ("choice0", "choice1")))
PROBE = _task("micro_probe", "The tense of a sentence; no invented nouns.", SENTENCE, ("past", "present"))
