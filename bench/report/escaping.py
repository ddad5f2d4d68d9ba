r"""Labels as plain text in every format: nothing that a user names is markup, a formula or a command to a terminal.

:func:`printable` comes first, where text enters a report (:func:`bench.report.run_entries.join`); the other functions
escape what a single format would take for markup.
"""

import re
import unicodedata
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

BIDIRECTIONAL = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
CONTROLS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
FORMULA_SIGNS = "=+-@\t\r\n＝＋－＠"  # first signs that make spreadsheets compute a cell


def printable(text: object) -> str:
    r"""Return text on one line that shows every control character, line separator and lone surrogate as an escape.

    Signs that reverse the direction of writing and code points that are no characters are escaped too, because they
    make a label look like another one, or a file of another format invalid.

    >>> printable("a\nb\x1b[31m"), printable("lora, r=4 é"), printable("\ud83d")
    ('a\\nb\\x1b[31m', 'lora, r=4 é', '\\ud83d')
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(sign: str) -> str:
    code = ord(sign)
    no_character = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    if unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp") and sign not in BIDIRECTIONAL and not no_character:
        return sign
    escaped = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return CONTROLS.get(sign, escaped)


def shortened(text: str, length: int) -> str:
    """Return the text, or its two ends where it is longer than ``length``.

    >>> shortened("abcdefghij", 7), shortened("abc", 7)
    ('abc…hij', 'abc')
    """
    head, tail = (length - 1) // 2, length - 1 - (length - 1) // 2
    return text if len(text) <= length else f"{text[: length - 1 - tail][:head]}…{text[-tail:]}"


def csv_field(field: object) -> object:
    """Return a field of a CSV file: text that a spreadsheet would compute begins with an apostrophe, numbers stay.

    >>> csv_field("=1+1"), csv_field("lora"), csv_field(-1.5)
    ("'=1+1", 'lora', -1.5)
    """
    if not isinstance(field, str):
        return field
    text = printable(field)
    return f"'{text}" if text.startswith(tuple(FORMULA_SIGNS)) or field.startswith(tuple(FORMULA_SIGNS)) else text


def csv_frame(frame: "pd.DataFrame") -> str:
    """Return a frame as CSV, with every field as :func:`csv_field` writes it, whatever the type of its column."""
    return frame.map(csv_field).to_csv(index=False)


def html_text(text: str) -> str:
    """Escape text for HTML and XML, attribute values included.

    >>> html_text("<b>")
    '&lt;b&gt;'
    """
    return escape(printable(text))


MARKDOWN = {
    **{sign: f"\\{sign}" for sign in "\\`*|~"},
    "<": "&lt;",
    "$": "&#36;",  # GitHub and notebooks take what is between two dollar signs for mathematics, escaped or not
}


def markdown_text(text: str) -> str:
    r"""Escape text for GitHub Markdown, table cells included; not for the beginning of a line.

    Underscores inside words and brackets that make no link stay as they are, for both are plain text there.

    >>> markdown_text("a|b <script> *c* d_e [rank=4] [f](g)")
    'a\\|b &lt;script> \\*c\\* d_e [rank=4] [f]\\(g)'
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", printable(text))
    text = "".join(MARKDOWN.get(sign, sign) for sign in text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    text = re.sub(r"\](?=[(\[:])", r"]\\", text)
    return text


def markdown_line(text: str) -> str:
    r"""Escape text that stands on a line of its own, so that it is no heading, list, quotation or rule.

    >>> markdown_line("# a"), markdown_line("1. a"), markdown_line("1.5 % of a")
    ('\\# a', '1\\. a', '1.5 % of a')
    """
    text = re.sub(r"^(\s*)(\d+)(?=[.)](\s|$))", r"\1\2\\", markdown_text(text))
    return re.sub(r"^(\s*)(?=#+(\s|$)|[+-](\s|$)|>|[-=]+\s*$)", r"\1\\", text)


GREEK = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta"},
    **{"θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi"},
    **{"ρ": "rho", "ς": "varsigma", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi"},
    **{"ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi"},
    **{"Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega", "ϵ": "epsilon", "ϑ": "vartheta"},
    **{"ϕ": "phi", "ϱ": "varrho", "ϖ": "varpi", "\u00b5": "mu", "\u2206": "Delta"},
}
GREEK_AS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
MATHEMATICS = {
    **{"²": "^2", "³": "^3", "¹": "^1", "×": r"\times", "÷": r"\div", "±": r"\pm", "∓": r"\mp", "·": r"\cdot"},
    **{"−": "-", "†": r"^\dagger", "‡": r"^\ddagger", "°": r"^\circ", "¬": r"\neg", "∂": r"\partial", "∑": r"\sum"},
    **{"↑": r"\uparrow", "↓": r"\downarrow", "→": r"\rightarrow", "←": r"\leftarrow", "↔": r"\leftrightarrow"},
    **{"⇒": r"\Rightarrow", "⇐": r"\Leftarrow", "≤": r"\leq", "≥": r"\geq", "≠": r"\neq", "≈": r"\approx"},
    **{"∞": r"\infty", "√": r"\surd", "∈": r"\in", "∘": r"\circ", "⊕": r"\oplus", "⊗": r"\otimes", "⊙": r"\odot"},
    **{"∪": r"\cup", "∩": r"\cap", "∇": r"\nabla", "★": r"\star", "•": r"\bullet", "∥": r"\parallel", "ℓ": r"\ell"},
    **{sign: rf"\{name}" for sign, name in GREEK.items()},
    **{sign: rf"\mathrm{{{letter}}}" for sign, letter in GREEK_AS_LATIN.items()},
}
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"${formula}$" for sign, formula in MATHEMATICS.items()},
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}"},
    **{"ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "§": r"\S{}", "¶": r"\P{}", "©": r"\copyright{}", "£": r"\pounds{}"},
    **{"–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", "\xa0": "~", "\xad": r"\-"},
    **{"¿": r"\textquestiondown{}", "¡": r"\textexclamdown{}", "⁄": "/"},
}
LIGATURES = ("--", "``", "''", "?`", "!`", ",,")  # pairs that fonts print as another sign
ACCENTS = {  # combining mark: the command that puts it on a letter
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."},
    **{"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0323": "d"},
}
GREEK_ACCENTS = {"\u0300": "grave", "\u0301": "acute", "\u0308": "ddot"}


