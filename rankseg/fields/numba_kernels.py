"""Compiled passes over the pixels, in numba, for ``numba_cpu.py``; ``tensor.py`` defines them.

Every pass adds the integers of ``exact_sum.py``, so its numbers equal the plain-torch field's bit
for bit. A probability is added to 1.5 x 2^12, whose unit in the last place is 2^-40: the addition
rounds to the nearest multiple and leaves it in the low bits, where integer addition takes it from.
That needs no conversion instruction, so the loops vectorise. A pixel that is left out counts as
-2^11, so the same sum tells how many there were.

``memory`` is one flat array, each row's offset in it, the step between a row's pixels, and how
values become probabilities: None where they are, else what softmax or sigmoid need. Rows without a
step are read where they lie; others, and logits, piece by piece through ``scratch``.

All functions stay in this one file: numba's cache notices changes of the file it compiles, only.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from rankseg.fields.base import NOTHING
from rankseg.fields.dinkelbach import LONG, ROUNDING, SAMPLE
from rankseg.fields.exact_sum import SMALL_PEAK
from rankseg.fields.kernel_cache import cached, undisturbed

BLOCK = 2048
"""Pixels looked at together with all their classes: 19 classes of float32 are 152 KiB."""

PIECE = 4096
"""Pixels of one row looked at twice while they are in the nearest cache."""

MAGIC = 1.5 * 2.0**52
MAGIC_BITS = np.float64(MAGIC).view(np.uint64)
LEFT_OUT = -(2.0**51)
CHUNK = 1024
"""Fewer than 2^11 pixels of less than 2^40 units each leave the 2^51s of the others countable."""

HALF_SCALE = np.float32(2.0**112)
SIGMOID, SOFTMAX, SOFTMAX_OF_TWO = 0, 1, 2
NOBODY = -1
SEVERAL = -2
CLAIM = np.uint32(1 << 16)
LEAST = np.float32(-87.0)
ROUND32 = np.float32(1.5 * 2.0**23)
EXPONENT = np.int32(127 - 0x4B400000)
MOST_CLASSES = 1 << 15
"""Claims of so many classes can be added up in 32 bits."""

FEW_CLASSES = 8
"""So few are summed class by class in vectors, faster than pixel by pixel without."""

FEW = 256
"""Pixels put in bins together; where none lies in the window, vectors have looked at all."""

RUN = 16
"""Pixels of a sample that stand together: a line of the cache in float32."""

STORED = {torch.float16: np.uint16, torch.bfloat16: np.int16}
"""The half types, which numba has not, come as their bits."""

ORDER = {
    np.float64: np.iinfo(np.int64),
    np.float32: np.iinfo(np.int32),
    np.uint16: np.iinfo(np.int16),
    np.int16: np.iinfo(np.int16),
}
"""Integers that order the pixels, by the type these are stored in."""

helper = njit(nogil=True, error_model="numpy")


def kernel(function):
    """Compile once for all processes; for this one only where no folder can be written."""
    return undisturbed(cached(helper(function)))


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


@intrinsic
def fma(context, a, b, c):
    """A * b + c in float32, rounded once."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


def widen(x):
    """Value of a stored pixel: float32 or float64. uint16 holds float16, int16 holds bfloat16."""


@overload(widen)
def _widen(x):
    if x == types.uint16:
        return widen_half
    if x == types.int16:
        return lambda x: as_float32(np.int32(x) << 16)
    return lambda x: x


def widen_half(x):
    # Shifts exponent and fraction into place; the scale sets the bias right, but for inf and NaN.
    bits = (np.int32(x & 0x8000) << 16) | (np.int32(x & 0x7FFF) << 13)
    finite = as_float32(bits) * HALF_SCALE
    return as_float32(bits | np.int32(0x7F800000)) if x & 0x7C00 == 0x7C00 else finite


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


def pixels(memory, b, c, start, stop, scratch):
    """Pixels start..stop of a row, as ``widen`` takes them."""


@overload(pixels)
def _pixels(memory, b, c, start, stop, scratch):
    return stored_pixels if memory[3] == types.none else activated_pixels


