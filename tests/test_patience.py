"""How long waits bear failures: by finality, by what is at stake, and by whether the lab controller ever answered."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from pytest_jumpstarter.client.v1 import Request, Response
from pytest_jumpstarter.errors import Finality, RequestError
from pytest_jumpstarter.leasing.patience import SECOND_LOOK, UNKNOWN_PATIENCE, Patience

OWN = 60.0


class Clock:
    """A clock that stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        """Return its time."""
        return self.now


def failure(finality: Finality) -> RequestError:
    """Return an error of this finality."""
    code, text = {
        "final": (StatusCode.NOT_FOUND, ""),
        "refusal": (StatusCode.UNAUTHENTICATED, "no"),
        "setup": (StatusCode.UNAVAILABLE, "CERTIFICATE_VERIFY_FAILED"),
        "passing": (StatusCode.UNKNOWN, "oidc: authenticator not initialized"),
        "unknown": (StatusCode.UNKNOWN, "who knows"),
    }[finality]
    request = Request("GetLease", {"name": "namespaces/lab/leases/x"})
    error = Response(request=request, endpoint="lab:1", code=code, details=text).error()
    assert error.finality is finality
    return error


def borne(finality: Finality, *, has_lease: bool = False, has_answered: bool = False) -> int:
    """Return for how many whole seconds a failure that comes every second is borne."""
    clock = Clock()
    patience = Patience(OWN, has_lease=has_lease, has_answered=has_answered, clock=clock)
    while not patience.is_over(failure(finality)):
        clock.now += 1.0
    return int(clock.now)


@pytest.mark.parametrize(
    ("finality", "has_lease", "has_answered", "seconds"),
    [
        ("final", True, True, 0),
        ("final", False, False, 0),
        ("refusal", True, True, SECOND_LOOK),
        ("refusal", False, False, SECOND_LOOK),
        ("setup", False, False, 0),
        ("setup", False, True, OWN),
        ("setup", True, True, OWN),
        ("passing", False, False, OWN),
        ("passing", True, True, OWN),
        ("unknown", False, False, UNKNOWN_PATIENCE),
        ("unknown", False, True, UNKNOWN_PATIENCE),
        ("unknown", True, True, OWN),
    ],
)
def test_what_is_borne(finality: Finality, has_lease: bool, has_answered: bool, seconds: float) -> None:
    """Each finality is borne as the table says, with and without a lease, before and after a first answer."""
    assert borne(finality, has_lease=has_lease, has_answered=has_answered) == seconds


@pytest.mark.parametrize("finality", ["passing", "unknown", "refusal"])
def test_an_answer_begins_anew(finality: Finality) -> None:
    """Whatever is borne is counted from the last answer."""
    clock = Clock()
    patience = Patience(OWN, clock=clock)
    for _ in range(10):
        assert not patience.is_over(failure(finality))
        clock.now += OWN
        patience.answered()


def test_a_refusal_after_an_outage_is_looked_at_twice() -> None:
    """The time of an outage does not count as the first look."""
    clock = Clock()
    patience = Patience(OWN, clock=clock)
    assert not patience.is_over(failure("passing"))
    clock.now += OWN / 2
    assert not patience.is_over(failure("refusal"))
    clock.now += SECOND_LOOK
    assert patience.is_over(failure("refusal"))


def test_a_short_wait_stays_short() -> None:
    """What nobody knows is not borne longer than the wait itself may take."""
    clock = Clock()
    patience = Patience(5.0, clock=clock)
    clock.now += 5.0
    assert patience.is_over(failure("unknown"))
