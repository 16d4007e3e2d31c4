"""Blocks of compressed tables: one column of one tile, with the codecs that it went through.

A block begins with its size (uint64, itself included), the byte ``C`` (values stand column by column), the number of codecs
and their numbers (uint16 each). The codecs were applied from left to right to the values as they stand in memory: words of
16 bits, little endian; in columns of arrays each row has its size in bytes in front (uint32). What each codec does was found
out from files that hold the same events as the protozfits library reads:

=====  =====================================================================================================
0      nothing
1      from each word the mean of the two words before is taken
2      Huffman code of words
3      from each word the one before is taken
5      low bytes of all words, then high bytes
7      zlib
12     Huffman codes of the first and the second half
16     128 is added to each word
=====  =====================================================================================================

Everything here is safe on damaged data: whatever the bytes are, values come out or a `BlockError`. The library crashes on
many such files, and decodes all columns to give one.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.compiled import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

__all__ = ["CODECS", "RAW", "BlockError", "UnknownCodecError", "block_of", "codecs_of", "decode"]

RAW = 0
_SMOOTHED, _HUFFMAN, _DIFFERENCES, _BYTES_APART, _ZLIB, _HUFFMAN_HALVES, _SHIFTED = 1, 2, 3, 5, 7, 12, 16
CODECS = (RAW, _SMOOTHED, _HUFFMAN, _DIFFERENCES, _BYTES_APART, _ZLIB, _HUFFMAN_HALVES, _SHIFTED)
"""Codecs that can be undone here."""

_HEADER = struct.Struct("<QcB")
_SHIFT = 128
_LOOKUP = 11  # bits that are looked up at once
_LONGEST = 32  # bits of a code
# a stream of so many bytes is expanded to at most so many, whatever it says of itself
_SLACK = 1 << 16


class BlockError(ValueError):
    """A block is damaged."""


class UnknownCodecError(BlockError):
    """A block went through a codec that cannot be undone here."""


def block_of(content: bytes) -> bytes:
    """Return the header and content of a block without codecs: what `decode` turns into `content` again."""
    return _HEADER.pack(_HEADER.size + 2 + len(content), b"C", 1) + struct.pack("<H", RAW) + content


def codecs_of(block: Bytes) -> tuple[tuple[int, ...], Bytes]:
    """Return the codecs of a block, and the content behind its header.

    Raises
    ------
    BlockError
        If the header contradicts the size of the block.
    UnknownCodecError
        If values do not stand column by column.
    """
    if block.size < _HEADER.size:
        what = f"it has {block.size} bytes, its header alone {_HEADER.size}"
        raise BlockError(what)
    size, order, n_codecs = _HEADER.unpack(block[: _HEADER.size].tobytes())
    start = _HEADER.size + 2 * n_codecs
    if size != block.size or start > size:
        what = f"its header tells {size} bytes and {n_codecs} codecs, it has {block.size} bytes"
        raise BlockError(what)
    if order != b"C":
        what = f"values in the order {order!r}"
        raise UnknownCodecError(what)
    codecs = tuple(block[_HEADER.size : start].view("<u2").tolist())
    return codecs, block[start:]


def decode(block: Bytes, size: int) -> Bytes:
    """Return the values of a block as bytes.

    Parameters
    ----------
    block : ndarray of uint8
        With its header.
    size : int
        Bytes that are expected; what tells of many times more is damaged.

    Returns
    -------
    ndarray of uint8
        A view of `block` where it went through no codec.

    Raises
    ------
    BlockError
        If it is damaged.
    UnknownCodecError
        If it went through a codec that is not in `CODECS`.
    """
    codecs, content = codecs_of(block)
    unknown = [codec for codec in codecs if codec not in CODECS]
    if unknown:
        what = f"codec {unknown[0]}"
        raise UnknownCodecError(what)
    most = 4 * size + _SLACK
    if codecs[-2:] == (_DIFFERENCES, _HUFFMAN):
        # waveforms: both at once
        content = _huffman(content, most, summed=True)
        codecs = codecs[:-2]
    for codec in reversed(codecs):
        content = _undo(codec, content, most)
    return content


def _undo(codec: int, content: Bytes, most: int) -> Bytes:
    if codec == RAW:
        return content
    if codec == _ZLIB:
        return _unzipped(content, most)
    if codec == _HUFFMAN:
        return _huffman(content, most)
    if codec == _HUFFMAN_HALVES:
        return _huffman_halves(content, most)
    if content.size % 2:
        what = f"{content.size} bytes are no words of 16 bits"
        raise BlockError(what)
    words: NDArray[Any]
    if codec == _BYTES_APART:
        whole = np.empty_like(content)
        middle = content.size // 2
        whole[0::2], whole[1::2] = content[:middle], content[middle:]
        return whole
    words = np.ascontiguousarray(content).view("<i2")
    if codec == _DIFFERENCES:
        words = np.cumsum(words, dtype=np.int16)
    elif codec == _SHIFTED:
        words = words - np.int16(_SHIFT)
    else:
        words = words.copy()
        _add_smooth(words)
    return words.view(np.uint8)


def _unzipped(content: Bytes, most: int) -> Bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content.data, most)
    except zlib.error as error:
        what = f"zlib: {error}"
        raise BlockError(what) from error
    if not stream.eof:
        what = "zlib: the stream is cut off, or far too long"
        raise BlockError(what)
    return np.frombuffer(found, dtype=np.uint8)


@kernel
def _add_smooth(words):  # type: ignore[no-untyped-def]
    for index in range(2, words.size):
        total = np.int64(words[index - 1]) + np.int64(words[index - 2])
        half = total // 2 if total >= 0 else -((-total) // 2)
        words[index] = np.int16(words[index] + half)


def _huffman(content: Bytes, most: int, *, summed: bool = False) -> Bytes:
    """Undo a Huffman code: size, number of words, table of codes, bits (the first one lowest)."""
    if content.size < 4:
        what = "Huffman code without a size"
        raise BlockError(what)
    size = int(content[:4].view("<u4")[0])
    if size != content.size - 4:
        what = f"Huffman code of {content.size - 4} bytes that tells {size}"
        raise BlockError(what)
    return _huffman_words(content[4:], most, summed=summed).view(np.uint8)


def _huffman_halves(content: Bytes, most: int) -> Bytes:
    if content.size < 8:
        what = "Huffman codes without sizes"
        raise BlockError(what)
    first, second = content[:8].view("<u4").tolist()
    if first + second != content.size - 8:
        what = f"Huffman codes of {content.size - 8} bytes that tell {first} and {second}"
        raise BlockError(what)
    halves = [content[8 : 8 + first], content[8 + first :]]
    return np.concatenate([_huffman_words(half, most) for half in halves]).view(np.uint8)


def _huffman_words(stream: Bytes, most: int, *, summed: bool = False) -> NDArray[np.int16]:
    if stream.size < 16:
        what = "Huffman code without a table"
        raise BlockError(what)
    n_words, n_codes = stream[:16].view("<u8").tolist()
    # a code has three bytes in the table at least, a word one bit
    if 2 * n_words > most or n_words > 8 * stream.size or 3 * n_codes > stream.size:
        what = f"Huffman code of {n_words} words and {n_codes} codes in {stream.size} bytes"
        raise BlockError(what)
    # children of the nodes of all codes that are not found at once; a code tree has one node less than leaves
    tree = np.zeros((2 * n_codes + 64, 2), dtype=np.int32)
    start, short, branch = _read_codes(stream, n_codes, tree)
    if start < 0:
        what = "Huffman code with a table that is none"
        raise BlockError(what)
    n_bytes = stream.size - start
    bits = np.zeros(n_bytes // 4 + 3, dtype="<u4")
    bits.view(np.uint8)[:n_bytes] = stream[start:]
    words = np.empty(n_words, dtype=np.int16)
    used = _read_words(bits, _paired(short), branch, tree, words, summed)
    if not 0 <= used <= 8 * n_bytes:
        what = "Huffman code that is cut off, or has bits that are no code"
        raise BlockError(what)
    return words


@kernel
def _read_codes(stream, n_codes, tree):  # type: ignore[no-untyped-def]
    """Read a table of codes: symbol, length, and the code in as few bytes as it needs.

    Returns
    -------
    start : int
        Where the table ends; -1 if it is none.
    short : ndarray of uint32
        At all numbers whose first bits are a code: 256 x symbol + length. 0 elsewhere.
    branch : ndarray of int32
        At all numbers with which longer codes begin: node of the tree. Children of a node are nodes, or -1 - symbol.
    """
    short = np.zeros(1 << _LOOKUP, dtype=np.uint32)
    branch = np.zeros(1 << _LOOKUP, dtype=np.int32)
    n_nodes = 1
    at = 16
    for _ in range(n_codes):
        if at + 3 > stream.size:
            return -1, short, branch
        symbol = np.uint32(stream[at]) | (np.uint32(stream[at + 1]) << np.uint32(8))
        length = int(stream[at + 2])
        at += 3
        n_bytes = (length + 7) // 8
        if length == 0 or length > _LONGEST or at + n_bytes > stream.size:
            return -1, short, branch
        code = 0
        for byte in range(n_bytes):
            code |= int(stream[at + byte]) << (8 * byte)
        at += n_bytes
        if code >> length:
            return -1, short, branch
        if length <= _LOOKUP:
            fits = _fill(short, branch, code, length, symbol)
        else:
            n_nodes = _grow(short, branch, tree, n_nodes, code, length, symbol)
            fits = n_nodes > 0
        if not fits:
            return -1, short, branch
    return at, short, branch


@kernel
def _fill(short, branch, code, length, symbol):  # type: ignore[no-untyped-def]
    """Enter a short code at all numbers that begin with it; False where another code is in the way."""
    for number in range(code, short.size, 1 << length):
        if short[number] or branch[number]:
            return False
        short[number] = (symbol << np.uint32(8)) | np.uint32(length)
    return True


@kernel
def _grow(short, branch, tree, n_nodes, code, length, symbol):  # type: ignore[no-untyped-def]
    """Add a long code to the tree; return the number of nodes, -1 where another code is in the way."""
    low = code & (short.size - 1)
    if short[low] or n_nodes >= tree.shape[0]:
        return -1
    if branch[low] == 0:
        branch[low] = n_nodes
        n_nodes += 1
    node = int(branch[low])
    code >>= _LOOKUP
    for _ in range(length - _LOOKUP - 1):
        child = int(tree[node, code & 1])
        if child < 0:
            return -1
        if child == 0:
            if n_nodes >= tree.shape[0]:
                return -1
            child = n_nodes
            tree[node, code & 1] = child
            n_nodes += 1
        node = child
        code >>= 1
    if tree[node, code & 1] != 0:
        return -1
    tree[node, code & 1] = -1 - np.int32(symbol)
    return n_nodes


@kernel
def _paired(short):  # type: ignore[no-untyped-def]
    """Return a table that gives two symbols at once where both codes are short enough.

    Bits 0 to 15 are the first symbol, 16 to 31 the second, 32 to 39 the length of the first code, 40 and up that of both; 0
    where there is no second.
    """
    pairs = np.zeros(short.size, dtype=np.uint64)
    for number in range(short.size):
        entry = short[number]
        if entry == 0:
            continue
        length = np.int64(entry & np.uint32(255))
        pair = np.uint64(entry >> np.uint32(8)) | (np.uint64(length) << np.uint64(32))
        other = short[number >> length]
        both = length + np.int64(other & np.uint32(255))
        if other and both <= _LOOKUP:
            pair |= (np.uint64(other >> np.uint32(8)) << np.uint64(16)) | (np.uint64(both) << np.uint64(40))
        pairs[number] = pair
    return pairs


@kernel
def _read_words(bits, pairs, branch, tree, words, summed):  # type: ignore[no-untyped-def]
    """Fill an array with words, or with their running sum; return how many bits were used, -1 where they are no code."""
    mask = np.uint64((1 << _LOOKUP) - 1)
    held = np.uint64(0)
    n_held, at, index = 0, 0, 0
    total = np.int16(0)
    while index < words.size:
        if n_held < 32:
            if at >= bits.size:
                return -1
            held |= np.uint64(bits[at]) << np.uint64(n_held)
            at += 1
            n_held += 32
        pair = pairs[held & mask]
        if pair:
            length = np.int64(pair >> np.uint64(40))
            symbol = np.int16(np.uint16(pair & np.uint64(0xFFFF)))
            total = np.int16(total + symbol) if summed else symbol
            words[index] = total
            index += 1
            if length and index < words.size:
                symbol = np.int16(np.uint16((pair >> np.uint64(16)) & np.uint64(0xFFFF)))
                total = np.int16(total + symbol) if summed else symbol
                words[index] = total
                index += 1
            else:
                length = np.int64((pair >> np.uint64(32)) & np.uint64(255))
        else:
            node = np.int64(branch[held & mask])
            length = np.int64(_LOOKUP)
            while node > 0:
                node = np.int64(tree[node, np.int64((held >> np.uint64(length)) & np.uint64(1))])
                length += 1
            if node == 0:
                return -1
            symbol = np.int16(np.uint16(-1 - node))
            total = np.int16(total + symbol) if summed else symbol
            words[index] = total
            index += 1
        held >>= np.uint64(length)
        n_held -= int(length)
        if n_held < 0:
            return -1
    return 32 * at - n_held