def stored_pixels(memory, b, c, start, stop, scratch):
    flat, offsets, step, _ = memory
    if step == 1:
        return flat[offsets[b, c] + start : offsets[b, c] + stop]
    first = offsets[b, c] + start * step
    for i in range(stop - start):
        scratch[i] = flat[first + i * step]
    return scratch[: stop - start]


def activated_pixels(memory, b, c, start, stop, scratch):
    rule, top, share = memory[3]
    row = scratch[: stop - start]
    raw_pixels(memory, b, c, start, stop, row)
    if rule == SOFTMAX:
        largest, part = top[b, start:stop], share[b, start:stop]
        for i in range(row.size):
            row[i] = exponential(row[i] - largest[i]) * part[i]
        return row
    if rule == SOFTMAX_OF_TWO:
        other = np.empty_like(row)
        raw_pixels(memory, b, 1 - c, start, stop, other)
        for i in range(row.size):
            top = max(row[i], other[i])
            row[i] = row[i] - other[i] + (top - top)  # NaN where the softmax is: no finite logit
    for i in range(row.size):
        row[i] = logistic(row[i])
    return row


@helper
def raw_pixels(memory, b, c, start, stop, row):
    """Copy the values of pixels start..stop as they are, widened."""
    flat, offsets, step, _ = memory
    first = offsets[b, c] + start * step
    if step == 1:
        near = flat[first : first + stop - start]
        for i in range(row.size):
            row[i] = widen(near[i])
    else:
        for i in range(row.size):
            row[i] = widen(flat[first + i * step])


def own_pixels(memory, b, classes, span, scratch):
    """Each pixel's probability of its own class; of no meaning where that is negative."""


@overload(own_pixels)
def _own_pixels(memory, b, classes, span, scratch):
    return own_stored_pixels if memory[3] == types.none else own_activated_pixels


def own_stored_pixels(memory, b, classes, span, scratch):
    flat, offsets, step, _ = memory
    for i in range(span[1] - span[0]):
        scratch[i] = flat[offsets[b, max(0, classes[i])] + (span[0] + i) * step]
    return scratch[: span[1] - span[0]]


def own_activated_pixels(memory, b, classes, span, scratch):
    flat, offsets, step, (rule, top, share) = memory
    row = scratch[: span[1] - span[0]]
    for i in range(row.size):
        c = max(0, classes[i])
        place = (span[0] + i) * step
        row[i] = widen(flat[offsets[b, c] + place])
        if rule == SOFTMAX_OF_TWO:
            row[i] -= widen(flat[offsets[b, 1 - c] + place])  # checked by the totals
    if rule == SOFTMAX:
        largest, part = top[b, span[0] : span[1]], share[b, span[0] : span[1]]
        for i in range(row.size):
            row[i] = exponential(row[i] - largest[i]) * part[i]
    else:
        for i in range(row.size):
            row[i] = logistic(row[i])
    return row


def piece(memory, part):
    """Pixels of a row to look at together: all of them, where nothing has to be copied."""


@overload(piece)
def _piece(memory, part):
    if memory[3] == types.none:
        return lambda memory, part: PIECE if memory[2] != 1 else max(1, part[1] - part[0])
    return lambda memory, part: PIECE


def room_for(memory, size):
    """Scratch for so many pixels of a row."""


@overload(room_for)
def _room_for(memory, size):
    if memory[3] == types.none:
        return lambda memory, size: np.empty(size, memory[0].dtype)
    if memory[0].dtype == types.float64:
        return lambda memory, size: np.empty(size, np.float64)
    return lambda memory, size: np.empty(size, np.float32)


def exponential(x):
    """e^x for x <= 0, 0 below -87 in float32 (the smallest normal number); NaN stays."""


@overload(exponential)
def _exponential(x):
    if x == types.float64:
        return lambda x: math.exp(x)
    return exponential32


def exponential32(x):
    # Cephes' expf: e^x = 2^n e^r, |r| <= ln(2)/2. The fused products are the same on every machine.
    y = x if x > LEAST else LEAST
    shifted = fma(y, np.float32(1.4426950408889634), ROUND32)
    n = shifted - ROUND32
    r = fma(n, np.float32(2.12194440e-4), fma(n, np.float32(-0.693359375), y))
    q = fma(np.float32(1.9875691500e-4), r, np.float32(1.3981999507e-3))
    q = fma(fma(q, r, np.float32(8.3334519073e-3)), r, np.float32(4.1665795894e-2))
    q = fma(fma(q, r, np.float32(1.6666665459e-1)), r, np.float32(5.0000001201e-1))
    e = fma(q * r, r, r) + np.float32(1)
    power = as_float32((float32_order(shifted) + EXPONENT) << 23)
    return np.float32(0) if x < LEAST else e * power + (x - x)


