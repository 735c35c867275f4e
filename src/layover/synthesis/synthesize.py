"""Synthesize: a folder with a real-vs-fake task, made of a text in pieces (Chang and Lu 2021).

Each row is a prompt and its endings, of which a human wrote one. The true ending stands at a random place; Chang and Lu
always put it first, which no model sees, since each ending is read in a pass of its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from layover.encoders import Encoder, find
from layover.errors import EncoderError, HubError, Problem, TaskError, UserError, raise_all
from layover.files import digest, digest_once, read_jsonl, write_jsonl
from layover.synthesis import GENERATORS, sentences
from layover.synthesis.corruption import KINDS, Draw, Endings, NGrams, corrupted, shuffled
from layover.synthesis.folder import Folder
from layover.synthesis.sentences import DROPPED, Dropped, Made, Rules, Sentence

RECORD = "synthesis.json"
PIECE = 256  # sentences: what a kill costs at most
SPLITS = ("train", "validation")

Form = Literal["choice", "single"]
Make = Callable[[str, Sequence[Sentence]], list[Made | Dropped]]
Tell = Callable[[int, int], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Synthesis:
    """What to make: of which text, with which fakes. The defaults are those of Chang and Lu 2021 (Syn_GPT2).

    Fakes come from `generator`, a causal language model (Hub id or directory), or from `corrupt`, one of
    `corruption.KINDS`. `form` "choice" asks which ending is real, "single" of each ending whether it is.
    """

    text: Path
    generator: str | None = None
    corrupt: str | None = None
    train: int = 30_000
    validation: int = 1_000
    fakes: int = 3
    seed: int = 42
    top_p: float = 0.9
    temperature: float = 1.0
    order: int = 3
    form: Form = "choice"
    rules: Rules = field(default_factory=Rules)

    @cached_property
    def found(self) -> Encoder | None:
        """The generator, found; raises EncoderError or HubError where there is none of that name."""
        try:
            return find(self.generator) if self.generator else None
        except (EncoderError, HubError) as error:
            problems = [Problem(p.place, p.message, f"choices: {GENERATORS}") for p in error.problems]
            raise type(error)(*problems) from error

    def check(self) -> None:
        """Raise UserError with everything that is wrong with the settings."""
        problems = []
        if (self.generator is None) == (self.corrupt is None):
            what = "give one of the two, not both" if self.generator else "say where fakes come from"
            hint = f"--generator with {GENERATORS}; or --corrupt with {', '.join(KINDS)}"
            problems.append(Problem("--generator, --corrupt", what, hint))
        if self.corrupt is not None and self.corrupt not in KINDS:
            problems.append(Problem("--corrupt", f"is {self.corrupt!r}", f"choices: {', '.join(KINDS)}"))
        if not 4 <= self.rules.min_words <= self.rules.max_words:
            message = f"are {self.rules.min_words} and {self.rules.max_words}"
            problems.append(Problem("--min-words, --max-words", message, "give 4 or more, the second not the lower"))
        if not 0 < self.top_p <= 1 or self.temperature <= 0:
            message = f"are {self.top_p} and {self.temperature}"
            problems.append(Problem("--top-p, --temperature", message, "above 0, and --top-p at most 1"))
        raise_all(UserError, problems)

    def settings(self) -> dict[str, Any]:
        """All that decides the content, by what it is and not where it lies."""
        fakes: dict[str, Any] = {"corrupt": self.corrupt}
        if self.found:
            sampling = {"top_p": self.top_p, "temperature": self.temperature}
            fakes = {"generator": self.found.identity, **sampling}
        if self.corrupt == "ngram":
            fakes["order"] = self.order
        counts = {name: getattr(self, name) for name in ("train", "validation", "fakes", "seed", "form")}
        return {"version": 1, "text": f"sha256:{digest_once(self.text)}", **fakes, **counts, **asdict(self.rules)}


@dataclass(frozen=True)
class Split:
    """A split to make: of which sentences, in order, and how many questions; more sentences are a reserve."""

    name: str
    drawn: Sequence[Sentence]
    size: int


def synthesize(wanted: Synthesis, out: Path, batch_size: int, tell: Tell) -> dict[str, Any]:
    """Make the folder `out`, or go on with it; the record of what is in it.

    Raises UserError where the settings, the text, the generator or the folder are wrong. `tell` is told of (sentences
    done, sentences in all); `batch_size` is how many endings a generator makes at once, and changes none of them.
    """
    wanted.check()
    sentences.check_file(wanted.text)
    folder = Folder(out, RECORD, wanted.settings())
    if not folder.is_finished():
        text = sentences.read(wanted.text, wanted.rules)
        train, validation, n_validation = sentences.divide(text.usable, wanted.train, wanted.validation, wanted.seed)
        if not train:
            message = f"all {len(text.usable):,} usable sentences are in paragraphs that validation has sentences of"
            hint = "give a longer text, one paragraph per line, or keep none for validation: --validation 0"
            raise TaskError(Problem(str(wanted.text), message, hint))
        splits = [Split("train", train, min(wanted.train, len(train))), Split("validation", validation, n_validation)]
        make = _maker(wanted, splits, batch_size)
        folder.begin()
        made, counts = _made(wanted, folder, splits, make, tell)
        for split, rows in made.items():
            write_jsonl(out / f"{split}.jsonl", rows)
        made_from = {"text": wanted.text.name, "generator": wanted.generator}
        files = {file: digest(out / file) for file in _files(out).values()}
        folder.finish({"made_from": made_from, "counts": {**text.counts, **counts}, "files": files})
    return folder.recorded()


def study_table(out: Path, name: str, record: Mapping[str, Any]) -> str:
    """The table of a study file by which a study reads the task that a folder holds."""
    files = [f'{split} = "{(out / file).resolve()}"' for split, file in _files(out).items()]
    single = ['format = "single"', 'text = "text"', 'labels = ["fake", "real"]']
    choice = ['format = "choice"', 'context = "context"', 'choices = ["endings"]']
    lines = [f"[task.{name}]", *files, *(single if record["settings"]["form"] == "single" else choice)]
    return "\n".join(lines)


def _maker(wanted: Synthesis, splits: Sequence[Split], batch_size: int) -> Make:
    """What makes questions out of sentences of the split that is named."""
    if wanted.found:
        from layover.train.generate import load

        generator = load(wanted.found, wanted.top_p, wanted.temperature, batch_size)
        return lambda _, piece: generator.made(piece, wanted.fakes, wanted.seed)
    draws: dict[str, Draw] = {}
    if wanted.corrupt == "swap":  # within a split: what is true in train is not false in validation
        draws = {split.name: Endings(split.drawn).draw for split in splits}
    elif wanted.corrupt == "ngram":
        model = NGrams((text.split() for _, text in sentences.sentences(wanted.text)), wanted.order)
        draws = dict.fromkeys(SPLITS, model.ending)
    draws = draws or dict.fromkeys(SPLITS, shuffled)
    return lambda split, piece: [corrupted(each, draws[split], wanted.fakes, wanted.seed) for each in piece]


def _made(
    wanted: Synthesis, folder: Folder, splits: Sequence[Split], make: Make, tell: Tell
) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """(the rows of each split that has any, the counts of what was made and dropped)."""
    counts: Counter[str] = Counter({"drawn again": 0, "train": 0, "validation": 0})
    found: dict[str, list[Row]] = {}
    for split in splits:
        told = partial(_told, tell, counts["train"], sum(each.size for each in splits))
        rows: list[Row] = []
        for sentence, made in _questions(folder, split, make, told):
            if isinstance(made, Dropped):
                counts[made] += 1
            else:
                counts[split.name] += 1
                counts["drawn again"] += made.redrawn
                rows += _rows(wanted, sentence, made)
        if not rows and split.size:
            folder.abandon()
            reasons = ", ".join(f"{name} {n:,}" for name, n in counts.items() if name in DROPPED)
            message = f"no question for {split.name} could be made of {len(split.drawn):,} sentences: {reasons}"
            hint = (
                "give a longer text or fewer --fakes; of a generator: one that was trained longer or reads longer texts"
            )
            raise TaskError(Problem(str(wanted.text), message, hint))
        found |= {split.name: rows} if rows else {}
    return found, dict(counts)


def _questions(
    folder: Folder, split: Split, make: Make, tell: Callable[[int], None]
) -> Iterator[tuple[Sentence, Made | Dropped]]:
    """Sentences with what was made of them, as many as the split needs: from pieces, made where they are not there."""
    at, done = 0, 0
    while done < split.size and at < len(split.drawn):
        piece = split.drawn[at : at + min(PIECE, split.size - done)]
        path = folder.partial / f"{split.name}-{at:08}.jsonl"
        if not path.is_file():
            tell(done)
            made = make(split.name, piece)
            write_jsonl(path, ({"dropped": m} if isinstance(m, Dropped) else {"made": asdict(m)} for m in made))
        for sentence, line in zip(piece, read_jsonl(path), strict=True):
            done += "made" in line
            yield sentence, Made(**line["made"]) if "made" in line else Dropped(line["dropped"])
        at += len(piece)
    tell(done)


def _told(tell: Tell, before: int, total: int, done: int) -> None:
    tell(before + done, total)


def _rows(wanted: Synthesis, sentence: Sentence, made: Made) -> list[Row]:
    """The rows of a question: one with all endings, or one for each."""
    place = random.Random(f"{wanted.seed}/place/{sentence.number}").randrange(len(made.fakes) + 1)
    endings = [*made.fakes[:place], made.ending, *made.fakes[place:]]
    if wanted.form == "choice":
        return [{"context": made.prompt, "endings": endings, "label": place, "line": sentence.paragraph}]
    return [
        {"text": f"{made.prompt} {ending}", "label": "real" if at == place else "fake", "line": sentence.paragraph}
        for at, ending in enumerate(endings)
    ]


def _files(out: Path) -> dict[str, str]:
    return {split: f"{split}.jsonl" for split in SPLITS if (out / f"{split}.jsonl").is_file()}
