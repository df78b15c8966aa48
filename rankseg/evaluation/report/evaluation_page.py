"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rankseg.evaluation.report import notes, pictures, plots
from rankseg.evaluation.report.markup import (
    code,
    folded,
    names,
    paragraph,
    percent,
    points,
    score,
    section,
    table,
    text,
)
from rankseg.evaluation.report.markup import (
    page as whole,
)
from rankseg.evaluation.result import NAMES, Contender, Evaluation

DIAGRAMS = 24
"""Reliability diagrams shown at once; those of further classes are folded."""


def page(found: Evaluation, named: Mapping[str, Mapping[str, str]]) -> str:
    """HTML of an evaluation, with further lists of names."""
    ahead = found.difference(found.leader).estimate
    images = f"{found.images:,} image{'' if found.images == 1 else 's'}"
    if found.groups != found.images:
        images += f" in {found.groups:,} group{'' if found.groups == 1 else 's'}"
    return whole(
        "RankSEG: does it help?",
        notes.tone(ahead.low, ahead.high, found.groups),
        found.verdict,
        f"{images}, {len(found.class_names)} classes, compared with {found.baseline.name}.",
        _sections(found, named),
    )


def _sections(found: Evaluation, named: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    said = notes.of_evaluation(found)
    yield section("Before you rely on it", _list(said)) if said else ""
    if len(found.contenders) > 1:
        yield section(f"Differences to {found.baseline.name}", *_differences(found))
    yield section("Scores", *_scores(found))
    yield section("Classes", *_classes(found))
    yield section("Are the probabilities right?", *_reliability(found))
    yield section("Is the expected quality right?", *_promises(found))
    yield section("Best and worst images", *_examples(found))
    yield names("Images that are not counted", found.skipped)
    for title, reasons in named.items():
        yield names(title, reasons)
    yield section("How to read this", _list([*notes.reading(found), *notes.conventions(found)]))
    written = (code(one.title, one.description) for one in found.contenders.values())
    yield section("Contenders", *written)


def _list(sentences: list[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{text(one)}</li>" for one in sentences)}</ul>'


def _differences(found: Evaluation) -> Iterator[str]:
    yield paragraph(
        "Right of 0 is better; lines are 95 % intervals. Per image: the mean over images. "
        "Together: the score of all images together.",
        "soft",
    )
    for metric in found.baseline.per_image:
        name = NAMES.get(metric, metric)
        lines = []
        for one in list(found.contenders.values())[1:]:
            for by_image, kind in ((True, "per image"), (False, "together")):
                ahead = (one.difference if by_image else one.dataset_difference)[metric]
                judged = metric == found.metric and by_image == (found.aggregation == "image")
                lines.append(plots.Line(f"{one.title}, {kind}", ahead.estimate, judged))
        yield f"<h3>{text(name)}</h3>" + plots.intervals(lines, f"Differences in {name}")


def _scores(found: Evaluation) -> Iterator[str]:
    for title, by_image in (("Mean over images", True), ("All images together", False)):
        yield _score_table(found, title, by_image)
    rows = [
        [f"{one.title}, {NAMES.get(metric, metric)}", *map(str, _counts(one, metric))]
        for one in list(found.contenders.values())[1:]
        for metric in found.baseline.per_image
    ]
    if rows:
        head = ["", "better", "same", "worse"]
        yield table(f"Images better and worse than with {found.baseline.name}", head, rows)


def _score_table(found: Evaluation, title: str, by_image: bool) -> str:
    metrics = list(found.baseline.per_image)
    head = ["", *(cell for m in metrics for cell in (NAMES.get(m, m), "95 % interval"))]
    rows = []
    for one in found.contenders.values():
        scores = one.per_image if by_image else one.per_dataset
        cells = [one.title]
        for metric in metrics:
            value = scores[metric]
            cells += [score(value.value), f"{score(value.low)} to {score(value.high)}"]
        rows.append(cells)
    return table(title, head, rows)


def _counts(one: Contender, metric: str) -> tuple[int, int, int]:
    found = one.difference[metric]
    return found.wins, found.ties, found.losses


def _classes(found: Evaluation) -> Iterator[str]:
    others = [metric for metric in found.baseline.per_image if metric != found.metric]
    yield from _class_tables(found, found.metric)
    for metric in others:
        yield folded(f"{NAMES.get(metric, metric)} of each class", *_class_tables(found, metric))


def _class_tables(found: Evaluation, metric: str) -> Iterator[str]:
    contenders = list(found.contenders.values())
    name = NAMES.get(metric, metric)
    for title, by_image in (("mean over images", True), ("all images together", False)):
        columns = [
            (one.image_classes if by_image else one.dataset_classes)[metric] for one in contenders
        ]
        rows = [
            [class_name, *(score(column[place]) for column in columns)]
            for place, class_name in enumerate(found.class_names)
        ]
        yield table(f"{name}, {title}", ["class", *(one.title for one in contenders)], rows)


def _reliability(found: Evaluation) -> Iterator[str]:
    yield paragraph(
        "Pixels in bins of their probability: how often the class is there (up) where the model "
        "said so with that probability (right). Bars count pixels, on a logarithmic scale.",
        "soft",
    )
    reliability = found.reliability
    errors = reliability.error.tolist()
    order = sorted(range(len(errors)), key=lambda place: -errors[place])
    cards = [_diagram(found, place, errors[place]) for place in sorted(order[:DIAGRAMS])]
    yield f'<div class="cards">{"".join(cards)}</div>'
    if rest := sorted(order[DIAGRAMS:]):
        cards = [_diagram(found, place, errors[place]) for place in rest]
        title = f"{len(rest)} more classes, whose errors are smaller"
        yield folded(title, f'<div class="cards">{"".join(cards)}</div>')
    rows = [
        [name, *(f"{value:.4f}" for value in numbers[:2]), *map(percent, numbers[2:])]
        for name, *numbers in zip(
            found.class_names,
            errors,
            reliability.brier.tolist(),
            reliability.expected_share.tolist(),
            reliability.true_share.tolist(),
            strict=True,
        )
    ]
    head = ["class", "calibration error", "Brier", "expected share", "true share"]
    yield table("Calibration of the probabilities as they were given", head, rows)


def _diagram(found: Evaluation, place: int, error: float) -> str:
    one = found.reliability
    drawing = plots.diagram(
        one.predicted[place].tolist(),
        one.observed[place].tolist(),
        one.count[place].tolist(),
        ("probability", "share of the class"),
    )
    told = f"calibration error {error:.4f}"
    name = text(found.class_names[place])
    return f"<figure>{drawing}<figcaption><b>{name}</b>, {text(told)}</figcaption></figure>"


def _promises(found: Evaluation) -> Iterator[str]:
    known = [(one, one.promise) for one in found.contenders.values() if one.promise is not None]
    known = [(one, promise) for one, promise in known if promise.count]
    if not known:
        return
    yield paragraph(
        "Every contender expects a score for each class of each image, from the probabilities "
        "alone. Below the diagonal it promises more than it keeps.",
        "soft",
    )
    cards = []
    for one, promise in known:
        count, said, kept = promise.bins
        drawing = plots.diagram(
            (said / count).tolist(),
            (kept / count).tolist(),
            count.tolist(),
            ("expected", "achieved"),
        )
        told = (
            f"expected {score(promise.expected)}, achieved {score(promise.achieved)} "
            f"({points(promise.achieved - promise.expected)} points), correlation "
            f"{score(promise.correlation)}, {promise.count:,} classes of images"
        )
        cards.append(
            f"<figure>{drawing}<figcaption><b>{text(one.title)}</b>: {text(told)}</figcaption>"
            "</figure>"
        )
    yield f'<div class="cards">{"".join(cards)}</div>'


def _examples(found: Evaluation) -> Iterator[str]:
    name, baseline = NAMES.get(found.metric, found.metric), found.baseline.name
    parts = []
    for contender in list(found.contenders.values())[1:]:
        for title, examples in (
            (f"Where {contender.title} gains most", found.best[contender.name]),
            (f"Where {contender.title} loses most", found.worst[contender.name]),
        ):
            shown = [pictures.example(one, baseline, contender.title, name) for one in examples]
            none = paragraph("No image.", "soft")
            parts.append(f"<h3>{text(title)}</h3>{''.join(shown) or none}")
    if parts:
        yield pictures.legend(found.class_names, found.conventions.masks)
        yield from parts