@helper
def logistic(x):
    e = exponential(-abs(x))
    return (type_of(x, 1) if x >= 0 else e) / (type_of(x, 1) + e)


def type_of(x, number):
    """The number in the type of x."""


@overload(type_of)
def _type_of(x, number):
    kind = np.float64 if x == types.float64 else np.float32
    return lambda x, number: kind(number)


@kernel
def normalise(memory, part, images, out):
    """What softmax needs at each pixel: the largest logit, 1 over the sum of exponentials."""
    top, share = out
    scratch = np.empty(BLOCK, top.dtype)
    for b in range(images[0], images[1]):
        for begin in range(part[0], part[1], BLOCK):
            end = min(begin + BLOCK, part[1])
            largest, total, row = top[b, begin:end], share[b, begin:end], scratch[: end - begin]
            raw_pixels(memory, b, 0, begin, end, largest)
            for c in range(1, memory[1].shape[1]):
                raw_pixels(memory, b, c, begin, end, row)
                for i in range(row.size):
                    largest[i] = row[i] if row[i] > largest[i] else largest[i]
            total[:] = 0
            for c in range(memory[1].shape[1]):
                raw_pixels(memory, b, c, begin, end, row)
                for i in range(row.size):
                    total[i] += exponential(row[i] - largest[i])
            for i in range(row.size):
                total[i] = type_of(total[i], 1) / total[i]


@helper
def first_look(row, unit):
    """Smallest and largest ``order``, and the first limb of the sum."""
    low = order(row[0])
    high = low
    magic = MAGIC / unit
    total = np.uint64(0)
    for i in range(row.size):
        now = order(row[i])
        low, high = min(low, now), max(high, now)
        total += float64_bits(np.float64(widen(row[i])) + magic)
    return low, high, np.int64(total - np.uint64(row.size) * float64_bits(magic))


@helper
def first_limb_above(row, t, lift, unit):
    magic = MAGIC / (lift * unit)
    left_out = type_of(t, LEFT_OUT / (lift * unit))
    first, count = np.int64(0), np.int64(0)
    for begin in range(0, row.size, CHUNK):
        near = row[begin : begin + CHUNK]
        total = np.uint64(0)
        for i in range(near.size):
            value = widen(near[i])
            total += float64_bits(np.float64(value if value > t else left_out) + magic)
        found, chosen = sum_and_count(total, near.size, magic)
        first, count = first + found, count + chosen
    return first, np.int64(0), count


@helper
def first_limb_chosen(row, chosen, lift, unit):
    magic = MAGIC / (lift * unit)
    left_out = LEFT_OUT / (lift * unit)
    first, count = np.int64(0), np.int64(0)
    for begin in range(0, row.size, CHUNK):
        near, wanted = row[begin : begin + CHUNK], chosen[begin : begin + CHUNK]
        total = np.uint64(0)
        for i in range(near.size):
            value = np.float64(widen(near[i]))
            total += float64_bits((value if wanted[i] else left_out) + magic)
        found, number = sum_and_count(total, near.size, magic)
        first, count = first + found, count + number
    return first, np.int64(0), count


@helper
def sum_and_count(total, size, magic):
    """Take apart a total in which pixels that are left out counted -2^51."""
    found = np.int64(total - np.uint64(size) * float64_bits(magic))
    left_out = -(found >> 51)
    return found + (left_out << 51), size - left_out


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
    if limbs == 1:
        return first_limb_above(row, t, lift, unit)
    return both_limbs_above(row, t, lift, unit)


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
def copy_row(memory, part, row, out):
    """Write down the probabilities of one row."""
    scratch = room_for(memory, PIECE)
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        found = pixels(memory, row[0], row[1], begin, end, scratch)
        for i in range(found.size):
            out[begin + i] = widen(found[i])


