"""What the public TUF conformance suite asks of a client, in cases of our own, against
`tests/conformance/client`.

Named by the specification's step that they hold; the suite itself runs the same executable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile

from tests.support.signing import Deployment
from tests.support.tuf_simulator import CLIENT, NOW, Client, Host, Simulator, load_client
from tipstaff_signing.model import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
BAD_HASH = "0" * 64


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="module")
def module() -> Any:
    return load_client()


@pytest.fixture
def repo() -> Simulator:
    return Simulator()


@pytest.fixture
def client(repo: Simulator, host: Host, module: Any, tmp_path: Path) -> Client:
    client = Client(module, tmp_path, host.url(repo))
    assert client.init(repo.newest("root")) == 0
    assert repo.asked() == []
    return client


class TestRefresh:
    def test_asks_for_each_role_once_in_order(self, repo: Simulator, client: Client) -> None:
        assert client.refresh() == 0
        assert repo.asked() == ["2.root", "timestamp", "1.snapshot", "1.targets"]

    def test_asks_again_only_for_what_can_have_changed(
        self, repo: Simulator, client: Client
    ) -> None:
        repo.publish("root")
        assert client.refresh() == 0
        repo.asked()
        assert client.refresh() == 0
        assert repo.asked() == ["3.root", "timestamp"]

    def test_keeps_the_bytes_that_came(self, repo: Simulator, client: Client) -> None:
        repo.files["metadata/timestamp.json"] += b" "
        assert client.refresh() == 0
        assert {role: client.bytes_of(role) for role in START} == {
            role: repo.newest(role) for role in START
        }

    def test_comes_before_a_download(self, repo: Simulator, client: Client) -> None:
        assert client.download("no such artefact") == 1
        assert repo.asked() == ["2.root", "timestamp", "1.snapshot", "1.targets"]
        assert client.trusted() == START

    def test_a_repository_without_consistent_snapshots(
        self, host: Host, module: Any, tmp_path: Path
    ) -> None:
        repo = Simulator()
        repo.root.consistent_snapshot = False
        repo.artefact("targets", "folder/file", b"content")
        repo.everything()
        client = Client(module, tmp_path, host.url(repo))
        assert client.init(repo.files["metadata/1.root.json"]) == 0
        assert client.download("folder/file") == 0
        assert repo.requests == [
            f"metadata/{name}.json"
            for name in ("2.root", "3.root", "timestamp", "snapshot", "targets")
        ] + ["targets/folder/file"]
        assert client.downloaded() == {"folder/file": b"content"}


def without_version(root: dict[str, Any]) -> None:
    del root["signed"]["version"]


def with_another_signature(root: dict[str, Any]) -> None:
    root["signatures"][0]["sig"] = "00" * 64


@pytest.mark.parametrize("change", [without_version, with_another_signature])
def test_a_bad_first_root_is_never_used(
    repo: Simulator, client: Client, change: Callable[[Any], None]
) -> None:
    root = json.loads(repo.newest("root"))
    change(root)
    client.init(json.dumps(root).encode())
    assert client.refresh() == 1
    assert repo.asked() == []


def test_without_a_first_root_nothing_is_asked(
    repo: Simulator, host: Host, module: Any, tmp_path: Path
) -> None:
    client = Client(module, tmp_path, host.url(repo))
    assert client.refresh() == 1
    assert repo.asked() == []


TRUSTED_BEFORE = {
    "root": {"root": 1},
    "timestamp": {"root": 2},
    "snapshot": {"root": 2, "timestamp": 2},
    "targets": {"root": 2, "timestamp": 2, "snapshot": 2},
}


class TestEachRole:
    @pytest.mark.parametrize("role", TRUSTED_BEFORE)
    def test_unsigned_is_refused_and_what_came_before_is_kept(
        self, repo: Simulator, client: Client, role: str
    ) -> None:
        repo.signers[role].clear()
        repo.everything()
        assert client.refresh() == 1
        assert client.trusted() == TRUSTED_BEFORE[role]

    @pytest.mark.parametrize("role", ["root", "snapshot", "targets"])
    def test_another_version_than_asked_for_is_refused(
        self, repo: Simulator, client: Client, role: str
    ) -> None:
        repo.everything()
        repo.roles[role].version = 3
        repo.files[f"metadata/2.{role}.json"] = repo.sign(role)
        assert client.refresh() == 1
        assert client.trusted() == TRUSTED_BEFORE[role]

    @pytest.mark.parametrize(
        ("role", "trusted"), [("timestamp", START), ("snapshot", START | {"timestamp": 2})]
    )
    def test_missing_is_a_failure(
        self, repo: Simulator, client: Client, role: str, trusted: dict[str, int]
    ) -> None:
        assert client.refresh() == 0
        repo.publish("snapshot", "timestamp")
        for name in [
            name
            for name in repo.files
            if name.endswith(f"{role}.json") and not name.endswith(f"1.{role}.json")
        ]:
            del repo.files[name]
        assert client.refresh() == 1
        assert client.trusted() == trusted

    def test_missing_targets_are_a_failure(self, repo: Simulator, client: Client) -> None:
        assert client.refresh() == 0
        repo.snapshot.meta["targets.json"].version = 2
        repo.publish("snapshot", "timestamp")
        assert client.refresh() == 1
        assert repo.asked()[-1] == "2.targets"
        assert client.trusted() == START | {"timestamp": 2, "snapshot": 2}

    @pytest.mark.parametrize(
        ("role", "trusted"),
        [
            ("root", START | {"root": 2}),
            ("timestamp", START),
            ("snapshot", START | {"timestamp": 2}),
            ("targets", START | {"timestamp": 2, "snapshot": 2}),
        ],
    )
    def test_expired_is_refused(
        self, repo: Simulator, client: Client, role: str, trusted: dict[str, int]
    ) -> None:
        assert client.refresh() == 0
        repo.roles[role].expires = NOW - timedelta(days=5)
        repo.publish(*(["root"] if role == "root" else ["targets", "snapshot", "timestamp"]))
        assert client.refresh() == 1
        assert client.trusted() == trusted

    def test_of_another_type_is_refused_though_well_signed(
        self, repo: Simulator, client: Client
    ) -> None:
        repo.add_key("snapshot", repo.signers["timestamp"][0])
        repo.snapshot.meta = {"snapshot.json": MetaFile(1)}
        repo.publish("root", "snapshot")
        repo.files["metadata/timestamp.json"] = repo.newest("snapshot")
        assert client.refresh() == 1
        assert client.trusted() == {"root": 2}


def test_time_is_the_clients_own(repo: Simulator, client: Client) -> None:
    repo.root.expires = NOW + timedelta(days=7)
    repo.publish("root")
    assert client.refresh() == 0
    client.day = 8
    assert client.refresh() == 1


def test_an_expired_root_on_disk_still_leads_to_a_newer(repo: Simulator, client: Client) -> None:
    repo.root.expires = NOW + timedelta(days=7)
    repo.publish("root")
    assert client.refresh() == 0
    repo.root.expires = NOW + timedelta(days=21)
    repo.publish("root")
    client.day = 18
    assert client.refresh() == 0
    assert client.trusted()["root"] == 3


def test_what_neither_snapshot_nor_timestamp_name_is_not_asked_for(
    repo: Simulator, client: Client
) -> None:
    assert client.refresh() == 0
    repo.asked()
    repo.publish("targets")
    repo.files["metadata/2.snapshot.json"] = repo.newest("snapshot")
    assert client.refresh() == 0
    assert repo.asked() == ["2.root", "timestamp"]
    assert client.trusted() == START


def test_expired_metadata_on_disk_still_lead_to_newer(repo: Simulator, client: Client) -> None:
    repo.timestamp.expires = NOW + timedelta(days=7)
    repo.publish("timestamp")
    assert client.refresh() == 0
    repo.timestamp.expires = NOW + timedelta(days=21)
    repo.publish("targets", "snapshot", "timestamp")
    client.day = 18
    assert client.refresh() == 0
    assert client.trusted() == {"root": 1, "timestamp": 3, "snapshot": 2, "targets": 2}


def test_a_timestamp_changed_under_its_version_is_not_taken(
    repo: Simulator, client: Client
) -> None:
    assert client.refresh() == 0
    before = client.bytes_of("timestamp")
    repo.timestamp.snapshot_meta.version = 100
    repo.publish("timestamp", bump=False)
    repo.asked()
    assert client.refresh() == 0
    assert repo.asked()[-1] == "timestamp"
    assert client.bytes_of("timestamp") == before


def test_hashes_of_metadata_are_checked(repo: Simulator, client: Client) -> None:
    repo.hashes = True
    repo.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    repo.publish("targets")
    repo.snapshot.meta["targets.json"].hashes = {"sha256": BAD_HASH}
    repo.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted() == {"root": 1, "timestamp": 3, "snapshot": 3, "targets": 2}


def test_unknown_fields_are_signed_and_kept(repo: Simulator, client: Client) -> None:
    repo.root.unrecognized_fields["custom"] = {"a": [1, "ä"], "b": None}
    repo.root.roles["root"].unrecognized_fields["another"] = "value"
    for role in ("timestamp", "snapshot", "targets"):
        repo.roles[role].unrecognized_fields["custom"] = {"nested": True}
    repo.everything()
    assert client.refresh() == 0
    assert client.trusted() == dict.fromkeys(START, 2)


@pytest.mark.parametrize(
    "fields",
    [{"keyid_hash_algorithms": "md5"}, {"extra-field": {"a": 1, "b": 2}}, {"x-owner": "@somebody"}],
)
def test_other_fields_of_a_key_mean_nothing(
    repo: Simulator, client: Client, fields: dict[str, Any]
) -> None:
    signer = CryptoSigner.generate_ecdsa()
    signer.public_key.unrecognized_fields.update(fields)
    repo.root.roles["snapshot"].keyids.clear()
    repo.signers["snapshot"].clear()
    repo.add_key("snapshot", signer)
    repo.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 0


@pytest.mark.parametrize("missing", ["expires", "spec_version", "_type", "meta"])
def test_metadata_without_a_field_are_refused(
    repo: Simulator, client: Client, missing: str
) -> None:
    repo.tamper("timestamp", lambda content: content["signed"].pop(missing))
    assert client.refresh() == 1
    assert client.trusted() == {"root": 1}


class TestRollback:
    def test_of_the_timestamp(self, repo: Simulator, client: Client) -> None:
        repo.publish("timestamp")
        assert client.refresh() == 0
        repo.files["metadata/timestamp.json"] = b""
        repo.timestamp.version = 0
        repo.publish("timestamp")
        assert client.refresh() == 1
        assert client.trusted()["timestamp"] == 2

    @pytest.mark.parametrize("hashes", [False, True])
    def test_of_the_snapshot(self, repo: Simulator, client: Client, hashes: bool) -> None:
        repo.hashes = hashes
        repo.publish("snapshot", "timestamp")
        assert client.refresh() == 0
        repo.timestamp.snapshot_meta = MetaFile(1)
        repo.publish("timestamp")
        assert client.refresh() == 1
        assert client.trusted() == START | {"timestamp": 2, "snapshot": 2}

    @pytest.mark.parametrize("hashes", [False, True])
    def test_of_targets(self, repo: Simulator, client: Client, hashes: bool) -> None:
        repo.hashes = hashes
        repo.publish("targets", "snapshot", "timestamp")
        assert client.refresh() == 0
        repo.snapshot.meta["targets.json"] = MetaFile(1)
        repo.publish("snapshot", "timestamp")
        assert client.refresh() == 1
        assert client.trusted() == {"root": 1, "timestamp": 3, "snapshot": 2, "targets": 2}

    def test_of_a_delegated_role(self, repo: Simulator, client: Client) -> None:
        repo.delegate("targets", "A")
        repo.publish("A", "A", "targets", "snapshot", "timestamp")
        assert client.download("none") == 1
        assert client.trusted()["A"] == 3
        repo.snapshot.meta["A.json"] = MetaFile(2)
        repo.publish("snapshot", "timestamp")
        assert client.download("none") == 1
        assert client.trusted()["A"] == 3

    def test_a_role_dropped_from_the_snapshot(self, repo: Simulator, client: Client) -> None:
        repo.snapshot.meta["other.json"] = MetaFile(1)
        repo.publish("snapshot", "timestamp")
        assert client.refresh() == 0
        del repo.snapshot.meta["other.json"]
        repo.publish("snapshot", "timestamp")
        assert client.refresh() == 1
        assert client.trusted()["snapshot"] == 2

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_new_keys_recover_from_numbers_run_up(
        self, repo: Simulator, client: Client, role: str
    ) -> None:
        repo.roles[role].version = 99_998
        repo.publish(
            *["targets", "snapshot", "timestamp"][
                ["targets", "snapshot", "timestamp"].index(role) :
            ]
        )
        assert client.refresh() == 0
        assert client.trusted()[role] == 99_999
        for rotated in {
            "timestamp": ["timestamp"],
            "snapshot": ["snapshot", "timestamp"],
            "targets": ["snapshot"],
        }[role]:
            repo.rotate(rotated)
        repo.roles[role].version = 0
        repo.everything()
        assert client.refresh() == 0
        assert client.trusted()[role] == 1


class TestKeys:
    def test_fewer_signatures_than_the_threshold(self, repo: Simulator, client: Client) -> None:
        repo.root.roles["snapshot"].threshold = 3
        for _ in range(2):
            repo.add_key("snapshot")
        repo.everything()
        assert client.refresh() == 0
        repo.signers["snapshot"].pop()
        repo.publish("snapshot", "timestamp")
        assert client.refresh() == 1
        assert client.trusted()["snapshot"] == 2

    def test_fewer_keys_than_the_threshold(self, repo: Simulator, client: Client) -> None:
        for _ in range(4):
            repo.add_key("snapshot")
        repo.root.roles["snapshot"].threshold = 6
        repo.everything()
        assert client.refresh() == 1
        assert client.trusted() == {"root": 2, "timestamp": 2}

    def test_one_key_named_often_counts_once(self, repo: Simulator, client: Client) -> None:
        signer = repo.add_key("snapshot")
        repo.root.roles["snapshot"].threshold = 6
        data = json.loads(repo.sign("root", []))
        data["signed"]["version"] = 2
        data["signed"]["roles"]["snapshot"]["keyids"] += [signer.public_key.keyid] * 8
        repo.root.version = 2
        repo.put("root", 2, signed_json(data, repo.signers["root"]))
        repo.publish("snapshot", "timestamp")
        repo.tamper(
            "snapshot", lambda content: content["signatures"].extend([content["signatures"][1]] * 8)
        )
        assert client.refresh() == 1
        assert "snapshot" not in client.trusted()

    def test_a_key_signs_once(self, repo: Simulator, client: Client) -> None:
        repo.tamper(
            "snapshot", lambda content: content["signatures"].append(content["signatures"][0])
        )
        assert client.refresh() == 1
        assert "snapshot" not in client.trusted()

    @pytest.mark.parametrize(
        "signer",
        [
            CryptoSigner.generate_rsa(),
            CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"),
            CryptoSigner.generate_ecdsa(),
            CryptoSigner.generate_ed25519(),
            CryptoSigner.generate_mldsa(),
        ],
        ids=lambda signer: signer.public_key.scheme,
    )
    def test_keys_of_every_kind_verify(
        self, repo: Simulator, client: Client, signer: CryptoSigner
    ) -> None:
        repo.add_key("root", signer)
        repo.root.roles["root"].threshold = 2
        repo.publish("root")
        assert client.refresh() == 0
        assert client.trusted()["root"] == 2
        other = signer.sign(b"something else").signature
        repo.publish("root")
        repo.tamper("root", lambda content: content["signatures"][1].update(sig=other))
        assert client.refresh() == 1
        assert client.trusted()["root"] == 2

    @pytest.mark.parametrize("bad", ["00" * 64, "", "not hexadecimal"])
    def test_a_bad_signature_beside_a_good_one_does_no_harm(
        self, repo: Simulator, client: Client, bad: str
    ) -> None:
        repo.add_key("timestamp")
        repo.publish("root", "timestamp")
        repo.tamper("timestamp", lambda content: content["signatures"][0].update(sig=bad))
        assert client.refresh() == 0
        assert client.trusted()["timestamp"] == 2


def signed_json(content: dict[str, Any], signers: list[Any]) -> bytes:
    """What python-tuf's own classes refuse to write."""
    from securesystemslib.formats import encode_canonical  # noqa: PLC0415  only here

    payload = encode_canonical(content["signed"])
    assert isinstance(payload, str)
    content["signatures"] = [signer.sign(payload.encode()).to_dict() for signer in signers]
    return json.dumps(content).encode()


