"""What somebody might send by mistake or on purpose: words, and files of rows."""

from hypothesis import strategies as st

NASTY = (
    "",
    " ",
    "a\nb",
    "a\r\nX-Injected: 1",
    "\x00",
    "\x1b[31m",
    "\u202e",
    "'; DROP TABLE line; --",
    "../../etc/passwd",
    "{{7*7}}",
    "<script>",
    "a" * 300,
    "jane@example.com",
    "twl_",
    "💥",
)
CELLS = st.sampled_from(
    (
        *NASTY,
        "\ufeff",
        "=cmd|'/c'!A1",
        "a" * 20_000,
        '"',
        '""',
        "a,b",
        "a;b",
        "\t",
        "s3cret-9\udcff",
    )
) | st.text(max_size=30)
HEADERS = (
    "username,password,email,ends_at\n",
    "username,password,email,ends_at\n" * 2,
    "line,reason\n",
    "line,reason,owner\r\n",
    "username;password\n",
    "username,username\n",
    "user,word\n",
    "{",
    '{"line":',
    '{"username": "jane77", "password": "s3cret-9"}\n',
)


@st.composite
def hostile_files(draw: st.DrawFn) -> bytes:
    """Files that are nearly right, and others that are nothing like it; what they hold as a password is `s3cret…`."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    cells = draw(st.lists(st.lists(CELLS, max_size=5), max_size=4))
    text = draw(st.sampled_from(HEADERS)) + "\n".join(",".join(row) for row in cells)
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252")))
    return text.encode(encoding, "replace" if encoding != "utf-8" else "surrogatepass")