@kernel
def totals(memory, part, rows, scale, out):
    """Extreme orders and unlifted integer sums of a part of the pixels of a range of rows."""
    unit, limbs = scale
    lows, highs, sums = out
    scratch = room_for(memory, PIECE)
    classes = memory[1].shape[1]
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            row = pixels(memory, b, c, begin, end, scratch)
            low, high, total = first_look(row, unit)
            lows[b, c] = min(lows[b, c], low)
            highs[b, c] = max(highs[b, c], high)
            if limbs == 1:
                sums[b, c, 0] += total
            else:
                add(sums, b, c, sum_above(row, cut(-1.0, scratch), 1.0, unit, limbs))


@kernel
def finish_totals(memory, parts, unit, numbers):
    """Put parts together: expected volume, extremes; whether all values are probabilities."""
    lows, highs, sums = parts
    mu, lowest, peak = numbers
    like = room_for(memory, 0)
    valid = True
    for b in range(mu.shape[0]):
        for c in range(mu.shape[1]):
            low, high = lows[:, b, c].min(), highs[:, b, c].max()
            lowest[b, c], peak[b, c] = widen(ordered(low, like)), widen(ordered(high, like))
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
def above(memory, part, rows, threshold, scale, sums):
    """Integer sums over {p > threshold} of a part of the pixels of a range of rows."""
    unit, limbs, lift, peak = scale
    scratch = room_for(memory, PIECE)
    classes = memory[1].shape[1]
    length = piece(memory, part)
    for begin in range(part[0], part[1], length):
        end = min(begin + length, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            if threshold[b, c] < peak[b, c]:
                row = pixels(memory, b, c, begin, end, scratch)
                t = cut(threshold[b, c], scratch)
                add(sums, b, c, sum_above(row, t, lift[b, c], unit, limbs))


@helper
def count_claims(memory, span, b, claim, peak, scratch, claims):
    """Per pixel, CLAIM + c summed over the classes c that claim it: one claimer can be read off."""
    size = span[1] - span[0]
    claims[:size] = 0
    for c in range(memory[1].shape[1]):
        if claim[b, c] < peak[b, c]:
            row = pixels(memory, b, c, span[0], span[1], scratch)
            t = cut(claim[b, c], scratch)
            code = CLAIM + np.uint32(c)
            for i in range(size):
                claims[i] += code if widen(row[i]) > t else np.uint32(0)


@helper
def claimers(memory, span, b, claim, peak, scratch, codes, out):
    """Each pixel's only claimer, or NOBODY, or SEVERAL."""
    count_claims(memory, span, b, claim, peak, scratch, codes)
    for i in range(span[1] - span[0]):
        alone = np.int32(codes[i] - CLAIM) if codes[i] < 2 * CLAIM else np.int32(SEVERAL)
        out[i] = alone if codes[i] else np.int32(NOBODY)


@kernel
def claimed_once(memory, part, images, claim, scale, sums):
    """Integer sums over the pixels that one class of the image claims and no other."""
    scratch, codes = room_for(memory, BLOCK), np.empty(BLOCK, np.uint32)
    claimer = np.empty(BLOCK, np.int32)
    for b in range(images[0], images[1]):
        for begin in range(part[0], part[1], BLOCK):
            span = (begin, min(begin + BLOCK, part[1]))
            claimers(memory, span, b, claim, scale[3], scratch, codes, claimer)
            add_regions(memory, span, b, claimer, scale, scratch, sums)


@kernel
def measure(memory, part, images, labels, scale, sums):
    """Integer sums over each class's region in a label map."""
    scratch, classes = room_for(memory, BLOCK), np.empty(BLOCK, np.int32)
    for b in range(images[0], images[1]):
        for begin in range(part[0], part[1], BLOCK):
            span = (begin, min(begin + BLOCK, part[1]))
            known_classes(labels[b, span[0] : span[1]], memory[1].shape[1], classes)
            add_regions(memory, span, b, classes, scale, scratch, sums)


@helper
def known_classes(labels, count, classes):
    """Classes that labels name; NOBODY where they name none."""
    for i in range(labels.size):
        known = (labels[i] >= 0) & (labels[i] < count)
        classes[i] = labels[i] if known else NOBODY


@helper
def add_regions(memory, span, b, classes, scale, scratch, sums):
    """Add the pixels of a span, each of the class given if that is not negative."""
    if apart(memory):
        add_classes(memory, span, b, classes, scale, scratch, sums)
    else:
        add_pixels(sums, b, classes, own_pixels(memory, b, classes, span, scratch), scale)


def apart(memory):
    """Whether regions are summed class by class: few classes, whose pixels cost nothing to read."""


@overload(apart)
def _apart(memory):
    if memory[3] == types.none:
        return lambda memory: memory[1].shape[1] <= FEW_CLASSES
    return lambda memory: False


@helper
def add_classes(memory, span, b, classes, scale, scratch, sums):
    """Add the pixels of each class in turn."""
    unit, limbs, lift, _ = scale
    chosen = np.empty(BLOCK, np.uint8)
    for c in range(memory[1].shape[1]):
        for i in range(span[1] - span[0]):
            chosen[i] = classes[i] == c
        row = pixels(memory, b, c, span[0], span[1], scratch)
        add(sums, b, c, sum_chosen(row, chosen[: row.size], lift[b, c], unit, limbs))


@helper
def add_pixels(sums, b, classes, row, scale):
    """Add each pixel to the integers of its class, if it has one."""
    unit, limbs, lift, _ = scale
    for i in range(row.size):
        c = classes[i]
        if c >= 0:
            exact = scaled(widen(row[i]), lift[b, c], unit)
            shifted = exact + MAGIC
            sums[b, c, 0] += np.int64(shifted - MAGIC)
            sums[b, c, 2] += 1
            if limbs == 2:
                sums[b, c, 1] += np.int64((exact - (shifted - MAGIC)) * unit + MAGIC - MAGIC)


@kernel
def histogram(memory, classes, unit, counts, sums):
    """Count the pixels of a range of classes in equal bins of [0, 1] and add their integers up."""
    scratch, bins = room_for(memory, PIECE), counts.shape[1]
    images, size = memory[1].shape[0], scratch.size
    for c in range(classes[0], classes[1]):
        for b in range(images):
            for begin in range(0, classes[2], size):
                row = pixels(memory, b, c, begin, min(begin + size, classes[2]), scratch)
                for i in range(row.size):
                    p = np.float64(widen(row[i]))
                    place = max(0, np.int64(math.ceil(p * bins)) - 1)
                    counts[c, place] += 1
                    sums[c, place] += np.int64(p * unit + MAGIC - MAGIC)


@kernel
def spread(memory, part, row, window, found):
    """Count the pixels of a part of a row in the bins of a window and add their integers up."""
    low, scale, unit = window
    scratch, bins = room_for(memory, PIECE), np.float64(found.shape[0])
    places, integers = np.empty(FEW, np.int32), np.empty(FEW, np.int64)
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        values = pixels(memory, row[0], row[1], begin, end, scratch)
        for first in range(0, values.size, FEW):
            near = values[first : first + FEW]
            if find_bins(near, low, scale, unit, bins, places, integers):
                for i in range(near.size):
                    if places[i] >= 0:
                        at = np.uint32(places[i])
                        found[at, 0] += 1
                        found[at, 1] += integers[i]


@helper
def find_bins(near, low, scale, unit, bins, places, integers):
    """Bin of each pixel, -1 outside the window, and its integer; how many are inside."""
    inside = np.int64(0)
    for i in range(near.size):
        place = (np.float64(widen(near[i])) - low) * scale
        within = (place > 0) & (place <= 1)
        place = place if within else 0.0
        places[i] = np.int32(math.ceil(place * bins)) - np.int32(1)
        integers[i] = np.int64(float64_bits(place * unit + MAGIC) - MAGIC_BITS)
        inside += within
    return inside


@kernel
def within(memory, part, rows, masks, scale, sums):
    """Integer sums over the pixels in masks."""
    unit, limbs, lift, _ = scale
    scratch = room_for(memory, PIECE)
    classes = memory[1].shape[1]
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            row = pixels(memory, b, c, begin, end, scratch)
            add(sums, b, c, sum_chosen(row, masks[b, c, begin:end], lift[b, c], unit, limbs))


@kernel
def select(memory, part, rows, threshold, peak, masks):
    """Write {p > threshold}; every pixel of ``masks`` is written."""
    scratch = room_for(memory, PIECE)
    classes = memory[1].shape[1]
    for begin in range(part[0], part[1], PIECE):
        end = min(begin + PIECE, part[1])
        for r in range(rows[0], rows[1]):
            b, c = r // classes, r % classes
            mask = masks[b, c, begin:end]
            if threshold[b, c] < peak[b, c]:
                row = pixels(memory, b, c, begin, end, scratch)
                t = cut(threshold[b, c], scratch)
                write_mask(row, t, mask)
            else:
                mask[:] = 0


@helper
def write_mask(row, t, mask):
    for i in range(row.size):
        mask[i] = widen(row[i]) > t


@kernel
def assign(memory, part, images, rule, peak, labels):
    """Write the label of every pixel under the rule."""
    scratch, room = room_for(memory, BLOCK), room_to_assign()
    for b in range(images[0], images[1]):
        for begin in range(part[0], part[1], BLOCK):
            span = (begin, min(begin + BLOCK, part[1]))
            label(memory, span, b, rule, peak, scratch, room, labels[b, span[0] : span[1]])


@kernel
def regions(memory, part, images, rule, scale, sums):
    """Integer sums over each class's region under the rule."""
    scratch, room = room_for(memory, BLOCK), room_to_assign()
    labels, classes = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int32)
    for b in range(images[0], images[1]):
        for begin in range(part[0], part[1], BLOCK):
            span = (begin, min(begin + BLOCK, part[1]))
            size = span[1] - span[0]
            label(memory, span, b, rule, scale[3], scratch, room, labels[:size])
            known_classes(labels[:size], memory[1].shape[1], classes)
            if somebody_claims(b, rule[0], scale[3]):
                add_regions(memory, span, b, classes, scale, scratch, sums)
            else:
                add_pixels(sums, b, classes, room[0][2][:size], scale)


