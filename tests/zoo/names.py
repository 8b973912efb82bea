"""Names that a file system and a store allow, and that break what builds paths, patterns, URIs, CSV or terminals."""

NAMES = {
    "composed (NFC)": "caf\u00e9.png",
    "decomposed (NFD)": "cafe\u0301.png",
    "hash": "a#b.png",
    "percent": "a%b.png",
    "percent-encoded": "a%2Fb%00.png",
    "plus": "a+b.png",
    "question mark": "a?b=c&d.png",
    "pattern": "[a-b]*{c}.png",
    "from right to left": "\u0627\u0644\u0648\u062c\u0647.png",
    "reversing mark": "a\u202egnp.png",
    "zero width": "a\u200bb.png",
    "beyond the first plane": "\U0001f642.png",
    "255 bytes": "n" * 251 + ".png",
    "255 bytes of three each": "\u9762" * 83 + "ab.png",
    "leading dot": ".a.png",
    "two leading dots": "..a.png",
    "extension alone": ".png",
    "leading dash": "-a.png",
    "leading space": " a.png",
    "trailing space": "a.png ",
    "spaces": "a  b.png",
    "quotes": "a\"b'c`d.png",
    "comma and semicolon": "a,b;c.png",
    "dollar and braces": "$HOME ${a} $(b).png",
    "tilde": "~a.png",
    "colon": "a:b.png",
    "at": "me@host.png",
    "equals": "a=b.png",
    "pipe and angles": "a|b<c>.png",
    "upper case": "A.PNG",
    "lower case": "a.png",
    "no extension": "photo",
    "many dots": "a.b.c.d.png",
    "shard": "shard-00000.png",
    "of Windows": "con.png",
    "folder with a dot": "d.png/a.png",
    "folder with a hash": "d#e/a.png",
    "folder with spaces": " d /a.png",
    "folder deep below": "d/" * 60 + "a.png",
    "folder of dots": "d/.../a.png",
}
"""What is special about a name, and the name: keys below a folder or a prefix."""

CONTROL_NAMES = {
    "line feed": "a\nb.png",
    "carriage return": "a\rb.png",
    "tab": "a\tb.png",
    "escape sequence": "a\x1b[31mb\x07.png",
    "delete": "a\x7fb.png",
}
"""The same with control characters, which a manifest must not have."""

BACKSLASH = {"backslash": "a\\b.png"}
"""On a disk alone: a manifest reads it as Windows does, and not every store keeps it."""
