"""Finds the functions of clang-format'ed C++ and how long they are, by
reading text: braces directly within files, namespaces and classes."""
import collections
import re

# Line numbers and length in lines, from the signature to the closing brace.
Function = collections.namedtuple("Function", "name line lines")

TOKEN = re.compile(
    r"""
    (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<raw>\b(?:u8|u|U|L)?R"(?P<mark>[^\s()\\]{0,16})\(.*?\)(?P=mark)")
  | (?P<word>[A-Za-z_]\w*)
  | (?P<number>\.?\d(?:[eEpP][+-]|'\w|[\w.])*)
  | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)
  | (?P<space>\s+)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
SCOPES = {"namespace", "class", "struct", "union", "enum"}


def _without_template(words):
    """`words` of a declaration after its template parameters."""
    while words and words[0] == "template":
        depth = 0
        for i, word in enumerate(words[1:], 1):
            depth += (word == "<") - (word == ">")
            if depth == 0:
                words = words[i + 1:]
                break
        else:
            return []
    return words


def _opens(words, spaced):
    """What a brace opens outside of functions, by the words before it."""
    words = _without_template(words)
    while words and words[0] in ("inline", "export", "typedef", "extern"):
        words = words[1:]
    if not words or words[0] in SCOPES:
        return "scope"
    # A body stands apart from what it follows, a member's braces do not.
    if spaced and "(" in words and words[-1] not in ("=", ",", "(", "return"):
        return "function"
    return "other"


def _name(words):
    words = _without_template(words)
    for i, word in enumerate(words):
        if word == "(" and i > 0:
            if words[i - 1] in ("TEST", "TEST_F", "TEST_P", "RC_GTEST_PROP"):
                return "".join(words[i - 1:i + 4]) + ")"
            if words[i - 1] == "operator":
                return "operator()"
            start = i - 1
            while start > 1 and words[start - 1] == ":":
                start -= 3  # Class :: name
            return "".join(words[max(start, 0):i])
    return "?"


def functions(text):
    """All functions of `text`.

    Raises ValueError where the braces do not match, for then nothing that
    follows could be trusted."""
    found = []
    scopes = []  # what each open brace opened
    words = []   # of the declaration so far
    first = 1    # its line
    body = None  # (name, first line, depth) of the function we are in
    line = 1
    spaced = False
    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        kind = "raw" if match.group("raw") else kind
        if kind in ("comment", "directive", "space"):
            line += token.count("\n")
            spaced = True
            continue
        if token == "{":
            opened = "block"
            if body is None:
                opened = _opens(words, spaced)
                if opened == "function":
                    body = (_name(words), first, len(scopes))
                elif opened == "scope":
                    words = []
                else:
                    words.append("{}")
            scopes.append(opened)
        elif token == "}":
            if not scopes:
                raise ValueError(f"line {line}: a brace closes nothing")
            opened = scopes.pop()
            if body and len(scopes) == body[2]:
                found.append(Function(body[0], body[1], line - body[1] + 1))
                body = None
                words = []
            elif body is None and opened == "scope":
                words = []
        elif body is None and "other" not in scopes:
            if token == ";" or (token == ":" and words in (
                    ["public"], ["private"], ["protected"])):
                words = []
            else:
                if not words:
                    first = line
                words.append(token)
        line += token.count("\n")
        spaced = False
    if scopes:
        raise ValueError("a brace is never closed")
    return found