ROOT_ROTATIONS: dict[str, tuple[list[tuple[list[int], int, list[int]]], bool]] = {
    # keys, threshold, who signs; the last of them is accepted or not
    "one key for another": ([([1], 1, [1]), ([2], 1, [2, 1]), ([2], 1, [2])], True),
    "with signatures of strangers": (
        [([1], 1, [3, 1, 4]), ([2], 1, [3, 2, 1, 4]), ([2], 1, [3, 2, 4])],
        True,
    ),
    "3 of 5, other signers each time": (
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 2, 3, 4], 3, [0, 4, 1])],
        True,
    ),
    "3 of 5, one key replaced": (
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 1])],
        True,
    ),
    "3 of 5, one replaced, in two steps": (
        [
            ([0, 1, 2, 3, 4], 3, [0, 2, 4]),
            ([0, 1, 3, 4, 5], 3, [0, 2, 4, 5]),
            ([0, 1, 3, 4, 5], 3, [0, 4, 5]),
        ],
        True,
    ),
    "3 of 5, all replaced": (
        [
            ([0, 1, 2, 3, 4], 3, [0, 2, 4]),
            ([5, 6, 7, 8, 9], 3, [0, 2, 4, 5, 6, 7]),
            ([5, 6, 7, 8, 9], 3, [5, 6, 7]),
        ],
        True,
    ),
    "threshold raised": ([([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [1, 2])], True),
    "threshold lowered": (
        [([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1, 2]), ([1, 2, 3], 1, [1])],
        True,
    ),
    "keys and threshold raised": ([([1], 1, [1]), ([1, 2], 2, [1, 2])], True),
    "not signed by the old key": ([([1], 1, [1]), ([2], 1, [2, 3, 4])], False),
    "not signed by the new key": ([([1], 1, [1]), ([2], 1, [1, 3, 4])], False),
    "too few of the new": (
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 2, 4])],
        False,
    ),
    "too few of the old": (
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 5])],
        False,
    ),
    "raised threshold not reached": ([([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [2])], False),
    "lowered threshold, old one not reached": (
        [([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1])],
        False,
    ),
}
OTHER_ROTATIONS: dict[str, tuple[list[int], int, list[int], bool]] = {
    "one key for another": ([2], 1, [2], True),
    "with signatures of strangers": ([1], 1, [3, 1, 4], True),
    "not signed by the new key": ([2], 1, [1, 3, 4], False),
    "one of three by a stranger": ([0, 1, 3, 4, 5], 3, [0, 2, 4], False),
    "two of three": ([0, 1, 3, 4, 5], 3, [0, 4], False),
    "the first three of five": ([0, 1, 2, 3, 4], 3, [0, 2, 4], True),
    "another three": ([0, 1, 2, 3, 4], 3, [1, 2, 3], True),
    "in another order": ([0, 1, 2, 3, 4], 3, [4, 3, 0], True),
}