@helper
def room_to_assign():
    """Scratch of ``label``: for the competition, for its contestants."""
    codes, claimer = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.int32)
    undecided, claimed = np.empty(BLOCK, np.int64), np.empty(BLOCK)
    return (np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)), (codes, claimer, undecided, claimed)


@helper
def label(memory, span, b, rule, peak, scratch, room, labels):
    """Write the labels of a span under the rule: claim, eligible, then the gain's numbers."""
    claim, eligible, slope, offset, bend, void_index = rule
    (winner, best, _), (codes, claimer, undecided, claimed) = room
    if not somebody_claims(b, claim, peak):
        win_freely(memory, span, b, rule, scratch, room[0])
        for i in range(labels.size):
            labels[i] = void_index if winner[i] == NOBODY else np.int64(winner[i])
        return
    claimers(memory, span, b, claim, peak, scratch, codes, claimer)
    count = 0
    for i in range(labels.size):
        labels[i] = claimer[i] if claimer[i] >= 0 else void_index
        undecided[count] = i
        count += claimer[i] < 0
    if 2 * count > labels.size:  # cheaper for all than gathered: only its claimer may win a pixel
        count = labels.size  # that is claimed once
        for i in range(labels.size):
            undecided[i] = i
    for k in range(count):
        claimed[k] = claimer[undecided[k]] != NOBODY
        best[k], winner[k] = -np.inf, NOBODY
    places = undecided[:count]
    for c in range(memory[1].shape[1]):
        if count and (claim[b, c] < peak[b, c] or eligible[b, c]):
            row = chosen_pixels(memory, b, c, span, places, scratch)
            gain = (slope[b, c], offset[b, c], bend[b, c])
            free = -1.0 if eligible[b, c] else np.inf
            bars = (np.float64(cut(claim[b, c], scratch)), free)
            compete(row, bars, gain, np.float64(c), claimed, winner, best)
    for k in range(count):
        if winner[k] != NOBODY:
            labels[places[k]] = np.int64(winner[k])


