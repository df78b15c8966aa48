"""Compiled passes over the pixels, in numba, for ``numba_cpu.py``; ``tensor.py`` defines them.

Every pass adds the integers of ``exact_sum.py``, so its numbers equal the plain-torch field's bit
for bit. A probability is scaled to units of 2^-40 and added to ``MAGIC``, whose unit in the last
place is 1: the addition rounds to the nearest integer and leaves it in the low bits, where integer
addition takes it from. That needs no conversion instruction, so the loops vectorise: one pass over
19 x 512 x 1024 float32 takes 2.0 ms on two threads of an AMD EPYC (Zen 2), the speed of its memory.

Pixels come as one flat array with a row's offset and the step between its pixels. A row with a step
is gathered block by block, so that all rows of a block use what one visit of the memory brought.

All functions stay in this one file: numba's cache notices changes of the file it compiles, only.
"""

from __future__ import annotations

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

BLOCK = 2048
"""Pixels looked at together with all their classes: 19 classes of float32 are 152 KiB."""

PIECE = 4096
"""Pixels of one row looked at twice while they are in the nearest cache."""

MAGIC = 1.5 * 2.0**52
MAGIC_BITS = np.float64(MAGIC).view(np.uint64)
HALF_SCALE = np.float32(2.0**112)
NOBODY = -1
SEVERAL = -2
CLAIM = np.uint32(1 << 16)
MOST_CLASSES = 1 << 15
"""Claims of so many classes can be added up in 32 bits."""

STORED = {torch.float16: np.uint16, torch.bfloat16: np.int16}
"""The half types, which numba has not, come as their bits."""

ORDER = {
    np.float64: np.iinfo(np.int64),
    np.float32: np.iinfo(np.int32),
    np.uint16: np.iinfo(np.int16),
    np.int16: np.iinfo(np.int16),
}
"""Integers that order the pixels, by the type these are stored in."""

kernel = njit(nogil=True, cache=True, error_model="numpy")
helper = njit(nogil=True, error_model="numpy")


def _bitcast(source, target, llvm_type):
    @intrinsic
    def cast(context, x):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], llvm_type)

        return target(source), generate

    return cast


float64_bits = _bitcast(types.float64, types.uint64, ir.IntType(64))
float64_order = _bitcast(types.float64, types.int64, ir.IntType(64))
float32_order = _bitcast(types.float32, types.int32, ir.IntType(32))
as_float64 = _bitcast(types.int64, types.float64, ir.DoubleType())
as_float32 = _bitcast(types.int32, types.float32, ir.FloatType())


def widen(x):
    """Value of a stored pixel: float32 or float64. uint16 holds float16, int16 holds bfloat16."""


@overload(widen)
def _widen(x):
    if x == types.uint16:  # shift exponent and fraction into place; the scale sets the bias right
        return lambda x: as_float32(np.int32(x & 0x7FFF) << 13) * HALF_SCALE
    if x == types.int16:
        return lambda x: as_float32(np.int32(x) << 16)
    return lambda x: x


def order(x):
    """Integer that orders non-negative floats as they are, and is negative for the others."""


@overload(order)
def _order(x):
    if x == types.float64:
        return lambda x: float64_order(x)
    if x == types.float32:
        return lambda x: float32_order(x)
    return lambda x: np.int16(x)


def ordered(i, like):
    """Pixel, as it is stored in ``like``, whose ``order`` is the integer."""


@overload(ordered)
def _ordered(i, like):
    if like.dtype == types.float64:
        return lambda i, like: as_float64(i)
    if like.dtype == types.float32:
        return lambda i, like: as_float32(i)
    if like.dtype == types.uint16:
        return lambda i, like: np.uint16(i)
    return lambda i, like: i


def scaled(value, lift, unit):
    """Probability in units, float64; exact."""


@overload(scaled)
def _scaled(value, lift, unit):
    if value == types.float64:  # the product of the two powers could overflow
        return lambda value, lift, unit: value * lift * unit
    return lambda value, lift, unit: np.float64(value) * (lift * unit)


