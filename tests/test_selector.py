"""Label selectors: Kubernetes' grammar, and what each selector matches."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.errors import SelectorError
from pytest_jumpstarter.selector import Selector, is_label_key, is_label_value, parse_terms

RPI = {"board": "rpi4", "can": "true", "jumpstarter.dev/name": "a"}
X86 = {"board": "x86", "empty": ""}


@pytest.mark.parametrize(
    ("text", "canonical", "rpi", "x86"),
    [
        ("board=rpi4", "board=rpi4", True, False),
        ("board==rpi4", "board=rpi4", True, False),
        (" board = rpi4 ", "board=rpi4", True, False),
        ("board!=rpi4", "board notin (rpi4)", False, True),
        ("board in (rpi4,x86)", "board in (rpi4,x86)", True, True),
        ("board in ( x86 , rpi4 )", "board in (rpi4,x86)", True, True),
        ("board notin (rpi4)", "board notin (rpi4)", False, True),
        ("can", "can", True, False),
        ("!can", "!can", False, True),
        ("! can", "!can", False, True),
        ("can!=true", "can notin (true)", False, True),  # absent counts as "not true"
        ("can notin (true)", "can notin (true)", False, True),
        ("empty=", "empty=", False, True),
        ("empty", "empty", False, True),
        ("empty in ()", "empty in ()", False, True),
        ("board=rpi4,can=true", "board=rpi4,can=true", True, False),
        ("can=true,board=rpi4", "board=rpi4,can=true", True, False),
        ("!can,board=rpi4", "board=rpi4,!can", False, False),
        ("jumpstarter.dev/name=a", "jumpstarter.dev/name=a", True, False),
        ("board!=a,board!=b", "board notin (a,b)", True, True),
        ("board=rpi4,board=rpi4", "board=rpi4", True, False),
        ("in=x", "in=x", False, False),
        ("board=in", "board=in", False, False),
        ("empty in (x,)", "empty in (,x)", False, True),
        ("empty in (,x)", "empty in (,x)", False, True),
        ("board in (x86,x86)", "board in (x86)", False, True),
    ],
)
def test_grammar(text: str, canonical: str, rpi: bool, x86: bool) -> None:
    """Each form parses, reads back in one canonical text, and matches as in Kubernetes."""
    selector = Selector.parse(text)
    assert (selector.matches(RPI), selector.matches(X86)) == (rpi, x86)
    assert str(selector) == canonical
    assert str(Selector.parse(str(selector))) == str(selector)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        ",",
        "a=b,",
        ",a=b",
        "a=b,,c=d",
        "=b",
        "a=b c",
        "a b",
        "a in b",
        "a in (b",
        "a in b)",
        "a in",
        "a notin",
        "!a=b",
        "!",
        "a===b",
        "a=b=c",
        "a!b",
        "(a)",
        "-a=b",
        "a=-b",
        "a=b/c",
        "/a=b",
        "A_/a=b",
        "a/b/c=d",
        "a=" + "x" * 64,
        "x" * 64 + "=a",
        "a=ä",
        "a=$(reboot)",
        "a=b\nc",
    ],
)
def test_refuses(text: str) -> None:
    """What Kubernetes' parser refuses is refused, with the whole text in the message."""
    with pytest.raises(SelectorError) as caught:
        Selector.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("operator", [">", "<"])
def test_numbers_are_not_leased_by(operator: str) -> None:
    """A comparison of numbers parses, but no lab controller leases by it: the message says what to write instead."""
    with pytest.raises(SelectorError, match=r"does not lease by that: list the values, as in slot in \(1,2\)"):
        Selector.parse(f"board=rpi4,slot{operator}1")


@pytest.mark.parametrize(
    ("text", "matching"), [("n>1", ["2", "10"]), ("n<2", ["1"]), ("n<10", ["1", "2"]), ("n!=1", ["2", "10", "x", ""])]
)
def test_terms_of_a_listing(text: str, matching: list[str]) -> None:
    """Numbers compare as numbers; a value that is none matches neither way."""
    (term,) = parse_terms(text)
    assert [value for value in ("1", "2", "10", "x", "") if term.matches({"n": value})] == matching
    assert term.matches({}) is (text == "n!=1")


@pytest.mark.parametrize("text", ["n>", "n>x", "n>-1", "n<1.5", "n>" + "9" * 5000])
def test_no_number(text: str) -> None:
    """A bound that is no number of at most 19 digits is refused."""
    with pytest.raises(SelectorError, match="number"):
        parse_terms(text)


def test_two_values_for_one_label() -> None:
    """A label that should have two values at once is refused at once: nothing could ever match."""
    with pytest.raises(SelectorError, match="both rpi4 and x86"):
        Selector.parse("board=rpi4,board=x86")


def test_order_does_not_matter() -> None:
    """Two ways to write the same conditions have the same text."""
    one, other = "b in (y,x),a=1,!c", "!c,a==1,b in (x,y)"
    assert str(Selector.parse(one)) == str(Selector.parse(other))
    assert Selector.parse("a notin (x),a!=y").terms == Selector.parse("a!=x,a notin (y)").terms


def test_match_labels_are_the_plain_equalities() -> None:
    """Only `k=v` becomes a label of the lease."""
    selector = Selector.parse("a=1,b in (2),c,!d,e!=3")
    assert selector.match_labels == {"a": "1"}


def test_unmet_names_what_is_missing() -> None:
    """The conditions that labels do not fulfil are listed."""
    assert [str(term) for term in Selector.parse("board=x86,can,!empty").unmet(RPI)] == ["board=x86"]


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        ("a", True),
        ("a.b-c_d", True),
        ("example.com/a", True),
        ("x/a", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("", False),
        ("example.com/", False),
        ("/a", False),
        ("Example.com/a", False),
        ("a..b/c", False),
        ("a-", False),
        ("a b", False),
        ("a/b/c", False),
    ],
)
def test_label_keys(key: str, valid: bool) -> None:
    """A key is a name of at most 63 characters, with a DNS prefix or none."""
    assert is_label_key(key) is valid


@pytest.mark.parametrize(
    ("value", "valid"),
    [("", True), ("a", True), ("A_b.c-1", True), ("a" * 63, True), ("a" * 64, False), ("-a", False), ("a/b", False)],
)
def test_label_values(value: str, valid: bool) -> None:
    """A value is empty, or at most 63 characters between two alphanumeric ones."""
    assert is_label_value(value) is valid
