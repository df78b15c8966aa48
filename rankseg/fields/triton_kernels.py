"""Compiled passes over the pixels, in Triton, for ``triton_cuda.py``; ``tensor.py`` defines them.

Every pass adds the integers of ``exact_sum.py``, by the same rounding as ``numba_kernels.py``, so
its numbers equal the plain-torch field's bit for bit. Programs add theirs to the row's with int64
atomics: integer addition is associative and commutative, so the order in which programs come does
not show, and no array of partial sums needs a second pass. One such addition per program and row
stands against thousands of pixels read.

A program looks at tiles of CLASSES x PIXELS probabilities. Where the pixels of a row lie side by
side a tile is long; where the classes of a pixel do (channels_last) it holds many classes: loads
are coalesced either way, and nothing is copied. Offsets and pixel numbers are 64 bits wide.

RULE says how values become probabilities. Quotients and fused products are asked for by name and
compiled without contraction (``triton_cuda.OPTIONS``), so rounding is the same as on the CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from rankseg.fields import base, dinkelbach, exact_sum

PLAIN = tl.constexpr(0)
SIGMOID = tl.constexpr(1)
SOFTMAX = tl.constexpr(2)
SOFTMAX_OF_TWO = tl.constexpr(3)

MAGIC = tl.constexpr(1.5 * 2.0**52)
"""Its unit in the last place is 1: adding it rounds to an integer, left in the low bits."""

MAGIC_BITS = tl.constexpr(0x4338000000000000)
LARGEST = tl.constexpr(2**63 - 1)
LEAST = tl.constexpr(-(2**63))
INFINITY = tl.constexpr(float("inf"))

SMALL_PEAK = tl.constexpr(exact_sum.SMALL_PEAK)
ROUNDING = tl.constexpr(dinkelbach.ROUNDING)
NOTHING = tl.constexpr(base.NOTHING)
EVERYTHING = tl.constexpr(-1.0)
FIRST_PASS = tl.constexpr(2)
"""A row's state: 0 finished, 1 rising, 2 rising and not yet measured."""

LOWEST_POWER = tl.constexpr(-87.0)
ROUND32 = tl.constexpr(1.5 * 2.0**23)
EXPONENT = tl.constexpr(127 - 0x4B400000)


@triton.jit
def widen(x):
    """Stored values in at least float32."""
    if x.dtype != tl.float64:
        x = x.to(tl.float32)
    return x


@triton.jit
def quotient(x, y):
    """X / y, rounded once; a plain float32 division would be approximate."""
    return x / y if x.dtype == tl.float64 else tl.math.div_rn(x, y)


@triton.jit
def exponential(x):
    """e^x for x <= 0, 0 below -87 in float32; NaN stays. ``numba_kernels.exponential32``."""
    if x.dtype == tl.float64:
        result = tl.exp(x)
    else:
        y = tl.where(x > LOWEST_POWER, x, LOWEST_POWER)
        shifted = tl.math.fma(y, 1.4426950408889634, ROUND32)
        n = shifted - ROUND32
        r = tl.math.fma(n, 2.12194440e-4, tl.math.fma(n, -0.693359375, y))
        q = tl.math.fma(r, 1.9875691500e-4, 1.3981999507e-3)
        q = tl.math.fma(tl.math.fma(q, r, 8.3334519073e-3), r, 4.1665795894e-2)
        q = tl.math.fma(tl.math.fma(q, r, 1.6666665459e-1), r, 5.0000001201e-1)
        e = tl.math.fma(q * r, r, r) + 1.0
        power = ((shifted.to(tl.int32, bitcast=True) + EXPONENT) << 23).to(tl.float32, bitcast=True)
        result = tl.where(x < LOWEST_POWER, 0.0, e * power + (x - x))
    return result


@triton.jit
def logistic(x):
    e = exponential(-tl.abs(x))
    return quotient(tl.where(x >= 0, 1.0, e).to(x.dtype), 1.0 + e)