@helper
def somebody_claims(b, claim, peak):
    found = False
    for c in range(claim.shape[1]):
        found |= claim[b, c] < peak[b, c]
    return found


@helper
def win_freely(memory, span, b, rule, scratch, room):
    """Winner of every pixel of a span that no class claims, and its probability of that class."""
    _, eligible, slope, offset, bend, _ = rule
    winner, best, own = room
    winner[:], best[:], own[:] = NOBODY, -np.inf, 0.0
    for c in range(memory[1].shape[1]):
        if eligible[b, c]:
            row = pixels(memory, b, c, span[0], span[1], scratch)
            gain = (slope[b, c], offset[b, c], bend[b, c])
            compete_freely(row, gain, np.float64(c), winner, best, own)


@helper
def compete_freely(row, gain, c, winner, best, own):
    """As ``compete``, for pixels that nobody claims; keeps the winners' probabilities, too."""
    slope, offset, bend = gain
    if bend == 0:  # two loops: a branch within would keep them from being vectorised
        for i in range(row.size):
            p = np.float64(widen(row[i]))
            score = slope * p - offset
            wins = score > best[i]
            best[i] = score if wins else best[i]
            winner[i] = c if wins else winner[i]
            own[i] = p if wins else own[i]
    else:
        for i in range(row.size):
            p = np.float64(widen(row[i]))
            score = (slope * p - offset) / (1 - bend * p)
            wins = score > best[i]
            best[i] = score if wins else best[i]
            winner[i] = c if wins else winner[i]
            own[i] = p if wins else own[i]