def cut(threshold, like):
    """Largest number of the pixels' type that is <= threshold: p > either is the same set."""


@overload(cut)
def _cut(threshold, like):
    if like.dtype == types.float64:
        return lambda threshold, like: threshold

    def round_down(threshold, like):
        rounded = np.float32(threshold)
        if np.float64(rounded) > threshold:  # never for 0, and thresholds are not negative
            return as_float32(float32_order(rounded) - np.int32(1))
        return rounded

    return round_down


@helper
def pixels(flat, offset, step, start, stop, scratch):
    """Pixels start..stop of the row at ``offset``: a view, or gathered into ``scratch``."""
    if step == 1:
        return flat[offset + start : offset + stop]
    for i in range(stop - start):
        scratch[i] = flat[offset + (start + i) * step]
    return scratch[: stop - start]


@helper
def first_look(row, unit):
    """Smallest and largest ``order``, and the first limb of the sum."""
    low = order(row[0])
    high = low
    total = np.uint64(0)
    for i in range(row.size):
        now = order(row[i])
        low = min(low, now)
        high = max(high, now)
        total += float64_bits(scaled(widen(row[i]), 1.0, unit) + MAGIC)
    return low, high, np.int64(total - np.uint64(row.size) * MAGIC_BITS)


@helper
def first_limb_above(row, t, lift, unit):
    total = np.uint64(0)
    count = np.int64(0)
    nothing = t - t
    for i in range(row.size):
        value = widen(row[i])
        chosen = value > t
        total += float64_bits(scaled(value if chosen else nothing, lift, unit) + MAGIC)
        count += chosen
    return np.int64(total - np.uint64(row.size) * MAGIC_BITS), np.int64(0), count


@helper
def both_limbs_above(row, t, lift, unit):
    total = np.uint64(0)
    rest = np.uint64(0)
    count = np.int64(0)
    nothing = t - t
    for i in range(row.size):
        value = widen(row[i])
        chosen = value > t
        exact = scaled(value if chosen else nothing, lift, unit)
        shifted = exact + MAGIC
        total += float64_bits(shifted)
        rest += float64_bits((exact - (shifted - MAGIC)) * unit + MAGIC)
        count += chosen
    many = np.uint64(row.size) * MAGIC_BITS
    return np.int64(total - many), np.int64(rest - many), count


@helper
def sum_above(row, t, lift, unit, limbs):
    """Integer sums and count of {p > t}."""
    if limbs == 1:
        return first_limb_above(row, t, lift, unit)
    return both_limbs_above(row, t, lift, unit)


@helper
def first_limb_chosen(row, chosen, lift, unit):
    total = np.uint64(0)
    count = np.int64(0)
    for i in range(row.size):
        total += float64_bits(scaled(widen(row[i]), lift, unit) * chosen[i] + MAGIC)
        count += chosen[i]
    return np.int64(total - np.uint64(row.size) * MAGIC_BITS), np.int64(0), count


@helper
def both_limbs_chosen(row, chosen, lift, unit):
    total = np.uint64(0)
    rest = np.uint64(0)
    count = np.int64(0)
    for i in range(row.size):
        exact = scaled(widen(row[i]), lift, unit) * chosen[i]
        shifted = exact + MAGIC
        total += float64_bits(shifted)
        rest += float64_bits((exact - (shifted - MAGIC)) * unit + MAGIC)
        count += chosen[i]
    many = np.uint64(row.size) * MAGIC_BITS
    return np.int64(total - many), np.int64(rest - many), count


@helper
def sum_chosen(row, chosen, lift, unit, limbs):
    """Integer sums and count of the pixels where ``chosen`` is 1 and not 0."""
    if limbs == 1:
        return first_limb_chosen(row, chosen, lift, unit)
    return both_limbs_chosen(row, chosen, lift, unit)


@helper
def add(sums, b, c, found):
    for i in range(3):
        sums[b, c, i] += found[i]