@triton.jit
def probability(values, norm, at, other, place, pixels, inside, RULE: tl.constexpr):
    """Probabilities of the pixels at these offsets; of no meaning where they are not inside.

    A softmax of two needs the value of the ``other`` class, one of more classes what ``normalise``
    left at ``place``.
    """
    p = widen(tl.load(values + at, mask=inside, other=0.0))
    if RULE == SIGMOID:
        p = logistic(p)
    elif RULE == SOFTMAX_OF_TWO:
        q = widen(tl.load(values + other, mask=inside, other=0.0))
        top = tl.maximum(p, q)
        p = logistic(p - q) + (top - top)  # NaN where a logit is infinite, as any softmax gives
    elif RULE == SOFTMAX:
        place = norm + tl.broadcast_to(place, at.shape)
        top = tl.load(place, mask=inside, other=0.0)
        share = tl.load(place + pixels, mask=inside, other=0.0)
        p = exponential(p - top) * share
    return p


@triton.jit
def read(
    values, per_image, per_class, step, pixels, norm, b, c, pixel, inside, RULE: tl.constexpr
):  # fmt: skip
    """Probabilities of classes c at pixels ``pixel`` of image b, which broadcast."""
    image = b.to(tl.int64)
    at = image * per_image + c.to(tl.int64) * per_class + pixel * step
    other = at + (1 - 2 * c).to(tl.int64) * per_class
    return probability(values, norm, at, other, 2 * image * pixels + pixel, pixels, inside, RULE)


@triton.jit
def scaled(p, lift, unit):
    """Probability in units, float64; exact."""
    # the product of the two powers could overflow for float64
    return p * lift * unit if p.dtype == tl.float64 else p.to(tl.float64) * (lift * unit)


@triton.jit
def first_limb(exact):
    return (exact + MAGIC).to(tl.int64, bitcast=True) - MAGIC_BITS


@triton.jit
def second_limb(exact, unit):
    return first_limb((exact - ((exact + MAGIC) - MAGIC)) * unit)


@triton.jit
def add(sums, row, mask, first, second, count, LIMBS: tl.constexpr):
    """Add integers and counts to those of their rows; programs may come in any order."""
    tl.atomic_add(sums + row * 3, first, mask=mask, sem="relaxed")
    if LIMBS == 2:
        tl.atomic_add(sums + row * 3 + 1, second, mask=mask, sem="relaxed")
    tl.atomic_add(sums + row * 3 + 2, count.to(tl.int64), mask=mask, sem="relaxed")


@triton.jit
def total(sums, row, mask, lift, unit):
    """Sum as a float, rounded as ``ExactSum.value`` rounds it, and count."""
    first = tl.load(sums + row * 3, mask=mask, other=0).to(tl.float64)
    second = tl.load(sums + row * 3 + 1, mask=mask, other=0).to(tl.float64)
    return (second / unit + first) / unit / lift, tl.load(sums + row * 3 + 2, mask=mask, other=0)