class TestRotation:
    @pytest.mark.parametrize("case", ROOT_ROTATIONS)
    def test_of_root_keys(self, repo: Simulator, client: Client, case: str) -> None:
        versions, accepted = ROOT_ROTATIONS[case]
        keys = [CryptoSigner.generate_ed25519() for _ in range(10)]
        repo.root.version = 0
        for held, threshold, signing in versions:
            repo.root.roles["root"].keyids.clear()
            repo.root.roles["root"].threshold = threshold
            for number in held:
                repo.root.add_key(keys[number].public_key, "root")
            repo.signers["root"] = [keys[number] for number in signing]
            repo.publish("root")
        assert client.init(repo.files["metadata/1.root.json"]) == 0
        assert client.refresh() == (0 if accepted else 1)
        assert (
            client.bytes_of("root")
            == repo.files[f"metadata/{len(versions) - (not accepted)}.root.json"]
        )

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    @pytest.mark.parametrize("case", OTHER_ROTATIONS)
    def test_of_other_keys(self, repo: Simulator, client: Client, role: str, case: str) -> None:
        held, threshold, signing, accepted = OTHER_ROTATIONS[case]
        keys = [CryptoSigner.generate_ed25519() for _ in range(6)]
        repo.root.roles[role].keyids.clear()
        repo.root.roles[role].threshold = threshold
        for number in held:
            repo.root.add_key(keys[number].public_key, role)
        repo.signers[role] = [keys[number] for number in signing]
        repo.everything()
        assert client.refresh() == (0 if accepted else 1)
        assert client.trusted() == (dict.fromkeys(START, 2) if accepted else TRUSTED_BEFORE[role])


