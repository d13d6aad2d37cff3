"""How a scenario says what must be true."""


class Failure(AssertionError):
    """What had to be true was not."""


def expect(condition: object, otherwise: str) -> None:
    """Fails the scenario with `otherwise` unless the condition holds."""
    if not condition:
        raise Failure(otherwise)


def expect_equal(actual: object, wanted: object, what: str) -> None:
    """Fails the scenario unless both are equal."""
    if actual != wanted:
        raise Failure(f"{what}: wanted {wanted!r}, got {actual!r}")


def expect_in(part: str, text: str, what: str) -> None:
    """Fails the scenario unless `part` occurs in `text`, upper or lower case."""
    if part.lower() not in text.lower():
        raise Failure(f"{what}: no '{part}' in:\n{text[-2000:]}")