@helper
def chosen_pixels(memory, b, c, span, places, scratch):
    """The pixels of the span at these places, which rise."""
    row = pixels(memory, b, c, span[0], span[1], scratch)
    if places.size == row.size:
        return row
    for k in range(places.size):
        scratch[k] = row[places[k]]
    return scratch[: places.size]


@helper
def compete(row, bars, gain, c, claimed, winner, best):
    """Give class c the pixels where it may win and gains more than the classes before it.

    It may win claimed pixels above its first bar, the others above its second. All numbers are 64
    bits wide: the loop vectorises without changes of width.
    """
    slope, offset, bend = gain
    claim, free = bars
    if bend == 0:
        for i in range(row.size):
            p = np.float64(widen(row[i]))
            score = slope * p - offset
            bar = claim if claimed[i] != 0 else free
            wins = (p > bar) & (score > best[i])
            best[i] = score if wins else best[i]
            winner[i] = c if wins else winner[i]
    else:
        for i in range(row.size):
            p = np.float64(widen(row[i]))
            score = (slope * p - offset) / (1 - bend * p)
            bar = claim if claimed[i] != 0 else free
            wins = (p > bar) & (score > best[i])
            best[i] = score if wins else best[i]
            winner[i] = c if wins else winner[i]


@kernel
def search(memory, part, rows, ratio, scale, out):
    """All that a mask needs, row by row while the row is near: totals, best cut, region, mask.

    Rows whose peak is at most the limit of their class are not searched. ``masks`` may be empty. A
    row with a value that is no probability has ``valid`` 0 and means nothing.
    """
    base, gain, weight, shift, extra, price, overlap, limit = ratio
    unit, limbs = scale
    numbers, cuts, selected_sum, volume, masks, valid = out
    classes, size = memory[1].shape[1], part[1] - part[0]
    near, scratch = room_for_row(memory, size), room_for(memory, SAMPLE)
    for r in range(rows[0], rows[1]):
        b, c = r // classes, r % classes
        row = whole_row(memory, b, c, part, near)
        low, high, first = first_look(row, unit)
        lowest, peak = np.float64(widen(ordered(low, row))), np.float64(widen(ordered(high, row)))
        numbers[1, b, c], numbers[2, b, c] = lowest, peak
        valid[b, c] = (low >= 0) & (peak <= 1)
        units = (lift_of(peak, row), unit, limbs)
        found = (first, np.int64(0), size)
        if limbs == 2 or units[0] != 1:
            found = sum_above(row, cut(-1.0, row), units[0], unit, limbs)
        mu = numbers[0, b, c] = value(found, units[0], unit)
        best = (NOTHING, 0.0, np.int64(0))
        if peak > limit[c] and valid[b, c]:
            terms = (base, gain, weight * (mu + shift) + extra, price, overlap)
            best = maximum(row, mu, peak, terms, units, scratch)
        cuts[b, c], selected_sum[b, c], volume[b, c] = best
        if masks.size:
            mask = masks[b, c, part[0] : part[1]]
            if best[2]:
                write_mask(row, cut(best[0], row), mask)
            else:
                mask[:] = 0


