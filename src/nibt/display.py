"""Text as people see it: on one line, with what no font has made visible.

A caption, a label or the name of a file may have line breaks, control sequences of terminals, or bytes that are no
text. Whatever is printed or drawn goes through ``one_line``.
"""

_JOINERS = "\u200c\u200d"  # of scripts and emoji


def one_line(text: str) -> str:
    r"""Return a text on one line: blanks become spaces, and what cannot be printed becomes its escape.

    >>> one_line("a red\ncat"), one_line("\x1b[2J"), one_line("\udcff")
    ('a red cat', '\\x1b[2J', '\\udcff')

    """
    return "".join(character if character in _JOINERS else _visible(character) for character in text)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()