GRAPHS: dict[str, tuple[list[tuple[str, str, dict[str, Any]]], list[str]]] = {
    "one": ([("targets", "A", {})], ["A"]),
    "two beside each other": ([("targets", "A", {}), ("targets", "B", {})], ["A", "B"]),
    "two levels": ([("targets", "A", {}), ("targets", "B", {}), ("B", "C", {})], ["A", "B", "C"]),
    "depth first": (
        [("targets", "A", {}), ("targets", "B", {}), ("A", "C", {}), ("A", "D", {})],
        ["A", "C", "D", "B"],
    ),
    "depth first, three levels": (
        [("targets", "A", {}), ("targets", "B", {}), ("A", "C", {}), ("C", "D", {})],
        ["A", "C", "D", "B"],
    ),
    "terminating ends the search": (
        [
            ("targets", "A", {}),
            ("targets", "B", {}),
            ("A", "C", {"terminating": True}),
            ("A", "D", {}),
        ],
        ["A", "C"],
    ),
    "but not below it": (
        [
            ("targets", "A", {}),
            ("targets", "B", {}),
            ("A", "C", {"terminating": True}),
            ("C", "D", {}),
        ],
        ["A", "C", "D"],
    ),
    "other paths are passed by": (
        [("targets", "A", {"paths": ["*.py"]}), ("targets", "B", {}), ("A", "C", {})],
        ["B"],
    ),
    "also below": (
        [
            ("targets", "A", {}),
            ("targets", "B", {}),
            ("A", "C", {"paths": ["*.py"]}),
            ("C", "D", {}),
        ],
        ["A", "B"],
    ),
    "a circle": (
        [
            ("targets", "A", {}),
            ("targets", "B", {}),
            ("B", "C", {}),
            ("C", "D", {}),
            ("D", "B", {}),
        ],
        ["A", "B", "C", "D"],
    ),
    "two to a third": (
        [("targets", "A", {}), ("targets", "B", {}), ("B", "C", {}), ("A", "C", {})],
        ["A", "C", "B"],
    ),
    "two to a third by other paths": (
        [
            ("targets", "A", {}),
            ("targets", "B", {}),
            ("B", "C", {}),
            ("A", "C", {"paths": ["*.py"]}),
        ],
        ["A", "B", "C"],
    ),
    "by hashes of paths": (
        [
            ("targets", "A", {"path_hash_prefixes": list("0123")}),
            ("targets", "B", {"path_hash_prefixes": list("89ab")}),
            ("targets", "C", {"path_hash_prefixes": list("4567cdef")}),
        ],
        ["B"],  # SHA-256 of the path begins with 9
    ),
    "deeper than ours": (
        [("targets", "A", {}), *((a, b, {}) for a, b in zip("ABCDEFG", "BCDEFGH", strict=True))],
        list("ABCDEFGH"),
    ),
}
PATH = "none"


