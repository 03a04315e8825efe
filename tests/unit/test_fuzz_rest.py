"""What the fuzzer of the REST API takes for a fault of the services' health."""

import pytest

from tufline_testing.fuzz.rest import unexplained

OWN = {"signer.commits", "signer.bins.0", "signer.key.fn:online.pem"}
WAITS = "what the custom roles b have is not published until dev can be signed"


@pytest.mark.parametrize(
    ("part", "text", "is_fault"),
    [
        ("signer.bins.0.dev", "the custom role dev can't be signed", False),
        ("signer.commits", WAITS, False),
        ("signer.key.fn:lost", "can't be read", False),
        ("signer.key.fn:online.pem", "can't be read", True),
        ("signer.bins.0", "unexpected RuntimeError", True),
        ("signer.commits", "devices wait to be signed", True),
    ],
)
def test_a_problem_of_roles_of_requests_is_no_fault(part: str, text: str, is_fault: bool) -> None:
    """Any other problem is one, and so is one of a role that there is no longer."""
    assert bool(unexplained({part: text}, ["dev", "f.*"], OWN)) is is_fault
    assert bool(unexplained({part: text}, [], OWN)) is (part != "signer.key.fn:lost")