@helper
def value(found, lift, unit):
    """Sum as a float, rounded as ``ExactSum.value`` rounds it."""
    return (np.float64(found[1]) / unit + np.float64(found[0])) / unit / lift


@kernel
def totals(flat, offsets, step, part, rows, scale, out):
    """Extreme orders and unlifted integer sums of a part of the pixels of a range of rows."""
    unit, limbs = scale
    lows, highs, sums = out
    scratch = np.empty(PIECE, flat.dtype)
    classes = offsets.shape[1]
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            row = pixels(flat, offsets[b, c], step, begin, end, scratch)
            low, high, total = first_look(row, unit)
            lows[b, c] = min(lows[b, c], low)
            highs[b, c] = max(highs[b, c], high)
            if limbs == 1:
                sums[b, c, 0] += total
            else:
                add(sums, b, c, sum_above(row, cut(-1.0, flat), 1.0, unit, limbs))


@kernel
def finish_totals(flat, parts, unit, numbers):
    """Put parts together: expected volume, extremes; whether all values are probabilities."""
    lows, highs, sums = parts
    mu, lowest, peak = numbers
    valid = True
    for b in range(mu.shape[0]):
        for c in range(mu.shape[1]):
            low, high = lows[:, b, c].min(), highs[:, b, c].max()
            lowest[b, c], peak[b, c] = widen(ordered(low, flat)), widen(ordered(high, flat))
            valid &= (low >= 0) & (peak[b, c] <= 1)
            mu[b, c] = value(total_of(sums, b, c), 1.0, unit)
    return valid


@kernel
def finish(sums, scale, selected_sum, volume):
    """Put parts together: from integers to numbers."""
    unit, _, lift, _ = scale
    for b in range(sums.shape[1]):
        for c in range(sums.shape[2]):
            total = total_of(sums, b, c)
            selected_sum[b, c] = value(total, lift[b, c], unit)
            volume[b, c] = total[2]


@helper
def total_of(sums, b, c):
    first, second, count = np.int64(0), np.int64(0), np.int64(0)
    for part in range(sums.shape[0]):
        first += sums[part, b, c, 0]
        second += sums[part, b, c, 1]
        count += sums[part, b, c, 2]
    return first, second, count