class TestDelegations:
    @pytest.mark.parametrize("case", GRAPHS)
    def test_are_searched_in_order(self, repo: Simulator, client: Client, case: str) -> None:
        delegations, visited = GRAPHS[case]
        for parent, name, fields in delegations:
            repo.delegate(parent, name, **fields)
        repo.publish(*{name for _, name, _ in delegations}, bump=False)
        repo.publish("targets", "snapshot", "timestamp")
        path = "hashed/path" if case.startswith("by hashes") else PATH
        assert client.download(path) == 1
        assert repo.asked()[4:] == [f"1.{role}" for role in visited]
        assert client.trusted() == {
            "root": 1,
            "timestamp": 2,
            "snapshot": 2,
            "targets": 2,
            **dict.fromkeys(visited, 1),
        }

    @pytest.mark.parametrize(
        ("path", "content", "visited"),
        [
            ("targetfile", b"of targets", []),
            ("README.md", b"of A", ["A"]),
            ("releases/x/x_v1", b"of C", ["B", "C"]),
            ("releases/y/y_v1.zip", b"of D", ["B", "D"]),
            ("releases/z/z_v1.zip", None, ["B"]),
        ],
    )
    def test_find_what_may_be_signed_and_nothing_else(
        self, repo: Simulator, client: Client, path: str, content: bytes | None, visited: list[str]
    ) -> None:
        repo.delegate("targets", "A", paths=["*.doc", "*.md"])
        repo.delegate("targets", "B", paths=["releases/*/*"])
        repo.delegate("B", "C", paths=["releases/x/*"])
        repo.delegate("B", "D", paths=["releases/y/*.zip"])
        for role, name in (
            ("targets", "targetfile"),
            ("A", "README.md"),
            ("C", "releases/x/x_v1"),
            ("D", "releases/y/y_v1.zip"),
        ):
            repo.artefact(role, name, f"of {role}".encode())
        repo.artefact("D", "releases/z/z_v1.zip", b"outside its paths")
        repo.publish("A", "B", "C", "D", bump=False)
        repo.publish("targets", "snapshot", "timestamp")
        assert client.download(path) == (1 if content is None else 0)
        assert repo.asked()[4:] == [f"1.{role}" for role in visited]
        assert client.downloaded() == ({} if content is None else {path: content})

    @pytest.mark.parametrize(
        ("bits", "path", "name"),
        [
            (1, "goo", "bin-1"),
            (2, "foo", "bin-0"),
            (2, "too", "bin-2"),
            (2, "bar", "bin-3"),
            (8, "bar", "bin-fc"),
        ],
    )
    def test_in_bins(
        self, repo: Simulator, client: Client, bits: int, path: str, name: str
    ) -> None:
        repo.delegate_bins(bits, "bin")
        repo.artefact(name, path, b"binned")
        repo.publish(name, bump=False)
        repo.publish("targets", "snapshot", "timestamp")
        assert client.download(path) == 0
        assert repo.asked()[4:] == [f"1.{name}"]
        assert client.downloaded() == {path: b"binned"}

    @pytest.mark.parametrize("name", ["?", "#", "/role", "../role", "..", "ä role%2F"])
    def test_to_roles_of_unusual_names(
        self, repo: Simulator, client: Client, name: str, tmp_path: Path
    ) -> None:
        repo.delegate("targets", name)
        repo.publish(name, bump=False)
        repo.publish("targets", "snapshot", "timestamp")
        before = set(tmp_path.iterdir())
        assert client.download(PATH) == 1
        assert len(client.trusted()) == 5
        assert set(tmp_path.iterdir()) == before

    @pytest.mark.parametrize(
        "fault", ["unsigned", "another version", "expired", "not in the snapshot", "missing"]
    )
    def test_to_a_role_that_is_not_sound(self, repo: Simulator, client: Client, fault: str) -> None:
        repo.delegate("targets", "A", days=-1 if fault == "expired" else 30)
        repo.artefact("A", "file", b"content")
        if fault == "unsigned":
            repo.signers["A"].clear()
        repo.publish("A", bump=False)
        if fault == "another version":
            repo.snapshot.meta["A.json"].version = 2
            repo.files["metadata/2.A.json"] = repo.files["metadata/1.A.json"]
        if fault == "not in the snapshot":
            del repo.snapshot.meta["A.json"]
        if fault == "missing":
            del repo.files["metadata/1.A.json"]
        repo.publish("targets", "snapshot", "timestamp")
        assert client.refresh() == 0
        assert client.download("file") == 1
        assert client.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}
        assert client.downloaded() == {}

    def test_expired_on_disk_is_not_used_and_a_newer_one_is(
        self, repo: Simulator, client: Client
    ) -> None:
        repo.delegate("targets", "A", days=7)
        repo.artefact("A", "first", b"1")
        repo.artefact("A", "second", b"2")
        repo.publish("A", "targets", "snapshot", "timestamp")
        assert client.download("first") == 0
        client.day = 18
        assert client.download("second") == 1
        repo.roles["A"].expires = NOW + timedelta(days=21)
        repo.publish("A", "snapshot", "timestamp")
        assert client.download("second") == 0
        assert client.downloaded() == {"first": b"1", "second": b"2"}

    def test_a_role_is_verified_for_each_that_delegates_to_it(
        self, repo: Simulator, client: Client
    ) -> None:
        """A knows C's key, B another one: what C signs must not count below B only because it was
        read for A before.
        """
        repo.delegate("targets", "A", paths=["a/*"])
        repo.delegate("targets", "B", paths=["b/*"])
        repo.delegate("A", "C", paths=["*/*"])
        repo.roles["B"].delegations = Delegations(
            {}, {"C": DelegatedRole("C", [], 1, terminating=False, paths=["*/*"])}
        )
        repo.roles["B"].add_key(CryptoSigner.generate_ed25519().public_key, "C")
        repo.artefact("C", "a/file", b"for A")
        repo.artefact("C", "b/file", b"for B")
        repo.publish("A", "B", "C", bump=False)
        repo.publish("targets", "snapshot", "timestamp")
        assert client.download("a/file", "b/file") == 1
        assert client.downloaded() == {"a/file": b"for A"}
        assert client.download("b/file") == 1
        assert client.downloaded() == {"a/file": b"for A"}