def latex_text(text: str) -> str:
    r"""Escape text for pdflatex without further packages; a sign that it cannot set is written as its code point.

    >>> latex_text("50% of a_b ×"), latex_text("α=½ é 中")
    ('50\\% of a\\_b $\\times$', "$\\alpha$=1/2 \\'{e} (U+4E2D)")
    """
    signs = unicodedata.normalize("NFC", printable(text))
    pairs = zip(" " + signs, signs, strict=False)
    return "".join(("{}" if before + sign in LIGATURES else "") + _latex_sign(sign) for before, sign in pairs)


def latex_first_cell(text: str) -> str:
    r"""Protect the escaped first cell of a row: LaTeX takes ``[`` and ``*`` after ``\\`` or a rule for its argument.

    >>> latex_first_cell("[best]"), latex_first_cell("lora")
    ('{}[best]', 'lora')
    """
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _latex_sign(sign: str) -> str:
    if sign in LATEX:
        return LATEX[sign]
    if " " <= sign <= "~":
        return sign
    parts = unicodedata.normalize("NFKD", sign)
    base, marks = parts[:1], parts[1:]
    if marks in ACCENTS and base.isascii():
        return f"\\{ACCENTS[marks]}{{{base}}}"
    if marks in GREEK_ACCENTS and base in MATHEMATICS:
        return f"$\\{GREEK_ACCENTS[marks]}{{{MATHEMATICS[base]}}}$"
    if parts != sign and all(part in LATEX or " " <= part <= "~" for part in parts):
        return "".join(map(_latex_sign, parts))
    return f"(U+{ord(sign):04X})"