@kernel
def above(flat, offsets, step, part, rows, threshold, scale, sums):
    """Integer sums over {p > threshold} of a part of the pixels of a range of rows."""
    unit, limbs, lift, peak = scale
    length = part[1] - part[0] if step == 1 else min(PIECE, part[1] - part[0])
    scratch = np.empty(0 if step == 1 else length, flat.dtype)
    classes = offsets.shape[1]
    for begin in range(part[0], part[1], length):
        end = min(begin + length, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            if threshold[b, c] < peak[b, c]:
                row = pixels(flat, offsets[b, c], step, begin, end, scratch)
                t = cut(threshold[b, c], flat)
                add(sums, b, c, sum_above(row, t, lift[b, c], unit, limbs))


@helper
def count_claims(flat, offsets, step, span, b, claim, peak, scratch, claims):
    """Per pixel, CLAIM + c summed over the classes c that claim it: one claimer can be read off."""
    size = span[1] - span[0]
    claims[:size] = 0
    for c in range(offsets.shape[1]):
        if claim[b, c] < peak[b, c]:
            row = pixels(flat, offsets[b, c], step, span[0], span[1], scratch)
            t = cut(claim[b, c], flat)
            code = CLAIM + np.uint32(c)
            for i in range(size):
                claims[i] += code if widen(row[i]) > t else np.uint32(0)


@helper
def add_pixel(sums, b, c, pixel, scale):
    """Add one pixel to the integers of a row."""
    unit, limbs, lift, _ = scale
    exact = scaled(widen(pixel), lift[b, c], unit)
    shifted = exact + MAGIC
    sums[b, c, 0] += np.int64(shifted - MAGIC)
    sums[b, c, 2] += 1
    if limbs == 2:
        sums[b, c, 1] += np.int64((exact - (shifted - MAGIC)) * unit + MAGIC - MAGIC)


@helper
def claimers(flat, offsets, step, span, b, claim, peak, scratch, sums, out):
    """Each pixel's only claimer, or NOBODY, or SEVERAL."""
    count_claims(flat, offsets, step, span, b, claim, peak, scratch, sums)
    for i in range(span[1] - span[0]):
        alone = np.int32(sums[i] - CLAIM) if sums[i] < 2 * CLAIM else np.int32(SEVERAL)
        out[i] = alone if sums[i] else np.int32(NOBODY)


@kernel
def claimed_once(flat, offsets, step, part, images, claim, scale, sums):
    """Integer sums over the pixels that one class of the image claims and no other."""
    scratch, codes = np.empty(BLOCK, flat.dtype), np.empty(BLOCK, np.uint32)
    claimer = np.empty(BLOCK, np.int32)
    for b in range(images[0], images[1]):
        for begin in range(part[0], part[1], BLOCK):
            span = (begin, min(begin + BLOCK, part[1]))
            claimers(flat, offsets, step, span, b, claim, scale[3], scratch, codes, claimer)
            for i in range(span[1] - span[0]):
                if claimer[i] >= 0:
                    pixel = flat[offsets[b, claimer[i]] + (begin + i) * step]
                    add_pixel(sums, b, claimer[i], pixel, scale)


@kernel
def measure(flat, offsets, step, part, images, labels, scale, sums):
    """Integer sums over each class's region in a label map."""
    for b in range(images[0], images[1]):
        for i in range(part[0], part[1]):
            c = labels[b, i]
            if (c >= 0) & (c < offsets.shape[1]):
                add_pixel(sums, b, c, flat[offsets[b, c] + i * step], scale)


@kernel
def within(flat, offsets, step, part, rows, masks, scale, sums):
    """Integer sums over the pixels in masks."""
    unit, limbs, lift, _ = scale
    scratch = np.empty(PIECE, flat.dtype)
    classes = offsets.shape[1]
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            row = pixels(flat, offsets[b, c], step, begin, end, scratch)
            add(sums, b, c, sum_chosen(row, masks[b, c, begin:end], lift[b, c], unit, limbs))


@kernel
def select(flat, offsets, step, part, rows, threshold, peak, masks):
    """Write {p > threshold}; every pixel of ``masks`` is written."""
    scratch = np.empty(PIECE, flat.dtype)
    classes = offsets.shape[1]
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            mask = masks[b, c, begin:end]
            if threshold[b, c] < peak[b, c]:
                row = pixels(flat, offsets[b, c], step, begin, end, scratch)
                t = cut(threshold[b, c], flat)
                for i in range(row.size):
                    mask[i] = widen(row[i]) > t
            else:
                mask[:] = 0


@kernel
def assign(flat, offsets, step, part, images, rule, peak, labels):
    """Write the label of every pixel under the rule: claim, eligible, then the gain's numbers."""
    claim, eligible, slope, offset, bend, void_index = rule
    scratch, codes = np.empty(BLOCK, flat.dtype), np.empty(BLOCK, np.uint32)
    claimer, undecided = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int64)
    claimed, best, winner = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for b in range(images[0], images[1]):
        for begin in range(part[0], part[1], BLOCK):
            span = (begin, min(begin + BLOCK, part[1]))
            size = span[1] - span[0]
            claimers(flat, offsets, step, span, b, claim, peak, scratch, codes, claimer)
            count = 0
            for i in range(size):
                labels[b, begin + i] = claimer[i] if claimer[i] >= 0 else void_index
                undecided[count] = i
                count += claimer[i] < 0
            if 2 * count > size:  # cheaper for all than gathered: only its claimer may win a pixel
                count = size  # that is claimed once
                for i in range(size):
                    undecided[i] = i
            for k in range(count):
                claimed[k] = claimer[undecided[k]] != NOBODY
                best[k], winner[k] = -np.inf, NOBODY
            places = undecided[:count]
            for c in range(offsets.shape[1]):
                if count and (claim[b, c] < peak[b, c] or eligible[b, c]):
                    row = chosen_pixels(flat, offsets[b, c], step, span, places, scratch)
                    gain = (slope[b, c], offset[b, c], bend[b, c])
                    free = -1.0 if eligible[b, c] else np.inf
                    bars = (np.float64(cut(claim[b, c], flat)), free)
                    compete(row, bars, gain, np.float64(c), claimed, winner, best)
            for k in range(count):
                if winner[k] != NOBODY:
                    labels[b, begin + places[k]] = np.int64(winner[k])


