"""Packing and tokens: no two numbers alike, one at a time and by the column."""

from __future__ import annotations

import hashlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from random import Random

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.support import identities
from tipstaff_sdk.columns import resident_ids as columns
from tipstaff_sdk.columns.resident_kernel import CHUNK_ROWS, ResidentKernel
from tipstaff_sdk.errors import ConfigurationError, InvalidColumnError
from tipstaff_sdk.identity.block import pack_number
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.listing import tokens
from tipstaff_sdk.listing.tokens import Tokeniser, pack

KEY = bytes(range(16))
STANDARD = "11010519491231002X"


def plain_token(block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def numbers(count: int, seed: int = 1) -> list[str]:
    random = Random(seed)
    return [identities.random_resident_id(random) for _ in range(count)]


def expected(texts: list[str]) -> np.ndarray:
    return np.frombuffer(
        b"".join(plain_token(Identifier.resident_id(text).block) for text in texts), np.uint8
    ).reshape(-1, 16)


@pytest.fixture
def tokeniser() -> Tokeniser:
    return Tokeniser(KEY)


def test_blocks_are_as_the_format_says() -> None:
    assert pack(Identifier.parse(STANDARD)).hex() == "0111010519491231002a000000000000"
    assert (
        pack(Identifier.parse(identities.resident_id(3)))
        .hex()
        .startswith("01" + identities.resident_id(3)[:17])
    )
    passport = Identifier(IdentifierKind.PASSPORT, "E12345678")
    assert pack(passport) == bytes([3, 9]) + int("E12345678", 36).to_bytes(14, "big")
    company = Identifier.organisation("91110000600037341L")
    assert pack(company) == bytes([2, 18]) + int("91110000600037341L", 36).to_bytes(14, "big")
    assert pack_number(3, "A" * 19) == bytes([0x83]) + hashlib.sha256(b"A" * 19).digest()[:15]


def test_leading_zeros_count() -> None:
    blocks = {
        pack_number(5, "00000001"),
        pack_number(5, "0000001"),
        pack_number(5, "1"),
        pack_number(5, "10000000"),
    }
    assert len(blocks) == 4


def test_a_token_is_one_aes_block(tokeniser: Tokeniser) -> None:
    for identifier in (
        Identifier.parse(STANDARD),
        Identifier(IdentifierKind.PASSPORT, "E12345678"),
    ):
        assert tokeniser.token(identifier) == plain_token(identifier.block)
        assert tokeniser.token(identifier) == tokeniser.token(identifier)


def test_tokens_of_all_kinds_in_one_call(tokeniser: Tokeniser) -> None:
    identifiers = [
        Identifier.parse(STANDARD),
        Identifier.organisation("91110000600037341L"),
        Identifier(IdentifierKind.PASSPORT, "E1234"),
    ]
    made = tokeniser.tokens(iter(identifiers))
    assert made.shape == (3, 16)
    assert made.dtype == np.uint8
    assert made.flags.c_contiguous
    assert [row.tobytes() for row in made] == [
        tokeniser.token(identifier) for identifier in identifiers
    ]
    assert tokeniser.tokens([]).shape == (0, 16)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ConfigurationError, match=f"not {size}"):
        Tokeniser(bytes(size))


def test_a_tokeniser_does_not_show_its_key(tokeniser: Tokeniser) -> None:
    assert "key hidden" in repr(tokeniser)
    assert KEY.hex() not in repr(tokeniser)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(tokeniser)