def room_for_row(memory, size):
    """Room for a row that cannot be read in place."""


@overload(room_for_row)
def _room_for_row(memory, size):
    if memory[3] == types.none:
        return lambda memory, size: room_for(memory, 0)
    return lambda memory, size: room_for(memory, size)


def whole_row(memory, b, c, part, near):
    """A part of a row's pixels, in ``near`` where they cannot be read in place."""


@overload(whole_row)
def _whole_row(memory, b, c, part, near):
    if memory[3] == types.none:
        return lambda memory, b, c, part, near: pixels(memory, b, c, part[0], part[1], near)

    def copied(memory, b, c, part, near):
        for begin in range(part[0], part[1], PIECE):
            end = min(begin + PIECE, part[1])
            pixels(memory, b, c, begin, end, near[begin - part[0] :])
        return near[: part[1] - part[0]]

    return copied


@helper
def maximum(row, mu, peak, terms, units, scratch):
    """Cut, sum and count of the region with the largest value of a ratio, in a row at hand.

    A sample of a long row tells where to begin; the result does not depend on it.
    """
    base, gain, width, price, overlap = terms
    if width == 0:  # a mean: largest over the largest pixels, as in ``dinkelbach.py``
        threshold = np.nextafter(peak, 0.0)
        found = sum_above(row, cut(threshold, row), units[0], units[1], units[2])
        return threshold, value(found, units[0], units[1]), found[2]
    best = max(fraction(terms, 0.0, 0), fraction(terms, mu, row.size))
    threshold = (next_cut(terms, best) + peak / 2) / 2
    few = sample(row, scratch)
    if few.size and mu >= 1:
        share = few.size / row.size
        scaled_down = (base * share, gain, width * share, price, overlap)
        threshold = climb(few, peak, scaled_down, best, threshold, units)[1]
    return climb(row, peak, terms, best, threshold, units)[0]


@helper
def sample(row, scratch):
    """Runs of pixels, a line of the cache each, from all over a long row; nothing of a short one.

    Their distance is an odd number of runs, so that they do not stand in a column of an image.
    """
    if row.size < LONG:
        return scratch[:0]
    every = row.size // SAMPLE + 1 | 1
    size = 0
    for begin in range(0, row.size - RUN * every, RUN * every):
        for i in range(RUN):
            scratch[size + i] = row[begin + i]
        size += RUN
    return scratch[:size]


@helper
def climb(row, peak, terms, best, threshold, units):
    """Dinkelbach's iteration, as in ``dinkelbach.py``: the optimum, and the cut at its value."""
    lift, unit, limbs = units
    chosen = (threshold, 0.0, np.int64(0))
    rising, first = True, True
    while rising:
        found = (np.int64(0), np.int64(0), np.int64(0))
        if threshold < peak:
            found = sum_above(row, cut(threshold, row), lift, unit, limbs)
        total = value(found, lift, unit)
        now = fraction(terms, total, found[2])
        rising = now > best or first
        if first or now >= best * (1 - ROUNDING):
            chosen, best = (threshold, total, found[2]), max(best, now)
        threshold = next_cut(terms, best)
        first = False
    return chosen, threshold


@helper
def fraction(terms, total, count):
    """Value of a ratio, 0/0 = 0; ``LinearFractional.value`` of one region."""
    base, gain, width, price, overlap = terms
    denominator = width + price * count - overlap * total
    return (base + gain * total) / (1.0 if denominator == 0 else denominator)


@helper
def next_cut(terms, best):
    """Probability above which a pixel pays at this value; ``LinearFractional.cut``."""
    _, gain, _, price, overlap = terms
    return price * best / (gain + overlap * best)


@helper
def lift_of(peak, like):
    """Power of two that brings a small peak into [1/2, 1), else 1; as ``exact_sum.py`` has it."""
    if not 0 < peak < SMALL_PEAK:
        return 1.0
    return math.ldexp(1.0, min(-math.frexp(peak)[1], largest_lift(like)))


def largest_lift(like):
    """Exponent of the largest power of two that the pixels' type holds with its inverse."""


@overload(largest_lift)
def _largest_lift(like):
    return (lambda like: 1022) if like.dtype == types.float64 else (lambda like: 126)