class TestDownload:
    @pytest.mark.parametrize(
        "path", ["file.txt", "path/to/a/file.txt", "with space", "a+b;c=d", "%41bc"]
    )
    def test_under_its_own_name(self, repo: Simulator, client: Client, path: str) -> None:
        target = repo.artefact("targets", path, b"content")
        repo.files["targets/" + f"{target.hashes['sha256']}.{path}".replace(" ", "%20")] = (
            b"content"
        )
        repo.publish("targets", "snapshot", "timestamp")
        assert client.refresh() == 0
        assert client.downloaded() == {}
        assert client.download(path) == 0
        assert list(client.downloaded().values()) == [b"content"]
        assert path.startswith("%") or list(client.downloaded()) == [path]

    @pytest.mark.parametrize("path", ["../out", "/absolute", "a/../../out", ".", ".."])
    def test_never_leaves_its_folder(
        self, repo: Simulator, client: Client, path: str, tmp_path: Path
    ) -> None:
        repo.artefact("targets", path, b"content")
        repo.publish("targets", "snapshot", "timestamp")
        before = set(tmp_path.iterdir())
        client.download(path)
        assert set(tmp_path.iterdir()) == before

    def test_several_at_once(self, repo: Simulator, client: Client) -> None:
        for name in ("one", "two"):
            repo.artefact("targets", name, name.encode())
        repo.publish("targets", "snapshot", "timestamp")
        assert client.download("one", "two") == 0
        assert client.downloaded() == {"one": b"one", "two": b"two"}
        assert repo.asked()[:4] == ["2.root", "timestamp", "2.snapshot", "2.targets"]

    def test_what_is_there_is_not_fetched_again(self, repo: Simulator, client: Client) -> None:
        repo.artefact("targets", "file", b"content")
        repo.publish("targets", "snapshot", "timestamp")
        for _ in range(2):
            assert client.download("file") == 0
        assert len(repo.asked("targets")) == 1

    @pytest.mark.parametrize("served", [b"malicious", b"conten", b"content and more", b""])
    def test_substituted_content_is_refused(
        self, repo: Simulator, client: Client, served: bytes
    ) -> None:
        target = repo.artefact("targets", "file", b"content")
        repo.publish("targets", "snapshot", "timestamp")
        repo.files[f"targets/{target.hashes['sha256']}.file"] = served
        assert client.download("file") == 1
        assert client.downloaded() == {}

    def test_changed_content_replaces_the_old_and_a_substitute_does_not(
        self, repo: Simulator, client: Client
    ) -> None:
        for number in range(3):
            target = repo.artefact("targets", "file", b"content %d" % number)
            repo.publish("targets", "snapshot", "timestamp")
            assert client.download("file") == 0
            assert client.downloaded() == {"file": b"content %d" % number}
            repo.files[f"targets/{target.hashes['sha256']}.file"] = b"replaced!"
            repo.publish("targets", "snapshot", "timestamp")
            client.download("file")
            assert client.downloaded() == {"file": b"content %d" % number}

    @pytest.mark.parametrize(
        "hashes", [["sha256"], ["sha512"], ["sha256", "sha512"], ["sha512", "sha256"]]
    )
    def test_kinds_of_hashes(self, repo: Simulator, client: Client, hashes: list[str]) -> None:
        target = repo.artefact("targets", "file", b"content", hashes)
        repo.publish("targets", "snapshot", "timestamp")
        assert client.download("file") == 0
        asked = repo.asked("targets")
        assert len(asked) == 1
        assert asked[0].removesuffix(".file") in target.hashes.values()
        assert client.downloaded() == {"file": b"content"}

    @pytest.mark.parametrize(
        "hashes", [{"unknown": "00" * 32}, {"sha256": BAD_HASH}, {"sha512": "00" * 64}]
    )
    def test_hashes_that_do_not_match_or_cannot_be_computed(
        self, repo: Simulator, client: Client, hashes: dict[str, str]
    ) -> None:
        target = repo.artefact("targets", "file", b"content")
        target.hashes = hashes
        for digest in hashes.values():
            repo.files[f"targets/{digest}.file"] = b"content"
        repo.publish("targets", "snapshot", "timestamp")
        assert client.download("file") == 1
        assert client.downloaded() == {}


