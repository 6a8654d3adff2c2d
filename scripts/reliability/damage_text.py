"""Ways to damage YAML and JSON, for a parser or who uses what it gives."""

from __future__ import annotations

import random

from damage_bytes import Victim

DEEP = 100_000


def text(draw: random.Random, victim: Victim) -> bytes:
    """What a parser, or who uses its result, may stumble over."""
    content = victim.content.decode()
    return draw.choice(TEXTS)(draw, content, victim).encode("utf-8", "surrogateescape")


def _nested(draw: random.Random, content: str, victim: Victim) -> str:
    opening = draw.choice(["[", '{"a":', "- ", "? ", "{a: ", "[[{", "a: ["])
    return draw.choice(["", "data: ", '{"data": ']) + opening * draw.choice([50, 1000, DEEP])


def _numbers(draw: random.Random, content: str, victim: Victim) -> str:
    huge = ["9" * DEEP, "1e999", "-1e999", "NaN", ".nan", ".inf", "0x" + "f" * DEEP, "1_" * 999]
    return _value(draw, content, draw.choice([*huge, ":".join(["59"] * 20_000), "-" + "1" * 400]))


def _types(draw: random.Random, content: str, victim: Victim) -> str:
    odd = ["[]", "{}", "null", '""', "[1, [2]]", '{"a": 1}', "true", '"x"', "-1", "1.5", "0"]
    odd += ['"\\ud800"', '"\\u001b[2J"', '"' + "x" * DEEP + '"', "2026-01-01", "!!binary aGk="]
    return _value(draw, content, draw.choice(odd))


def _value(draw: random.Random, content: str, value: str) -> str:
    """The value on a random line replaced, and every second time that of a key that is read."""
    known = ("status", "name", "train", "test", "wall_seconds", "thresholds", "data", "seed")
    lines = content.split("\n")
    numbers = [i for i, line in enumerate(lines) if ": " in line or line.endswith(":")]
    read = [i for i in numbers if lines[i].split(":")[0].strip(' "') in known]
    chosen = draw.choice(read if read and draw.random() < 0.6 else numbers or [0])
    key = lines[chosen].partition(":")[0]
    lines[chosen] = f"{key}: {value}" + ("," if content.startswith("{") else "")
    return "\n".join(lines)


def _laughs(draw: random.Random, content: str, victim: Victim) -> str:
    """Each anchor repeats the one before it many times; or merges it."""
    fold = draw.choice([2, 9])
    lines = ["a0: &a0 {k: lol}"] if draw.random() < 0.5 else ["a0: &a0 [lol]"]
    for level in range(1, draw.choice([8, 60])):
        repeated = ", ".join([f"*a{level - 1}"] * fold)
        value = "{<<: [%s]}" if "{" in lines[0] else "[%s]"
        lines.append(f"a{level}: &a{level} {value % repeated}")
    return content + "\n" + "\n".join(lines) + "\n"


def _loop(draw: random.Random, content: str, victim: Victim) -> str:
    return content + draw.choice(
        ["\nme: &me [*me]\n", "\nme: &me {me: *me}\n", "\n<<: &x {<<: *x}"]
    )


def _tags(draw: random.Random, content: str, victim: Victim) -> str:
    tags = [
        f'!!python/object/apply:os.system ["{victim.command}"]',
        f"!!python/object/new:subprocess.Popen [[touch, {victim.canary}]]",
        f"!!python/object/apply:builtins.exec ['import os; os.system(\"{victim.command}\")']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!map []",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!timestamp 99999-99-99",
        "!!int abc",
        "!!binary '***'",
        "!unknown x",
    ]
    return _value(draw, content, draw.choice(tags))


def _interpolated(draw: random.Random, content: str, victim: Victim) -> str:
    texts = ["${oc.env:HOME}", "${data}", "${name}", "${oc.decode:${oc.env:PATH}}", "${nothing}"]
    texts += ["${" * 3000, "${a" * 500 + "}" * 500, "${oc.create:{a: 1}}", "${.${.${.}}}", "${"]
    texts += [f"${{oc.create:{{_target_: os.system, command: {victim.command}}}}}", "???"]
    text = draw.choice(texts)
    if draw.random() < 0.5:  # an interpolation once the parser has read it
        text = text.replace("$", draw.choice(["\\x24", "\\u0024", "$\\\n"]))
    return _value(draw, content, f'"{text}"')


def _encoded(draw: random.Random, content: str, victim: Victim) -> str:
    """Not UTF-8, or with characters that do not belong in a text."""
    place = draw.randrange(len(content) + 1)
    odd = draw.choice(["\udcff\udcfe", "\udcc3(", "\0", "\x1b[2J", "\ufeff", "\x85", "\t"])
    return content[:place] + odd + content[place:]


def _repeated(draw: random.Random, content: str, victim: Victim) -> str:
    """Keys twice, or a file of many megabytes."""
    lines = content.split("\n")
    line = draw.randrange(len(lines))
    if draw.random() < 0.5:
        return "\n".join([*lines[:line], lines[line], *lines[line:]])
    more = draw.choice(["- a\n", "#\n", " ", "'", "k: &a v\n", "[],", "\n", "? "])
    return draw.choice(["", content, "["]) + more * (2**24 // len(more))


def _payload(draw: random.Random, content: str, victim: Victim) -> str:
    """A class to build, as in a configuration of ours."""
    names = ["os.system", "builtins.exec", "hydra.utils.instantiate", "grokscope.nets.MLP"]
    lines = [f"_target_: {draw.choice(names)}", f"command: {victim.command}"]
    lines += draw.choice([[f"_args_: [{victim.command}]"], ["_partial_: true"], []])
    places = [
        "net",
        "model",
        "data",
        "callbacks",
        "model:\n  loss",
        "measures:\n  progress:\n    x",
    ]
    place = draw.choice(places)
    indent = "\n" + "  " * (place.count("\n") + 1)
    return f"seed: 0\n{place}:" + "".join(indent + line for line in lines) + "\n"


TEXTS = (
    _nested,
    _numbers,
    _types,
    _laughs,
    _loop,
    _tags,
    _interpolated,
    _encoded,
    _repeated,
    _payload,
)
