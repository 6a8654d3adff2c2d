"""Ways to damage a checkpoint: its archive, its pickle, its entries."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from damage_bytes import ANY, EXTREMES, Victim, replaced

DEEP = 100_000


class _Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def parts(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes], way: int = zipfile.ZIP_STORED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", way) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return raw.getvalue()


def _with_pickle(victim: Victim, data: bytes) -> bytes:
    files = parts(victim.content)
    return zipped({n: data if n.endswith("data.pkl") else d for n, d in files.items()})


def inner(draw: random.Random, victim: Victim) -> bytes:
    """A part of the archive damaged, its checksum put right."""
    files = parts(victim.content)
    names = [name for name in files if files[name]]
    name = draw.choice(names)
    if draw.random() < 0.7:
        name = next(n for n in names if n.endswith("data.pkl"))
    part = Victim(files[name], files[draw.choice(names)], victim.canary)
    files[name] = draw.choice(ANY)(draw, part)
    return zipped(files)


def payload(draw: random.Random, victim: Victim) -> bytes:
    """Code that runs where a pickle is believed."""
    python = f"import os; os.system({victim.command!r})"
    call = draw.choice(
        [
            _Call(os.system, victim.command),
            _Call(builtins.exec, python),
            _Call(builtins.eval, f"__import__('os').system({victim.command!r})"),
            _Call(subprocess.Popen, ["touch", str(victim.canary)]),
            _Call(getattr, _Call(__import__, "os"), "system"),
        ]
    )
    way = draw.randrange(4)
    if way == 0:
        return pickle.dumps(call, protocol=draw.choice([0, 2, 4]))
    if way == 1:
        return _with_pickle(victim, pickle.dumps(call, protocol=2))
    content = torch.load(io.BytesIO(victim.content), weights_only=True)
    if way == 2:
        content[draw.choice(["state_dict", "callbacks", "more"])] = {"x": call}
    else:
        content["hyper_parameters"] = {
            "_instantiator": draw.choice(["os.system", "builtins.exec", "subprocess.Popen"]),
            "_class_path": "os.system",
            "command": victim.command,
        }
    raw = io.BytesIO()
    torch.save(content, raw)
    return raw.getvalue()


def entries(draw: random.Random, victim: Victim) -> bytes:
    """Entries of other kinds, saved by torch itself."""
    content = torch.load(io.BytesIO(victim.content), weights_only=True)
    odd: list[Any] = [None, -1, "x", [], {}, {"a": {1: [2]}}, float("nan"), True, 2**70]
    odd += [torch.zeros(1).expand(2**50), torch.zeros(0), torch.zeros(2, 2).to_sparse()]
    odd += [torch.empty(2**50, device="meta"), torch.zeros(3, dtype=torch.complex64)]
    node, key = content, draw.choice([*content])
    while isinstance(node[key], dict) and node[key] and draw.random() < 0.7:
        node = node[key]
        key = draw.choice([*node])
    node[key] = draw.choice(odd)
    raw = io.BytesIO()
    torch.save(content, raw)
    return raw.getvalue()


def opcodes(draw: random.Random, victim: Victim) -> bytes:
    """A pickle that no program writes."""
    many = b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60))
    lists = b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(60))
    big = b"\x8a\x08" + (2**38).to_bytes(8, "little")
    pickles = [
        b"\x80\x02}K\x01\x85q\x00" + many + b"K\x01s.",  # a key whose hash takes 2**60 steps
        b"\x80\x02K\x01\x85q\x00" + lists + b".",
        b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
        b"\x80\x02" + b"(" * DEEP + b".",
        b"\x80\x02cbuiltins\nbytearray\n" + big + b"\x85R.",
        b"\x80\x02ctorch\nFloatTensor\n" + big + b"\x85R.",
        b"\x80\x02ctorch\nFloatStorage\n" + big + b"\x85R.",
        b"\x80\x02ctorch.serialization\n_get_layout\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)Rq\x00h\x00h\x00s.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02r\xff\xff\xff\xffN.",
        b"." * 10,
        b"",
    ]
    return _with_pickle(victim, draw.choice(pickles))


def archived(draw: random.Random, victim: Victim) -> bytes:
    """An archive that is not what it says."""
    files = parts(victim.content)
    way = draw.randrange(9)
    if way == 0:
        return zipped(files, zipfile.ZIP_DEFLATED)
    if way >= 7:
        return _two_directories(draw, victim)
    if way == 1:
        name = draw.choice([*files])
        files[name] = bytes(2**26)
        return zipped(files, draw.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    if way == 2:  # TorchScript
        top = next(iter(files)).partition("/")[0]
        files |= {f"{top}/constants.pkl": b"\x80\x02).", f"{top}/code/a.py": b"import os"}
        return zipped(files)
    if way == 3:
        return b"#!/bin/sh\n" + victim.content
    if way == 4:
        name = draw.choice([*files])
        return zipped({**files, name.upper(): b"x", f"../../{name}": b"x", f"/{name}": b"x"})
    if way == 5:
        return zipped({name: data for name, data in files.items() if draw.random() < 0.8})
    return _sizes(draw, zipped(files))


def _two_directories(draw: random.Random, victim: Victim) -> bytes:
    """The end of ZIP64 of another archive, where the locator says or where it is looked for."""
    own, other = victim.content, victim.other
    if draw.random() < 0.5:
        own, other = other, own
    place = draw.choice([len(other) - 98, len(other) + len(own) - 98, 0, 2**62])
    locator = own[-42:-34] + place.to_bytes(8, "little") + own[-26:-22]
    return other + own[:-98] + draw.choice([own, other])[-98:-42] + locator + own[-22:]


def _sizes(draw: random.Random, content: bytes) -> bytes:
    """Sizes and offsets in the archive's directory."""
    starts = [i for i in _all(content, b"PK\1\2")]
    for _ in range(draw.randint(1, 4)):
        place = draw.choice(starts) + draw.choice([20, 24, 28, 30, 32, 42])
        size = draw.choice(EXTREMES) % 2**32
        content = replaced(content, place, size.to_bytes(4, "little"))
    return content


def _all(content: bytes, mark: bytes) -> Iterator[int]:
    place = content.find(mark)
    while place >= 0:
        yield place
        place = content.find(mark, place + 1)
