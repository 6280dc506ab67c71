"""Who is calling, and the authorisation table."""

from __future__ import annotations

import pytest

from tipstaff.v1 import dispute_pb2, distribution_pb2, enforcement_pb2, registry_pb2, statistics_pb2
from tipstaff_server.certificates.caller import MAY_CALL, Caller, Role, caller_from_uris, may_call
from tipstaff_server.errors import NotIdentifiedError

PROVIDER = Caller(Role.PROVIDER, "air-1", "aviation")
AUTHORITY = Caller(Role.AUTHORITY, "supreme-court")
OFFICER = Caller(Role.AUTHORITY, "supreme-court", officer="clerk-7")
OPERATOR = Caller(Role.OPERATOR, "ops")

# Written out again by hand: a slip in the program's table must not be a slip here too.
EXPECTED = {
    "DistributionService/GetMetadata": "P",
    "DistributionService/GetArtefact": "P",
    "DistributionService/Watch": "P",
    "DistributionService/Acknowledge": "P",
    "DistributionService/GetEpochKeys": "P",
    "DistributionService/FetchBucket": "P",
    "DistributionService/ListRemedies": "P",
    "DistributionService/AnswerRemedy": "P",
    "EnforcementService/SubmitReports": "P",
    "EnforcementService/SubmitCoverage": "P",
    "DisputeService/OpenDispute": "PAO",
    "DisputeService/GetDispute": "AO",
    "DisputeService/FollowDispute": "PAO",
    "DisputeService/ListDisputes": "AO",
    "DisputeService/AnswerDispute": "AO",
    "RegistryService/SubmitRestrictions": "AO",
    "RegistryService/GetRestriction": "AO",
    "RegistryService/EndRestriction": "AO",
    "RegistryService/GetDraft": "AO",
    "RegistryService/ApproveRestriction": "AO",
    "RegistryService/ApproveRestrictions": "AO",
    "RegistryService/AmendRestriction": "AO",
    "RegistryService/ExemptRestriction": "AO",
    "RegistryService/SearchRestrictions": "AO",
    "RegistryService/GetHistory": "AO",
    "RegistryService/GetSubject": "AO",
    "RegistryService/AddPost": "AO",
    "RegistryService/EndPost": "AO",
    "RegistryService/AmendPost": "AO",
    "RegistryService/MergeSubjects": "O",
    "RegistryService/SplitSubject": "O",
    "RegistryService/CorrectSubject": "O",
    "StatisticsService/GetStatistics": "O",
}


def methods_of_the_contract() -> set[str]:
    files = (dispute_pb2, distribution_pb2, enforcement_pb2, registry_pb2, statistics_pb2)
    return {
        f"{service.full_name}/{method.name}".removeprefix("tipstaff.v1.")
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_the_table_says_something_about_every_method_and_nothing_else():
    assert set(EXPECTED) == methods_of_the_contract()
    assert {
        method.removeprefix("/tipstaff.v1.") for method in MAY_CALL
    } == methods_of_the_contract()


@pytest.mark.parametrize(
    "caller", [PROVIDER, AUTHORITY, OPERATOR], ids=["provider", "authority", "operator"]
)
def test_whoever_has_a_certificate_may_ask_for_health(caller: Caller):
    assert may_call(caller, "/grpc.health.v1.Health/Check")
    assert may_call(caller, "/grpc.health.v1.Health/Watch")


@pytest.mark.parametrize("method", sorted(EXPECTED))
@pytest.mark.parametrize(
    ("letter", "caller"),
    [("P", PROVIDER), ("A", AUTHORITY), ("A", OFFICER), ("O", OPERATOR)],
    ids=["provider", "authority", "officer", "operator"],
)
def test_authorisation(method: str, letter: str, caller: Caller):
    assert may_call(caller, f"/tipstaff.v1.{method}") is (letter in EXPECTED[method])


@pytest.mark.parametrize(
    "method",
    [
        "/tipstaff.v1.DistributionService/Purge",
        "",
        "DistributionService/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
def test_a_method_that_is_not_in_the_table_is_nobodys(method: str):
    assert not any(may_call(caller, method) for caller in (PROVIDER, AUTHORITY, OPERATOR))


@pytest.mark.parametrize("caller", [PROVIDER, AUTHORITY, OFFICER, OPERATOR])
def test_a_callers_uri_names_it(caller: Caller):
    assert caller_from_uris([caller.uri.encode()]) == caller


def test_other_uris_beside_the_identity_are_ignored():
    assert (
        caller_from_uris(
            [b"https://example.org/x", PROVIDER.uri.encode(), b"spiffe://example.org/x"]
        )
        == PROVIDER
    )


@pytest.mark.parametrize(
    "uris",
    {
        "none": [],
        "none of ours": [b"spiffe://example.org/aviation/air-1"],
        "two of ours": [b"tipstaff://operator/a", b"tipstaff://operator/b"],
        "the same twice": [b"tipstaff://operator/a", b"tipstaff://operator/a"],
        "unknown role": [b"tipstaff://root/a"],
        "provider without audience": [b"tipstaff://provider/air-1"],
        "provider with one part too many": [b"tipstaff://provider/aviation/air-1/x"],
        "authority with a part too many": [b"tipstaff://authority/a/b"],
        "authority with an empty officer": [b"tipstaff://authority/a/officer/"],
        "officer within an officer": [b"tipstaff://authority/a/officer/b/officer/c"],
        "provider with an officer": [b"tipstaff://provider/aviation/air-1/officer/b"],
        "empty name": [b"tipstaff://operator/"],
        "upper case": [b"tipstaff://operator/OPS"],
        "traversal": [b"tipstaff://provider/../air-1"],
        "dot": [b"tipstaff://provider/aviation/."],
        "name too long": [b"tipstaff://operator/" + b"a" * 41],
        "line end": [b"tipstaff://operator/ops\n"],
        "NUL": [b"tipstaff://operator/ops\0"],
        "not UTF-8": [b"tipstaff://operator/\xff"],
        "query": [b"tipstaff://operator/ops?as=root"],
        "no slashes": [b"tipstaff:operator"],
    }.values(),
)
def test_a_certificate_that_names_nobody_is_refused(uris: list[bytes]):
    with pytest.raises(NotIdentifiedError, match="issued again"):
        caller_from_uris(uris)