def test_threads_share_a_tokeniser(tokeniser: Tokeniser) -> None:
    texts = numbers(200)
    identifiers = [Identifier.parse(text) for text in texts]
    right = [tokeniser.token(identifier) for identifier in identifiers]
    gate = threading.Barrier(4)

    def work(_: int) -> bool:
        gate.wait()
        alone = all(
            [tokeniser.token(identifier) for identifier in identifiers] == right for _ in range(20)
        )
        column = tokeniser.resident_column(texts * 100)
        return (
            alone
            and not len(column.bad_rows)
            and (column.tokens.reshape(100, -1) == np.frombuffer(b"".join(right), np.uint8)).all()
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_without_an_interpreter_lock_each_thread_has_a_cipher_of_its_own(
    tokeniser: Tokeniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_has_interpreter_lock", lambda: False)
    free = Tokeniser(KEY)
    blocks = [Identifier.parse(text).block for text in numbers(50)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(free.encrypt, blocks)) == [
            tokeniser.encrypt(block) for block in blocks
        ]
    contexts: list[object] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: contexts.append(free._cipher.update))
        thread.start()
        thread.join()
    assert contexts[0] is not contexts[1]


COLUMNS = {
    "list": list,
    "tuple": tuple,
    "S18": lambda texts: np.array(texts, "S18"),
    "U18": lambda texts: np.array(texts, "U18"),
    "U18, other byte order": lambda texts: np.array(texts, "U18").astype(">U18"),
    "S24": lambda texts: np.array(texts, "S24"),
    "U30": lambda texts: np.array(texts, "U30"),
    "object": lambda texts: np.array(texts, object),
    "StringDType": lambda texts: np.array(texts, np.dtypes.StringDType()),
    "uint8": lambda texts: np.array(texts, "S18").view(np.uint8).reshape(-1, 18),
    "S18, every second": lambda texts: np.repeat(np.array(texts, "S18"), 2)[::2],
    "uint8, columns of a wider table": lambda texts: np.pad(
        np.array(texts, "S18").view(np.uint8).reshape(-1, 18), ((0, 0), (3, 4))
    )[:, 3:21],
    "uint8, Fortran order": lambda texts: np.asfortranarray(
        np.array(texts, "S18").view(np.uint8).reshape(-1, 18)
    ),
    "read-only": lambda texts: np.frombuffer("".join(texts).encode(), "S18"),
}


@pytest.mark.parametrize("form", COLUMNS)
@pytest.mark.parametrize("count", [1, 7, 500])
def test_every_form_of_a_column_gives_the_same_tokens(
    tokeniser: Tokeniser, form: str, count: int
) -> None:
    texts = numbers(count)
    batch = tokeniser.resident_column(COLUMNS[form](texts))
    assert batch.tokens.flags.c_contiguous
    assert batch.bad_rows.dtype == np.int64
    assert not len(batch.bad_rows)
    assert (batch.tokens == expected(texts)).all()


@pytest.mark.parametrize("count", [CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 2 * CHUNK_ROWS + 3])
def test_chunks_meet_without_a_seam(tokeniser: Tokeniser, count: int) -> None:
    texts = [*numbers(100), "bad"] * (count // 101) + numbers(count % 101, seed=2)
    batch = tokeniser.resident_column(texts)
    assert batch.bad_rows.tolist() == [row for row, text in enumerate(texts) if text == "bad"]
    for row in (0, 99, CHUNK_ROWS - 2, CHUNK_ROWS - 1, CHUNK_ROWS, count - 1):
        if row < count and texts[row] != "bad":
            assert batch.tokens[row].tobytes() == plain_token(Identifier.parse(texts[row]).block)


@pytest.mark.parametrize("form", ["list", "S24", "U30", "object", "StringDType"])
def test_other_writings_of_a_number_are_found_and_bad_ones_named_by_row(
    tokeniser: Tokeniser, form: str
) -> None:
    texts = [
        STANDARD,
        "110105194912310021",  # wrong check character
        "11010519491231002x",
        "110105491231002",  # 15 digits
        "",
        " 11010519491231002X",
        "11010519490229002X",  # no such day
        "110105 19491231 002X",
        "1101051949123100:X",
        "11010519491231002:",
        "11010519491231002\x7f",
        "91010519491231002X",
        STANDARD + "1",
        STANDARD,
    ]
    batch = tokeniser.resident_column(COLUMNS[form](texts))
    assert batch.bad_rows.tolist() == [1, 4, 6, 8, 9, 10, 11, 12]
    good = [row for row in range(len(texts)) if row not in batch.bad_rows]
    assert {batch.tokens[row].tobytes() for row in good} == {
        plain_token(Identifier.parse(STANDARD).block)
    }
    assert not batch.tokens[batch.bad_rows].any(), (
        "the tokens of bad rows mean nothing, and are nobody's"
    )


def test_full_width_digits_are_found_in_texts(tokeniser: Tokeniser) -> None:
    wide = "１１０１０５１９４９１２３１００２Ｘ"
    for column in (
        [wide, STANDARD],
        np.array([wide, STANDARD]),
        np.array([wide.encode(), STANDARD.encode()]),
    ):
        batch = tokeniser.resident_column(column)
        assert not len(batch.bad_rows)
        assert (batch.tokens[0] == batch.tokens[1]).all()


def test_rows_that_are_no_text_are_bad(tokeniser: Tokeniser) -> None:
    assert tokeniser.resident_column(
        [STANDARD, None, 110105194912310021, b"11010519491231002X", STANDARD]
    ).bad_rows.tolist() == [1, 2, 3]
    assert tokeniser.resident_column(np.array([STANDARD, None, 1.5], object)).bad_rows.tolist() == [
        1,
        2,
    ]
    assert tokeniser.resident_column(
        np.array([STANDARD.encode(), b"\xff\xfe" + b"1" * 16])
    ).bad_rows.tolist() == [1]


@pytest.mark.parametrize(
    "texts",
    [
        [STANDARD + "\n" + STANDARD, "", "1" * 17],
        ["1" * 17, STANDARD + "\n", STANDARD],
        ["\n" * 18, STANDARD],
        [STANDARD[:17] + "\n", STANDARD],
        [STANDARD + "\n"[:0], STANDARD[:17], "X" + STANDARD],
        ["\n" + STANDARD, STANDARD[:17]],
    ],
)
def test_line_ends_inside_rows_do_not_shift_the_others(
    tokeniser: Tokeniser, texts: list[str]
) -> None:
    batch = tokeniser.resident_column(texts)
    for row, text in enumerate(texts):
        if row in batch.bad_rows:
            with pytest.raises(ValueError, match="read it"):
                Identifier.parse(text)
        else:
            assert batch.tokens[row].tobytes() == plain_token(Identifier.parse(text).block)


def test_empty_columns(tokeniser: Tokeniser) -> None:
    for column in ([], np.empty(0, "S18"), np.empty(0, "U18"), np.empty((0, 18), np.uint8)):
        batch = tokeniser.resident_column(column)
        assert batch.tokens.shape == (0, 16)
        assert batch.bad_rows.shape == (0,)


@pytest.mark.parametrize(
    "column",
    [
        STANDARD,
        STANDARD.encode(),
        iter([STANDARD]),
        {STANDARD: 1},
        {STANDARD},
        7,
        np.array(3),
        np.zeros((3, 17), np.uint8),
        np.zeros((3, 18), np.int8),
        np.zeros((3, 18), np.uint16),
        np.zeros((3, 18, 1), np.uint8),
        np.zeros(18, np.uint8),
        np.zeros(4, np.int64),
        np.array([[STANDARD]]),
    ],
    ids=lambda column: (
        f"{type(column).__name__} {getattr(column, 'dtype', '')} {getattr(column, 'shape', '')}"
    ),
)
def test_what_is_no_column_is_refused(tokeniser: Tokeniser, column: object) -> None:
    with pytest.raises(InvalidColumnError) as caught:
        tokeniser.resident_column(column)
    assert STANDARD not in str(caught.value)


def test_leap_days_are_told_apart_in_bulk(tokeniser: Tokeniser) -> None:
    texts = [identities.with_resident_check(f"110105{year}0229001") for year in range(1800, 2100)]
    bad = {row for row, text in enumerate(texts) if not identities.is_resident_id(text)}
    assert set(tokeniser.resident_column(texts).bad_rows.tolist()) == bad
    rows = np.array(texts, "S18").view(np.uint8).reshape(-1, 18)
    _, taken = ResidentKernel().pack(rows)
    assert set(np.flatnonzero(~taken).tolist()) == bad, (
        "the vectorised pass has to know them without the careful one"
    )


def test_the_vectorised_pass_takes_every_canonical_number() -> None:
    texts = numbers(3000) + [
        identities.resident_id(birth=date(2000, month, 28)) for month in range(1, 13)
    ]
    _, taken = ResidentKernel().pack(np.array(texts, "S18").view(np.uint8).reshape(-1, 18))
    assert taken.all()


def test_the_vectorised_pass_refuses_every_single_changed_character() -> None:
    rows = np.tile(np.frombuffer(STANDARD.encode(), np.uint8), (18 * 256, 1))
    for position in range(18):
        rows[position * 256 : (position + 1) * 256, position] = np.arange(256)
    _, taken = ResidentKernel().pack(rows)
    for row in range(len(rows)):
        assert taken[row] == identities.is_resident_id(rows[row].tobytes().decode("latin-1"))
    assert taken.sum() == 18, "any single error is caught by the check character"


def test_the_public_names() -> None:
    assert tokens.__all__ == ["TokenBatch", "Tokeniser", "pack"]
    assert columns.length([1, 2]) == 2