@helper
def chosen_pixels(flat, offset, step, span, places, scratch):
    """The pixels of the span at these places."""
    if places.size == span[1] - span[0]:
        return pixels(flat, offset, step, span[0], span[1], scratch)
    first = offset + span[0] * step
    for k in range(places.size):
        scratch[k] = flat[first + places[k] * step]
    return scratch[: places.size]


@helper
def compete(row, bars, gain, c, claimed, winner, best):
    """Give class c the pixels where it may win and gains more than the classes before it.

    It may win claimed pixels above its first bar, the others above its second. All numbers are 64
    bits wide: the loop vectorises without changes of width.
    """
    slope, offset, bend = gain
    claim, free = bars
    for i in range(row.size):
        p = np.float64(widen(row[i]))
        score = slope * p - offset
        if bend != 0:
            score /= 1 - bend * p
        bar = claim if claimed[i] != 0 else free
        wins = (p > bar) & (score > best[i])
        best[i] = score if wins else best[i]
        winner[i] = c if wins else winner[i]


@helper
def survivors(row, t, near):
    """Copy the pixels with p > t to ``near``; how many there are, -1 if it cannot hold them."""
    count = 0
    last = near.size - 1
    for i in range(row.size):
        near[count] = row[i]
        count += widen(row[i]) > t
        if count > last:
            return -1
    return count


@kernel
def maximise(flat, offsets, part, rows, ratio, totals, start, scale, room, out):
    """Dinkelbach's iteration, as in ``dinkelbach.py``, on a range of rows, one after the other.

    No cut is below the first value's, so the pixels above that one are copied and the sums made
    over the copy: a tenth to a third of the row in probabilities of many classes. A copy of
    ``room`` pixels has to hold them; otherwise every pass reads the whole row.
    """
    base, gain, width, price, overlap, rounding = ratio
    mu, active = totals
    unit, limbs, lift, peak = scale
    cuts, selected_sum, volume = out
    classes = offsets.shape[1]
    near = np.empty(room, flat.dtype)
    for r in range(rows[0], rows[1]):
        b, c = r // classes, r % classes
        if not active[b, c]:
            continue
        row = flat[offsets[b, c] + part[0] : offsets[b, c] + part[1]]
        terms = (base[b, c], gain, width[b, c], price, overlap)
        best = max(fraction(terms, 0.0, 0), fraction(terms, mu[b, c], row.size))
        lowest = price * best / (gain + overlap * best)
        threshold = (lowest + peak[b, c] / 2) / 2 if np.isnan(start[b, c]) else start[b, c]
        few = survivors(row, cut(min(lowest, threshold), flat), near)
        if few >= 0:
            row = near[:few]
        rising, first = True, True
        while rising:
            found = (np.int64(0), np.int64(0), np.int64(0))
            if threshold < peak[b, c]:
                found = sum_above(row, cut(threshold, flat), lift[b, c], unit, limbs)
            total = value(found, lift[b, c], unit)
            now = fraction(terms, total, found[2])
            rising = now > best or first
            if first or now >= best * (1 - rounding):
                cuts[b, c], selected_sum[b, c], volume[b, c] = threshold, total, found[2]
                best = max(best, now)
            threshold = price * best / (gain + overlap * best)
            first = False


@helper
def fraction(terms, total, count):
    """Value of a ratio, 0/0 = 0; ``LinearFractional.value`` of one region."""
    base, gain, width, price, overlap = terms
    denominator = width + price * count - overlap * total
    return (base + gain * total) / (1.0 if denominator == 0 else denominator)
