"""MinHash signatures of documents, and which documents are nearly the same as an earlier one.

Similarity is that of Jaccard between the sets of runs of words (`SHINGLES`). One-permutation hashing (Li, Owen and
Zhang 2012): each run falls into one of `BINS` bins, and a bin keeps its smallest hash; the signature of a document that
is read in parts is the minimum of its parts'. For comparison empty bins borrow from others (optimal densification,
Shrivastava 2017) and eight bits of each are kept, 64 bytes a document: two signatures agree in a bin with probability
J + (1 - J) / 256.

Documents are compared where all bins of a band of four agree, in one band of sixteen at least: at J = 0.8 all but
0.02% of the pairs, at 0.6 all but 11%. They count as near-duplicates if the similarity that the bins say reaches the
threshold. Its standard error is at most sqrt(J (1 - J) / 64), 0.05 at J = 0.8. Found of 400 pairs of documents of 1,000
words at threshold 0.8, by true J: none at 0.5, 0.3% at 0.6, 3% at 0.7, 15% at 0.75, 46% at 0.8, 88% at 0.85, 99% at
0.9, all at 0.95.
"""

import numpy as np
from numba import njit

from xtoken_core.text.ngrams import Run, ngrams
from xtoken_core.text.words import Words

SHINGLES = Run(weight=10, word_weight=2)  # five words, or ten characters of a script without spaces
BINS = 64
EMPTY = np.uint32(0xFFFFFFFF)
_BANDS = 16
LOWEST_THRESHOLD = 0.6  # below it the bands miss more than a tenth of the pairs
assert (BINS, _BANDS * 4) == (64, BINS)  # the compiled functions know them as literals


def signatures(words: Words) -> np.ndarray:
    """The smallest hash of each bin, uint32 [texts, BINS]; EMPTY where a bin has none, in a text without words all."""
    runs = ngrams(words, SHINGLES)
    return _signatures(runs.values, runs.offsets)


def densified(found: np.ndarray) -> np.ndarray:
    """Signatures [n, BINS] as eight bits a bin, uint8, empty bins filled; zeros where all are empty."""
    return _densified(np.ascontiguousarray(found))


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """The Jaccard similarity that two densified signatures say, below 0 at worst."""
    return float((np.mean(first == second) - 1 / 256) / (1 - 1 / 256))


def near_duplicates(found: np.ndarray, order: np.ndarray, stays: np.ndarray, threshold: float) -> np.ndarray:
    """For each document the one before it in `order` that it is nearly the same as, or itself: int32 [n].

    found: densified signatures [n, BINS]. order: the documents to compare (int32), those to keep rather first. stays:
    bool [n], documents that are kept even where they are nearly the same as one before.

    A document is only ever nearly the same as one that is kept, so that no chain of small changes leads from one text
    to quite another. In a bucket of the bands the first 64 such are compared with. Takes 12 bytes a document beside
    what it is given; the signatures are read in order once a band, and in between where bands agree.
    """
    agreeing = int(np.ceil(BINS * (threshold * 255 + 1) / 256))
    same_as = np.arange(len(found), dtype=np.int32)
    bands = found.view(np.uint32)
    buckets = np.empty(len(order), dtype=np.uint64)
    for band in range(_BANDS):
        _fill(buckets, bands, order, band)
        buckets.sort()
        _link(found, order, buckets, stays, agreeing, same_as)
    _resolve(found, order, stays, agreeing, same_as)
    return same_as


@njit(nogil=True, cache=True)
def _signatures(runs: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    found = np.full((len(offsets) - 1, 64), np.uint32(0xFFFFFFFF))
    for text in range(len(found)):
        for run in runs[offsets[text] : offsets[text + 1]]:
            kept = min(np.uint32(run & np.uint64(0xFFFFFFFF)), np.uint32(0xFFFFFFFE))
            place = run >> np.uint64(58)
            if kept < found[text, place]:
                found[text, place] = kept
    return found


@njit(nogil=True, cache=True)
def _densified(found: np.ndarray) -> np.ndarray:
    dense = np.zeros(found.shape, np.uint8)
    for text in range(len(found)):
        if found[text].min() == np.uint32(0xFFFFFFFF):
            continue
        for place in range(64):
            lender, tries = np.int64(place), 0
            while found[text, lender] == np.uint32(0xFFFFFFFF):
                tries += 1
                lender = np.int64(_mixed(np.uint64(place << 32 | tries)) >> np.uint64(58))
            # The bin itself is mixed in: else a text of one run would have 64 times the same eight bits.
            value = np.uint64(found[text, lender]) << np.uint64(16) | np.uint64(lender << 8 | place)
            dense[text, place] = _mixed(value) >> np.uint64(56)
    return dense


@njit(nogil=True, cache=True)
def _fill(buckets: np.ndarray, bands: np.ndarray, order: np.ndarray, band: int) -> None:
    """For each document its key in this band, and after it, in the lower 32 bits, its place in `order`."""
    for place in range(len(order)):
        buckets[place] = np.uint64(bands[order[place], band]) << np.uint64(32) | np.uint64(place)


@njit(nogil=True, cache=True)
def _link(
    found: np.ndarray, order: np.ndarray, buckets: np.ndarray, stays: np.ndarray, agreeing: int, same_as: np.ndarray
) -> None:
    """Compares each document with those before it of the same key that are kept, as far as is known yet."""
    leaders = np.empty(64, np.int32)
    leading = 0
    for index in range(len(buckets)):
        document = order[buckets[index] & np.uint64(0xFFFFFFFF)]
        if index == 0 or buckets[index] >> np.uint64(32) != buckets[index - 1] >> np.uint64(32):
            leading = 0
        if same_as[document] == document:
            for leader in leaders[:leading]:
                if _agree(found[document], found[leader]) >= agreeing:
                    same_as[document] = leader
                    break
        if leading < 64 and (same_as[document] == document or stays[document]):
            leaders[leading] = document
            leading += 1


@njit(nogil=True, cache=True)
def _resolve(found: np.ndarray, order: np.ndarray, stays: np.ndarray, agreeing: int, same_as: np.ndarray) -> None:
    """A document whose kept one turned out in a later band to be none goes to what is kept in its place, or is kept."""
    for document in order:
        leader = same_as[document]
        kept = leader if stays[leader] else same_as[leader]
        if kept != leader and _agree(found[document], found[kept]) < agreeing:
            kept = document
        same_as[document] = kept


@njit(nogil=True, cache=True)
def _agree(first: np.ndarray, second: np.ndarray) -> int:
    """In how many bins two signatures agree."""
    count = 0
    for place in range(64):
        count += first[place] == second[place]
    return count


@njit(nogil=True, cache=True)
def _mixed(value: np.uint64) -> np.uint64:
    """Spreads a value over 64 bits (the finalizer of splitmix64, Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