@triton.jit
def rows_of(classes, pixels, CLASSES: tl.constexpr, SPAN: tl.constexpr):
    """Image, classes, first pixel and number of pixels of a program that keeps rows apart."""
    program = tl.program_id(0)
    groups = (classes - 1) // CLASSES + 1
    spans = (pixels - 1) // SPAN + 1  # adding first could overflow
    c = program % groups * CLASSES + tl.arange(0, CLASSES)
    start = (program // groups % spans).to(tl.int64) * SPAN
    return program // groups // spans, c, start, tl.minimum(pixels - start, SPAN).to(tl.int32)


@triton.jit
def pixels_of(pixels, PIXELS: tl.constexpr):
    """Image and pixels of a program that takes all classes of them."""
    program = tl.program_id(0)
    spans = (pixels - 1) // PIXELS + 1
    start = (program % spans).to(tl.int64) * PIXELS
    return program // spans, start + tl.arange(0, PIXELS)


@triton.jit(do_not_specialize=["classes"])
def normalise(values, per_image, per_class, step, classes, pixels, norm, PIXELS: tl.constexpr):
    """What softmax needs at each pixel: the largest logit, 1 over the sum of exponentials."""
    b, pixel = pixels_of(pixels, PIXELS)
    inside = pixel < pixels
    image = b.to(tl.int64)
    first = values + image * per_image + pixel * step
    at = first
    top = widen(tl.load(at, mask=inside, other=0.0))
    for _ in range(1, classes):
        at += per_class
        x = widen(tl.load(at, mask=inside, other=0.0))
        top = tl.where(x > top, x, top)
    at = first
    sums = tl.zeros_like(top)
    for _ in range(0, classes):  # in order, as on the CPU
        sums += exponential(widen(tl.load(at, mask=inside, other=0.0)) - top)
        at += per_class
    place = norm + 2 * image * pixels + pixel
    tl.store(place, top, mask=inside)
    tl.store(place + pixels, quotient(tl.full([PIXELS], 1.0, top.dtype), sums), mask=inside)


@triton.jit
def order(bits):
    """Integer that orders float64 numbers as they are, from a number's bits; and back again."""
    return bits ^ ((bits >> 63) & LARGEST)


@triton.jit(do_not_specialize=["classes"])
def totals(
    values, per_image, per_class, step, classes, pixels, norm, unit, low, high, sums,
    RULE: tl.constexpr, LIMBS: tl.constexpr,
    CLASSES: tl.constexpr, PIXELS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """Extreme orders and unlifted integer sums of rows; a NaN is both extremes of its row."""
    b, c, start, length = rows_of(classes, pixels, CLASSES, SPAN)
    known = c < classes
    if values.dtype.element_ty == tl.float64:
        smallest = tl.full([CLASSES, PIXELS], INFINITY, tl.float64)
    else:
        smallest = tl.full([CLASSES, PIXELS], INFINITY, tl.float32)
    largest = -smallest
    first = tl.zeros([CLASSES, PIXELS], tl.int64)
    second = tl.zeros([CLASSES, PIXELS], tl.int64)
    count = tl.zeros([CLASSES], tl.int32)
    for ahead in range(0, length, PIXELS):
        pixel = start + ahead + tl.arange(0, PIXELS)
        inside = known[:, None] & (pixel < pixels)[None, :]
        p = read(
            values, per_image, per_class, step, pixels, norm,
            b, c[:, None], pixel[None, :], inside, RULE,
        )  # fmt: skip
        lower, higher = tl.where(inside, p, INFINITY), tl.where(inside, p, -INFINITY)
        smallest = tl.minimum(smallest, lower, propagate_nan=tl.PropagateNan.ALL)
        largest = tl.maximum(largest, higher, propagate_nan=tl.PropagateNan.ALL)
        exact = scaled(tl.where(inside, p, 0.0), 1.0, unit)
        first += first_limb(exact)
        if LIMBS == 2:
            second += second_limb(exact, unit)
    lows = order(smallest.to(tl.float64).to(tl.int64, bitcast=True))
    highs = order(largest.to(tl.float64).to(tl.int64, bitcast=True))
    lows = tl.where(smallest == smallest, lows, LEAST)
    highs = tl.where(largest == largest, highs, LARGEST)
    row = b.to(tl.int64) * classes + c
    tl.atomic_min(low + row, tl.min(lows, 1), mask=known, sem="relaxed")
    tl.atomic_max(high + row, tl.max(highs, 1), mask=known, sem="relaxed")
    add(sums, row, known, tl.sum(first, 1), tl.sum(second, 1), count, LIMBS)


@triton.jit(do_not_specialize=["rows"])
def extremes(low, high, sums, lift, again, largest, rows, ROWS: tl.constexpr):
    """Orders become numbers, in place; rows with a small peak get a lift and are summed again."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    known = row < rows
    bits = order(tl.load(high + row, mask=known, other=0))
    tl.store(low + row, order(tl.load(low + row, mask=known, other=0)), mask=known)
    tl.store(high + row, bits, mask=known)
    peak = bits.to(tl.float64, bitcast=True)
    small = (peak > 0) & (peak < SMALL_PEAK)
    # peak = m 2^e with m in [1/2, 1) has exponent bits e + 1022; its lift is 2^min(-e, largest)
    power = tl.minimum(1022 - (bits >> 52), largest) + 1023
    lifted = (power << 52).to(tl.float64, bitcast=True)
    tl.store(lift + row, tl.where(small, lifted, 1.0), mask=known)
    tl.store(again + row, tl.where(small, EVERYTHING, NOTHING).to(tl.float64), mask=known)
    nothing = tl.zeros([ROWS], tl.int64)
    for limb in range(0, 2):
        tl.store(sums + row * 3 + limb, nothing, mask=known & small)


@triton.jit(do_not_specialize=["rows"])
def finish(sums, lift, unit, selected_sum, volume, rows, ROWS: tl.constexpr):
    """From integers to numbers."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    known = row < rows
    found, count = total(sums, row, known, tl.load(lift + row, mask=known, other=1.0), unit)
    tl.store(selected_sum + row, found, mask=known)
    tl.store(volume + row, count, mask=known)


@triton.jit(do_not_specialize=["classes"])
def above(
    values, per_image, per_class, step, classes, pixels, norm, threshold, peak, lift, unit, sums,
    RULE: tl.constexpr, LIMBS: tl.constexpr,
    CLASSES: tl.constexpr, PIXELS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """Integer sums over {p > threshold} of rows."""
    b, c, start, length = rows_of(classes, pixels, CLASSES, SPAN)
    row = b.to(tl.int64) * classes + c
    known = c < classes
    cut = tl.load(threshold + row, mask=known, other=NOTHING)
    live = known & (cut < tl.load(peak + row, mask=known, other=0.0))
    if tl.max(live.to(tl.int32), 0) == 0:
        return
    raised = tl.load(lift + row, mask=live, other=1.0)
    first = tl.zeros([CLASSES, PIXELS], tl.int64)
    second = tl.zeros([CLASSES, PIXELS], tl.int64)
    count = tl.zeros([CLASSES, PIXELS], tl.int32)
    for ahead in range(0, length, PIXELS):
        pixel = start + ahead + tl.arange(0, PIXELS)
        inside = live[:, None] & (pixel < pixels)[None, :]
        p = read(
            values, per_image, per_class, step, pixels, norm,
            b, c[:, None], pixel[None, :], inside, RULE,
        )  # fmt: skip
        chosen = inside & (p.to(tl.float64) > cut[:, None])
        exact = scaled(tl.where(chosen, p, 0.0), raised[:, None], unit)
        first += first_limb(exact)
        if LIMBS == 2:
            second += second_limb(exact, unit)
        count += chosen.to(tl.int32)
    add(sums, row, live, tl.sum(first, 1), tl.sum(second, 1), tl.sum(count, 1), LIMBS)


@triton.jit(do_not_specialize=["classes"])
def within(
    values, per_image, per_class, step, classes, pixels, norm,
    masks, mask_image, mask_class, mask_step, lift, unit, sums,
    RULE: tl.constexpr, LIMBS: tl.constexpr,
    CLASSES: tl.constexpr, PIXELS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """Integer sums over the pixels in masks."""
    b, c, start, length = rows_of(classes, pixels, CLASSES, SPAN)
    image = b.to(tl.int64)
    row = image * classes + c
    known = c < classes
    raised = tl.load(lift + row, mask=known, other=1.0)
    corner = masks + image * mask_image + c.to(tl.int64) * mask_class
    first = tl.zeros([CLASSES, PIXELS], tl.int64)
    second = tl.zeros([CLASSES, PIXELS], tl.int64)
    count = tl.zeros([CLASSES, PIXELS], tl.int32)
    for ahead in range(0, length, PIXELS):
        pixel = start + ahead + tl.arange(0, PIXELS)
        inside = known[:, None] & (pixel < pixels)[None, :]
        mask = tl.load(corner[:, None] + pixel[None, :] * mask_step, mask=inside, other=0)
        chosen = inside & (mask != 0)
        p = read(
            values, per_image, per_class, step, pixels, norm,
            b, c[:, None], pixel[None, :], inside, RULE,
        )  # fmt: skip
        exact = scaled(tl.where(chosen, p, 0.0), raised[:, None], unit)
        first += first_limb(exact)
        if LIMBS == 2:
            second += second_limb(exact, unit)
        count += chosen.to(tl.int32)
    add(sums, row, known, tl.sum(first, 1), tl.sum(second, 1), tl.sum(count, 1), LIMBS)


@triton.jit(do_not_specialize=["classes"])
def select(
    values, per_image, per_class, step, classes, pixels, norm, threshold, peak, masks,
    RULE: tl.constexpr,
    CLASSES: tl.constexpr, PIXELS: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """Write {p > threshold}; every pixel of ``masks`` is written, those of dead rows unread."""
    b, c, start, length = rows_of(classes, pixels, CLASSES, SPAN)
    row = b.to(tl.int64) * classes + c
    known = c < classes
    cut = tl.load(threshold + row, mask=known, other=NOTHING)
    live = known & (cut < tl.load(peak + row, mask=known, other=0.0))
    for ahead in range(0, length, PIXELS):
        pixel = start + ahead + tl.arange(0, PIXELS)
        there = (pixel < pixels)[None, :]
        inside = live[:, None] & there
        p = read(
            values, per_image, per_class, step, pixels, norm,
            b, c[:, None], pixel[None, :], inside, RULE,
        )  # fmt: skip
        chosen = inside & (p.to(tl.float64) > cut[:, None])
        to = masks + row[:, None] * pixels + pixel[None, :]
        tl.store(to, chosen.to(masks.dtype.element_ty), mask=known[:, None] & there)


@triton.jit
def add_by_class(sums, b, classes, who, exact, unit, LIMBS: tl.constexpr):
    """Add each pixel to the integers of its class; ``classes`` stands for none.

    Once round for each class that occurs: the time does not grow with the number of classes.
    """
    first = first_limb(exact)
    second = tl.zeros_like(first)
    if LIMBS == 2:
        second = second_limb(exact, unit)
    c = tl.min(who, 0)
    while c < classes:
        mine = who == c
        n = tl.sum(mine.to(tl.int32), 0)
        one, two = tl.sum(tl.where(mine, first, 0), 0), tl.sum(tl.where(mine, second, 0), 0)
        add(sums, b.to(tl.int64) * classes + c, None, one, two, n, LIMBS)
        who = tl.where(mine, classes, who)
        c = tl.min(who, 0)


@triton.jit(do_not_specialize=["classes"])
def claimed_once(
    values, per_image, per_class, step, classes, pixels, norm, threshold, peak, lift, unit, sums,
    RULE: tl.constexpr, LIMBS: tl.constexpr, CLASSES: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Integer sums over the pixels that one class of the image claims and no other."""
    b, pixel = pixels_of(pixels, PIXELS)
    base = b.to(tl.int64) * classes
    claims = tl.zeros([PIXELS], tl.int32)
    who = tl.zeros([PIXELS], tl.int32)
    for start in range(0, classes, CLASSES):
        c = start + tl.arange(0, CLASSES)
        known = c < classes
        cut = tl.load(threshold + base + c, mask=known, other=NOTHING)
        live = known & (cut < tl.load(peak + base + c, mask=known, other=0.0))
        if tl.max(live.to(tl.int32), 0) != 0:
            inside = live[:, None] & (pixel < pixels)[None, :]
            p = read(
                values, per_image, per_class, step, pixels, norm,
                b, c[:, None], pixel[None, :], inside, RULE,
            )  # fmt: skip
            claim = inside & (p.to(tl.float64) > cut[:, None])
            claims += tl.sum(claim.to(tl.int32), 0)
            who += tl.sum(tl.where(claim, c[:, None], 0), 0)
    once = claims == 1
    who = tl.where(once, who, 0)
    p = read(values, per_image, per_class, step, pixels, norm, b, who, pixel, once, RULE)
    exact = scaled(p, tl.load(lift + base + who, mask=once, other=0.0), unit)
    add_by_class(sums, b, classes, tl.where(once, who, classes), exact, unit, LIMBS)


@triton.jit(do_not_specialize=["classes"])
def measure(
    values, per_image, per_class, step, classes, pixels, norm, labels, lift, unit, sums,
    RULE: tl.constexpr, LIMBS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Integer sums over each class's region in a label map."""
    b, pixel = pixels_of(pixels, PIXELS)
    label = tl.load(labels + b.to(tl.int64) * pixels + pixel, mask=pixel < pixels, other=-1)
    known = (label >= 0) & (label < classes)
    who = tl.where(known, label, 0).to(tl.int32)
    p = read(values, per_image, per_class, step, pixels, norm, b, who, pixel, known, RULE)
    raised = tl.load(lift + b.to(tl.int64) * classes + who, mask=known, other=0.0)
    exact = scaled(p, raised, unit)
    add_by_class(sums, b, classes, tl.where(known, who, classes), exact, unit, LIMBS)


@triton.jit
def better(score, allowed, c, best, winner):
    """Best score so far at each pixel, and its class: the first of equals."""
    score = tl.where(allowed, score, -INFINITY)
    top = tl.max(score, 0)
    at = tl.argmax(score, 0) + tl.min(c, 0)
    return tl.maximum(top, best), tl.where(top > best, at, winner)


@triton.jit(do_not_specialize=["classes", "void_index"])
def assign(
    values, per_image, per_class, step, classes, pixels, norm,
    claim, eligible, slope, offset, bend, void_index, peak, labels,
    RULE: tl.constexpr, CLASSES: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Write the label of every pixel: the best claimer, else the best eligible class, else void."""
    b, pixel = pixels_of(pixels, PIXELS)
    base = b.to(tl.int64) * classes
    claimed = tl.full([PIXELS], -INFINITY, tl.float64)
    free = tl.full([PIXELS], -INFINITY, tl.float64)
    claimer = tl.full([PIXELS], -1, tl.int32)
    unclaimed = tl.full([PIXELS], -1, tl.int32)
    for start in range(0, classes, CLASSES):
        c = start + tl.arange(0, CLASSES)
        known = c < classes
        cut = tl.load(claim + base + c, mask=known, other=NOTHING)
        claims = known & (cut < tl.load(peak + base + c, mask=known, other=0.0))
        may = tl.load(eligible + base + c, mask=known, other=0) != 0
        if tl.max((claims | may).to(tl.int32), 0) != 0:
            inside = (claims | may)[:, None] & (pixel < pixels)[None, :]
            p = read(
                values, per_image, per_class, step, pixels, norm,
                b, c[:, None], pixel[None, :], inside, RULE,
            )  # fmt: skip
            p = tl.where(inside, p, 0.0).to(tl.float64)
            factor = tl.load(slope + base + c, mask=known, other=0.0)
            less = tl.load(offset + base + c, mask=known, other=0.0)
            bends = tl.load(bend + base + c, mask=known, other=0.0)
            score = factor[:, None] * p - less[:, None]
            if tl.max(bends, 0) != 0:  # float64 division is slow, and x / 1 is x
                score /= 1 - bends[:, None] * p
            mine = inside & claims[:, None] & (p > cut[:, None])
            claimed, claimer = better(score, mine, c, claimed, claimer)
            free, unclaimed = better(score, inside & may[:, None], c, free, unclaimed)
    winner = tl.where(claimer >= 0, claimer, unclaimed)
    label = tl.where(winner >= 0, winner.to(tl.int64), void_index)
    tl.store(labels + b.to(tl.int64) * pixels + pixel, label, mask=pixel < pixels)


@triton.jit
def copy_row(
    values, per_image, per_class, step, pixels, norm, image, class_, out,
    RULE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Write down the probabilities of one row."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = pixel < pixels
    b, c = tl.zeros([PIXELS], tl.int32) + image, tl.zeros([PIXELS], tl.int32) + class_
    p = read(values, per_image, per_class, step, pixels, norm, b, c, pixel, inside, RULE)
    tl.store(out + pixel, p, mask=inside)


@triton.jit
def fraction(terms, row, rows, mask, selected_sum, volume):
    """Value of a ratio, 0/0 = 0: ``LinearFractional.value``; its terms lie row behind row."""
    base = tl.load(terms + row, mask=mask, other=0.0)
    gain = tl.load(terms + rows + row, mask=mask, other=0.0)
    width = tl.load(terms + 2 * rows + row, mask=mask, other=1.0)
    price = tl.load(terms + 3 * rows + row, mask=mask, other=0.0)
    overlap = tl.load(terms + 4 * rows + row, mask=mask, other=0.0)
    value = (base + gain * selected_sum) / (width + price * volume - overlap * selected_sum)
    return tl.where(value == value, value, 0.0)


@triton.jit
def cut_at(terms, row, rows, mask, value):
    """Probability from which on a pixel raises the ratio: ``LinearFractional.cut``."""
    gain = tl.load(terms + rows + row, mask=mask, other=1.0)
    price = tl.load(terms + 3 * rows + row, mask=mask, other=0.0)
    overlap = tl.load(terms + 4 * rows + row, mask=mask, other=0.0)
    return price * value / (gain + overlap * value)


@triton.jit(do_not_specialize=["rows"])
def set_out(
    terms, mu, peak, pixels, active, threshold, best, state, chosen, selected_sum, volume, rows,
    STARTED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """State of Dinkelbach's iteration before its first pass: ``dinkelbach.maximise``.

    No sample is searched first: the launches it takes last longer than the pass that it saves.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    known = row < rows
    none = tl.zeros([ROWS], tl.float64)
    everything = none + pixels
    empty = fraction(terms, row, rows, known, none, none)
    mean = tl.load(mu + row, mask=known, other=0.0)
    full = fraction(terms, row, rows, known, mean, everything)
    value = tl.maximum(empty, full)
    rising = tl.load(active + row, mask=known, other=0) != 0
    if STARTED:
        cut = tl.load(threshold + row, mask=known, other=0.0)
    else:
        half = tl.load(peak + row, mask=known, other=0.0) / 2
        cut = (cut_at(terms, row, rows, known, value) + half) / 2
    tl.store(threshold + row, tl.where(rising, cut, NOTHING), mask=known)
    tl.store(best + row, value, mask=known)
    tl.store(state + row, tl.where(rising, FIRST_PASS, 0), mask=known)
    tl.store(chosen + row, none + NOTHING, mask=known)
    tl.store(selected_sum + row, none, mask=known)
    tl.store(volume + row, tl.zeros([ROWS], tl.int64), mask=known)


@triton.jit(do_not_specialize=["rows"])
def advance(
    terms, lift, unit, threshold, best, state, chosen, selected_sum, volume, sums,
    rows, ROWS: tl.constexpr,
):  # fmt: skip
    """What a pass of Dinkelbach's iteration found becomes its next cut; the sums start again."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    known = row < rows
    now = tl.load(state + row, mask=known, other=0)
    rising, first = known & (now != 0), now == FIRST_PASS
    found, count = total(sums, row, known, tl.load(lift + row, mask=known, other=1.0), unit)
    for part in range(0, 3):
        tl.store(sums + row * 3 + part, tl.zeros([ROWS], tl.int64), mask=known)
    value = fraction(terms, row, rows, known, found, count.to(tl.float64))
    known_best = tl.load(best + row, mask=known, other=0.0)
    nearly = known_best - known_best * ROUNDING  # rounded once: best * (1 - ROUNDING)
    keep = rising & ((value >= nearly) | first)
    tl.store(chosen + row, tl.load(threshold + row, mask=known, other=0.0), mask=keep)
    tl.store(selected_sum + row, found, mask=keep)
    tl.store(volume + row, count, mask=keep)
    rising = rising & ((value > known_best) | first)
    known_best = tl.where(keep, tl.maximum(known_best, value), known_best)
    tl.store(best + row, known_best, mask=known)
    tl.store(state + row, rising.to(tl.int32), mask=known)
    cut = cut_at(terms, row, rows, known, known_best)
    tl.store(threshold + row, tl.where(rising, cut, NOTHING), mask=known)


INTERPRETED = not isinstance(above, triton.JITFunction)
"""Whether TRITON_INTERPRET=1 was set: numpy runs the kernels, on tensors of any device."""