def test_the_executable_itself(repo: Simulator, host: Host, tmp_path: Path) -> None:
    repo.artefact("targets", "file", b"content")
    repo.everything()
    (tmp_path / "root.json").write_bytes(repo.files["metadata/1.root.json"])
    folder, url = tmp_path / "metadata", host.url(repo)

    def run(*arguments: object) -> int:
        path = (  # the first line asks for whichever python3 comes first
            f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        )
        command = [CLIENT, "--metadata-dir", folder, *map(str, arguments)]
        return subprocess.run(
            command, check=False, capture_output=True, env={**os.environ, "PATH": path}
        ).returncode

    assert run("init", tmp_path / "root.json") == 0
    download = ("--target-base-url", f"{url}/targets", "--target-dir", tmp_path / "out", "download")
    assert run("--metadata-url", f"{url}/metadata", "--target-name", "file", *download) == 0
    assert (tmp_path / "out" / "file").read_bytes() == b"content"
    assert run("--metadata-url", f"{url}/metadata", "--target-name", "other", *download) == 1
    assert run("refresh") == 1


def test_the_executable_finds_its_own_environment(
    repo: Simulator, host: Host, tmp_path: Path
) -> None:
    """As the suite starts it: another Python comes first on the path, the working directory is
    anywhere, no environment is active.
    """
    bare, place = tmp_path / "bare", tmp_path / "elsewhere"
    venv.create(bare, with_pip=False, symlinks=True)
    place.mkdir()
    repo.everything()
    (place / "root.json").write_bytes(repo.files["metadata/1.root.json"])
    # The suite's own way of naming it, too: by a path with something to resolve in it.
    link = tmp_path / "link"
    link.symlink_to(CLIENT.parent)
    for command in (CLIENT, link / "client", CLIENT.parent / ".." / "conformance" / "client"):
        folder = tmp_path / f"metadata {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        environment = {"PATH": f"{bare / 'bin'}:/usr/bin:/bin"}
        run = partial(
            subprocess.run, check=False, capture_output=True, text=True, cwd=place, env=environment
        )
        began = run([command, "--metadata-dir", folder, "init", "root.json"])
        assert (began.returncode, began.stderr) == (0, "")
        done = run(
            [
                command,
                "--metadata-url",
                f"{host.url(repo)}/metadata/",
                "--metadata-dir",
                folder,
                "refresh",
            ]
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert (folder / "root.json").read_bytes() == repo.newest("root")


def test_our_own_repository_in_plain_mode(host: Host, module: Any, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "deployment", clock=utc_now)
    deployment.listing(b"filter bytes")
    repo = Simulator()
    view = deployment.path / "aviation"
    repo.files = {
        str(path.relative_to(view)): path.read_bytes() for path in view.rglob("*") if path.is_file()
    }
    client = Client(module, tmp_path, host.url(repo))
    assert client.init(deployment.root) == 0
    assert client.download("catalogue", "listing/aviation/filter") == 0
    assert client.downloaded() == {
        "catalogue": b"catalogue 1",
        "listing/aviation/filter": b"filter bytes",
    }
    assert Metadata.from_bytes(client.bytes_of("listing-aviation")).signed.version == 2
