#!/usr/bin/python3
"""Random and mutated documents: src/json.c against Python's json made strict.

    json_differential.py <test_json binary> [documents] [seed]

Both sides must agree on validity, and on a hash over every value (unescaped strings, number
literals, member counts).
"""
import json
import random
import struct
import subprocess
import sys

MASK = (1 << 64) - 1


class Num(str):
    pass


class Pairs(list):
    pass


def refuse(word):
    raise ValueError(word)


def walk(value, out):
    if value is None:
        out.append(b"n")
    elif value is True:
        out.append(b"t")
    elif value is False:
        out.append(b"f")
    elif isinstance(value, Num):
        out.append(b"#" + value.encode())
    elif isinstance(value, str):
        out.append(b'"' + value.encode())          # a lone surrogate raises here
    elif isinstance(value, Pairs):
        out.append(b"{" + struct.pack("<I", len(value)))
        for key, item in value:
            walk(key, out)
            walk(item, out)
    else:
        out.append(b"[" + struct.pack("<I", len(value)))
        for item in value:
            walk(item, out)


def oracle(doc):
    try:
        value = json.loads(doc.decode("utf-8"), parse_int=Num, parse_float=Num, parse_constant=refuse,
                           object_pairs_hook=Pairs)
        out = []
        walk(value, out)
    except (ValueError, RecursionError):           # UnicodeError is a ValueError
        return "0"
    h = 14695981039346656037
    for byte in b"".join(out):
        h = ((h ^ byte) * 1099511628211) & MASK
    return "1 %016x" % h


def random_string(rng):
    n = rng.choice([0, 1, 3, 8, 9, 20])
    pool = ['a', 'Z', ' ', '"', '\\', '\n', '\x00', '\x1f', '\x7f', '\u00e9', '\u20ac', '\U0001F600', '\ud7ff', '/', '\u0080']
    text = "".join(rng.choice(pool) for _ in range(n))
    return json.dumps(text, ensure_ascii=rng.random() < 0.5)


def random_number(rng):
    s = rng.choice(["", "-"]) + rng.choice(["0", "7", "120", "99999999999999999999"])
    if rng.random() < 0.4:
        s += "." + rng.choice(["0", "5", "00100"])
    if rng.random() < 0.3:
        s += rng.choice("eE") + rng.choice(["", "+", "-"]) + rng.choice(["0", "07", "400"])
    return s


def random_value(rng, depth):
    kind = rng.randrange(8 if depth > 0 else 5)
    space = rng.choice(["", "", "", " ", "\n\t", "\r"])
    if kind == 0:
        s = rng.choice(["null", "true", "false"])
    elif kind in (1, 2):
        s = random_string(rng)
    elif kind in (3, 4):
        s = random_number(rng)
    elif kind == 5:
        s = "[" + ",".join(random_value(rng, depth - 1) for _ in range(rng.randrange(5))) + space + "]"
    else:
        s = "{" + ",".join(space + random_string(rng) + space + ":" + random_value(rng, depth - 1)
                           for _ in range(rng.randrange(5))) + "}"
    return space + s + space


TOKENS = [b'"', b"\\", b"\\u", b"\\ud83d", b"\\ude00", b"\\u0000", b",", b":", b"[", b"]", b"{", b"}", b"0", b"-", b".", b"e",
          b"null", b" ", b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"NaN", b"\x00", b"\x1f"]


def mutate(rng, doc):
    doc = bytearray(doc)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(doc) + 1)
        what = rng.randrange(5)
        if what == 0 and doc:
            del doc[at:at + rng.choice([1, 1, 3])]
        elif what == 1 and at < len(doc):
            doc[at] = rng.randrange(256)
        elif what == 2 and at < len(doc):
            doc[at] ^= 1 << rng.randrange(8)
        else:
            doc[at:at] = rng.choice(TOKENS)
    return bytes(doc)


def main():
    binary = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100000
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    docs = []
    for i in range(count):
        doc = random_value(rng, rng.choice([0, 1, 2, 4])).encode()
        docs.append(doc if i % 4 == 0 else mutate(rng, doc))
    stdin = b"".join(b"%d\n%s" % (len(d), d) for d in docs)
    answers = subprocess.run([binary, "--check"], input=stdin, stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")
    wrong = valid = 0
    for doc, answer in zip(docs, answers[:-1], strict=True):
        want = oracle(doc)
        valid += want != "0"
        if want != answer:
            wrong += 1
            if wrong <= 10:
                print("not ok - %r: python %s, json.c %s" % (doc, want, answer))
    print("%d documents (%d valid), %d disagreements" % (count, valid, wrong))
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
