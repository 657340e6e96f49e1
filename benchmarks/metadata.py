"""What `photodesk` reads of pictures' metadata beside what was written, and beside exiftool.

    python benchmarks/metadata.py [--files 2000] [--damaged 300] [--pyexiv2 PYTHON] [--show 20] [--json FILE]

**Well-formed** files are written by exiftool (Debian's libimage-exiftool-perl; without it this part is skipped): every
pair of field, block, container and character set that exists, each with several made-up texts; pairs that do not exist
are printed. **Damaged** ones are written here, byte by byte, in the ways in which real files differ from the standards.
In both the value that was written is known. Each file is read by photodesk and by exiftool with `-use MWG`; a figure is
the share of values that are equal to what was written, and "lost" counts pictures that could not be decoded. Files a
second are of metadata alone, on one core: photodesk's without the pixels, exiftool's and pyexiv2's as one process for
all files. `--pyexiv2` names a Python that has it: it is under the GPL, so photodesk neither needs nor brings it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, features

from photodesk import images
from photodesk.archive import metadata

WEST = (
    "Größe zählt in Köln",
    "Müller übt für Österreich",
    "Élysée: forêt protégée",
    "Cañón del Ebro, mañana",
    "Smörgåsbord på Åland",
    "Straßenfest in Fürth",
    "Çelik à Besançon",
    "Übung am Fluß",
    "Grüße aus São Tomé",
    "Jürgen Habermaß, Ärztin",
    "Brückenbau in Málaga",
    "Plain words only",
)
WIDE = ("Łódź wieczorem", "İzmir Şehir", "Киев утром", "Αθήνα σήμερα", "東京の夜", "Příliš žluťoučký")
DAYS = ("2019:05:04 10:11:12", "2003:12:31 23:59:58", "1999:01:01 00:00:01", "2024:02:29 06:30:00")
CONTAINERS = ("JPEG", "PNG", "TIFF", "WEBP", "HEIF", "sidecar")


@dataclass(frozen=True)
class Field:
    """A field of the archive: where it is written, and how exiftool calls it."""

    name: str
    said: str
    mwg: str
    kind: str = "text"

    @property
    def tags(self) -> dict[str, str]:
        return {tag[:4].rstrip("-"): tag for tag in self.said.split()}


FIELDS = (
    Field("caption", "XMP-dc:Description IPTC:Caption-Abstract EXIF:ImageDescription", "Description"),
    Field("headline", "XMP-photoshop:Headline IPTC:Headline", "Headline"),
    Field("byline", "XMP-dc:Creator IPTC:By-line EXIF:Artist", "Creator"),
    Field("credit", "XMP-photoshop:Credit IPTC:Credit", "Credit"),
    Field("provider", "XMP-photoshop:Source IPTC:Source", "Source"),
    Field("copyright", "XMP-dc:Rights IPTC:CopyrightNotice EXIF:Copyright", "Copyright"),
    Field("terms", "XMP-xmpRights:UsageTerms IPTC:SpecialInstructions", "UsageTerms|SpecialInstructions"),
    Field("instructions", "XMP-photoshop:Instructions IPTC:SpecialInstructions", "Instructions|SpecialInstructions"),
    Field("keywords", "XMP-dc:Subject IPTC:Keywords", "Keywords", "list"),
    Field("place", "XMP-photoshop:City IPTC:City", "City"),
    Field("sublocation", "XMP-iptcCore:Location IPTC:Sub-location", "Location"),
    Field("taken", "XMP-photoshop:DateCreated IPTC:DateCreated EXIF:DateTimeOriginal", "DateTimeOriginal", "date"),
    Field("people", "XMP-iptcExt:PersonInImage", "PersonInImage", "list"),
    Field("event", "XMP-iptcExt:Event", "Event"),
    Field("alt_text", "XMP-iptcCore:AltTextAccessibility", "AltTextAccessibility"),
    Field("shown", "XMP-iptcExt:LocationShownCity", "LocationShownCity"),
    Field("label", "XMP-xmp:Label", "Label"),
    Field("rating", "XMP-xmp:Rating EXIF:Rating", "Rating", "1-5"),
    Field("urgency", "XMP-photoshop:Urgency IPTC:Urgency", "Urgency", "1-8"),
)  # fmt: skip
CHARSETS = {"XMP": ("UTF8",), "EXIF": ("UTF8", "Latin"), "IPTC": ("UTF8", "Latin", "MacRoman")}
EXISTS = {
    "JPEG": ("XMP", "IPTC", "EXIF"),
    "PNG": ("XMP", "IPTC", "EXIF"),
    "TIFF": ("XMP", "IPTC", "EXIF"),
    "WEBP": ("XMP", "EXIF"),
    "HEIF": ("XMP", "EXIF"),
    "sidecar": ("XMP",),
}


@dataclass(frozen=True)
class Case:
    """A file and one value that is in it."""

    path: Path
    field: str
    right: Any
    kind: str
    mwg: str = ""
    sidecar: Path | None = None


def picture(container: str, seed: int) -> bytes:
    """A small picture of its own content."""
    image = Image.new("RGB", (32, 24), (seed % 256, seed // 256 % 256, 77))
    out = io.BytesIO()
    if container == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(image).save(out)
    else:
        image.save(out, container)
    return out.getvalue()


def combinations() -> Iterator[tuple[Field, str, str, str]]:
    for container in CONTAINERS:
        if container == "HEIF" and "HEIF" not in images.FORMATS:
            print("  HEIF: this photodesk does not read it; left out")
            continue
        for field, block in itertools.product(FIELDS, ("XMP", "IPTC", "EXIF")):
            if block not in EXISTS[container] or block not in field.tags:
                continue
            for charset in CHARSETS[block] if field.kind in ("text", "list") else CHARSETS[block][:1]:
                yield field, block, container, charset


def well_formed(folder: Path, count: int) -> list[Case]:
    """`count` files that exiftool writes."""
    none = [f"{block} in {name}" for name in CONTAINERS for block in CHARSETS if block not in EXISTS[name]]
    print(f"  do not exist: {', '.join(none)}; fields that one block lacks")
    pairs = list(combinations())
    cases, script = [], io.StringIO()
    for i, (field, block, container, charset) in zip(range(count), itertools.cycle(pairs), strict=False):
        texts = (*WEST, *WIDE) if charset == "UTF8" else WEST
        round_ = i // len(pairs) + i
        text = texts[round_ % len(texts)]
        suffix = {"sidecar": "jpg", "JPEG": "jpg", "HEIF": "heic"}.get(container, container.lower())
        path = folder / f"{i:05}.{suffix}"
        path.write_bytes(picture("JPEG" if container == "sidecar" else container, i))
        target, sidecar = path, None
        if container == "sidecar":
            target = sidecar = path.with_suffix(".xmp")
        tag, extra = field.tags[block], []
        if field.kind == "date":
            day = DAYS[round_ % len(DAYS)]
            right: Any = day.replace(":", "-", 2).replace(" ", "T")
            if block == "IPTC":
                values, extra = [day[:10]], [f"-IPTC:TimeCreated={day[11:]}+00:00"]
            else:
                values = [day]
        elif field.kind == "list":
            right = (text, texts[(round_ + 1) % len(texts)])
            values = list(right)
        elif field.kind == "text":
            right, values = text, [text]
        else:
            right = 1 + round_ % int(field.kind[-1])
            values = [str(right)]
        arguments = ["-charset", f"{block.lower()}={charset}"] if block != "XMP" else []
        if block == "IPTC":
            extra.append("-IPTC:CodedCharacterSet=" + ("UTF8" if charset == "UTF8" else ""))
        arguments += [f"-{tag}={value}" for value in values] + extra
        arguments += ["-overwrite_original", "-q", str(target)]
        script.write("\n".join(arguments) + "\n-execute\n")
        cases.append(Case(path, field.name, right, f"{block} {container} {charset}", field.mwg, sidecar))
    (folder / "script").write_text(script.getvalue(), "utf-8")
    done = subprocess.run(["exiftool", "-@", folder / "script"], capture_output=True, text=True)
    (folder / "script").unlink()
    if done.stderr.strip():
        print("  exiftool:", Counter(line[:60] for line in done.stderr.splitlines()).most_common(5))
    return cases


# the writer of damaged files


def ds(record: int, number: int, value: bytes) -> bytes:
    return b"\x1c" + bytes([record, number]) + struct.pack(">H", len(value)) + value


def resource(block: bytes, number: int = 0x0404) -> bytes:
    return (
        b"8BIM" + struct.pack(">H", number) + b"\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
    )


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def app13(block: bytes) -> bytes:
    return segment(0xED, b"Photoshop 3.0\0" + resource(block))


def app1(xml: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xml)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


SPACES = (
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
    ' xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
)


def about(body: str, more: str = "") -> str:
    return f'<rdf:Description rdf:about=""{SPACES}{more}>{body}</rdf:Description>'


def packet(*blocks: str) -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + "".join(blocks) + "</rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    )


def alt(text: str, language: str = "x-default", before: str = "") -> str:
    return f'<dc:description><rdf:Alt>{before}<rdf:li xml:lang="{language}">{text}</rdf:li></rdf:Alt></dc:description>'


Way = Callable[[str], tuple[str, list[bytes]]]
"""A text → what is to be read of it, and segments of a JPEG."""
OTHER = "Fremdes Bild"


def _iptc(make: Callable[[bytes], bytes]) -> Way:
    return lambda text: (text, [app13(ds(1, 90, b"\x1b%G") + make(ds(2, 120, text.encode())))])


def _xmp(make: Callable[[str], bytes | str]) -> Way:
    def way(text: str) -> tuple[str, list[bytes]]:
        made = make(text)
        return text, [app1(made if isinstance(made, bytes) else made.encode())]

    return way


def _declared(escape: bytes, charset: str, texts: tuple[str, ...]) -> Way:
    def way(text: str) -> tuple[str, list[bytes]]:
        said = texts[sum(text.encode()) % len(texts)]
        return said, [app13(ds(1, 90, escape) + ds(2, 120, said.encode(charset)))]

    return way


def _parts(text: str) -> tuple[str, list[bytes]]:
    whole = resource(ds(1, 90, b"\x1b%G") + ds(2, 105, b"x" * 900) + ds(2, 120, text.encode()))
    return text, [segment(0xED, b"Photoshop 3.0\0" + part) for part in (whole[:500], whole[500:])]


def _cut(text: str) -> tuple[str, list[bytes]]:
    whole = resource(ds(1, 90, b"\x1b%G") + ds(2, 120, text.encode()) + ds(2, 40, b"y" * 200))
    return text, [segment(0xED, b"Photoshop 3.0\0" + whole[:-120])]


def _extended(text: str) -> tuple[str, list[bytes]]:
    name = b"0123456789ABCDEF" * 2
    rest = packet(about(alt(text))).encode()
    head = b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">I", len(rest))
    halves = ((0, rest[:200]), (200, rest[200:]))
    main = packet(about("", f' xmpNote:HasExtendedXMP="{name.decode()}"'))
    return text, [
        app1(main.encode()),
        *(segment(0xE1, head + struct.pack(">I", at) + part) for at, part in reversed(halves)),
    ]


NFD = lambda text: unicodedata.normalize("NFD", text)  # noqa: E731
INGREDIENT = (
    "<xmpMM:{0}><rdf:Bag><rdf:li><rdf:Description>" + alt(OTHER) + "</rdf:Description></rdf:li></rdf:Bag></xmpMM:{0}>"
)
WAYS: dict[str, Way] = {
    "IPTC: empty city": _iptc(lambda s: ds(2, 90, b"") + s),
    "IPTC: empty keyword and date": _iptc(lambda s: ds(2, 25, b"") + s + ds(2, 55, b"")),
    "IPTC: blanks at the end": _iptc(lambda s: s + b" " * 40),
    "IPTC: rubbish at the end": _iptc(lambda s: s + b"\x00\x17rubbish\xfe\x1c"),
    "IPTC: record 15": _iptc(lambda s: ds(15, 3, b"vendor") + s),
    "IPTC: record 3": _iptc(lambda s: ds(3, 200, b"\0\1\2") + s + ds(3, 10, b"")),
    "IPTC: a stray NUL": _iptc(lambda s: b"\0" + s + b"\0" + ds(2, 105, b"Kopf")),
    "IPTC: extended size": _iptc(lambda s: s[:3] + struct.pack(">HI", 0x8004, len(s) - 5) + s[5:]),
    "IPTC: in two segments": _parts,
    "IPTC: cut short": _cut,
    "IPTC: ISO 8859-1 declared": _declared(b"\x1b.A", "latin1", WEST),
    "IPTC: ISO 8859-2 declared": _declared(b"\x1b-B", "iso8859-2", ("Łódź wieczorem", "Příliš žluťoučký")),
    "IPTC: ISO 8859-5 declared": _declared(b"\x1b-L", "iso8859-5", ("Киев утром", "Москва вечером")),
    "IPTC: ISO 8859-9 declared": _declared(b"\x1b-M", "iso8859-9", ("İzmir Şehir", "Iğdır ışığı")),
    "IPTC: MacRoman, undeclared": lambda t: (t, [app13(ds(2, 120, t.encode("mac_roman")))]),
    "IPTC: Windows-1252, undeclared": lambda t: (t, [app13(ds(2, 120, t.encode("cp1252")))]),
    "XMP: UTF-16 LE": _xmp(lambda t: b"\xff\xfe" + packet(about(alt(t))).encode("utf-16-le")),
    "XMP: UTF-16 BE, no mark": _xmp(lambda t: packet(about(alt(t))).encode("utf-16-be")),
    "XMP: a line end before it": _xmp(lambda t: '\r\n\n<?xml version="1.0"?>' + packet(about(alt(t)))),
    "XMP: control characters": _xmp(lambda t: packet(about(alt(t[:3] + "\x02\x1b" + t[3:])))),
    "XMP: a bare &": lambda t: (f"{t} & mehr", [app1(packet(about(alt(f"{t} & mehr"))).encode())]),
    "XMP: empty x-default": _xmp(lambda t: packet(about(alt(t, "de", '<rdf:li xml:lang="x-default"></rdf:li>')))),
    "XMP: empty first block": _xmp(lambda t: packet(about("", ' photoshop:City=""'), about(alt(t)))),
    "XMP: an ingredient": _xmp(lambda t: packet(about(INGREDIENT.format("Ingredients") + alt(t)))),
    "XMP: a pantry": _xmp(lambda t: packet(about(INGREDIENT.format("Pantry")), about(alt(t)))),
    "XMP: extended": _extended,
    "XMP: rubbish after it": _xmp(lambda t: packet(about(alt(t))) + "\0\0junk<"),
    "text: NFD": lambda t: (t, [app1(packet(about(alt(NFD(t)))).encode())]),
    "text: soft hyphens": lambda t: (t, [app1(packet(about(alt(t[:4] + "\u00ad" + t[4:]))).encode())]),
    "text: encoded twice": lambda t: (t, [app1(packet(about(alt(t.encode().decode("latin-1")))).encode())]),
    "text: entities": lambda t: (f"{t} & so", [app1(packet(about(alt(f"{t} &amp;amp; so"))).encode())]),
}
DATES = (
    ("EXIF", "2019:05:04 24:00:00", "2019-05-04"),
    ("EXIF", "2019/05/04 10:00:00", "2019-05-04T10:00:00"),
    ("EXIF", "2019:5:4 9:05:00", "2019-05-04T09:05:00"),
    ("EXIF", "2019:05:00 00:00:00", "2019-05"),
    ("EXIF", "0000:00:00 00:00:00", ""),
    ("XMP", "2019", "2019"),
    ("XMP", "2019-05", "2019-05"),
    ("XMP", "2019-05-04 10:00", "2019-05-04T10:00:00"),
    ("IPTC", "19990000", "1999"),
    ("IPTC", "2019-05-04", "2019-05-04"),
)


def damaged(folder: Path, count: int) -> list[Case]:
    """`count` files that the writer above makes."""

    def png(before: list[bytes], after: list[bytes], seed: int) -> bytes:
        data = picture("PNG", seed)
        at, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
        return data[:at] + b"".join(before) + data[at:end] + b"".join(after) + data[end:]

    def raw(name: bytes, body: bytes) -> bytes:
        text = b"\n%s\n%8d\n%s\n" % (name, len(body), body.hex().encode())
        return chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text))

    def gif(xml: bytes, seed: int) -> bytes:
        data = picture("GIF", seed)
        trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
        return data[:-1] + b"!\xff\x0bXMP DataXMP" + xml + trailer + b";"

    def dated(i: int) -> tuple[str, str, bytes, str]:
        block, said, right = DATES[i % len(DATES)]
        data = picture("JPEG", i)
        if block == "EXIF":
            exif, out = Image.Exif(), io.BytesIO()
            exif.get_ifd(0x8769)[0x9003] = said
            Image.open(io.BytesIO(data)).save(out, "JPEG", exif=exif)
            return "taken", right, out.getvalue(), f"date: {block} {said}"
        part = (
            app13(ds(2, 55, said.encode()))
            if block == "IPTC"
            else app1(packet(about("", f' photoshop:DateCreated="{said}"')).encode())
        )
        return "taken", right, data[:2] + part + data[2:], f"date: {block} {said}"

    cases = []
    others = ("PNG: XMP after the pixels", "PNG: raw profile of IPTC", "PNG: text chunk", "GIF: XMP", "date", "date")
    kinds = [*WAYS, *others]
    for i in range(count):
        kind, text = kinds[i % len(kinds)], WEST[(i + i // len(kinds)) % (len(WEST) - 1)]
        xml, field, right = packet(about(alt(text))).encode(), "caption", text
        suffix = kind[:3].lower()
        if kind in WAYS:
            right, segments = WAYS[kind](text)
            data, suffix = picture("JPEG", i), "jpg"
            data = data[:2] + b"".join(segments) + data[2:]
        elif kind == "PNG: XMP after the pixels":
            data = png([], [chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xml)], i)
        elif kind == "PNG: raw profile of IPTC":
            data = png([raw(b"iptc", resource(ds(1, 90, b"\x1b%G") + ds(2, 120, text.encode())))], [], i)
        elif kind == "PNG: text chunk":
            data = png([chunk(b"iTXt", b"Description\0\0\0\0\0" + text.encode())], [], i)
        elif kind == "GIF: XMP":
            data = gif(xml, i)
        else:
            field, right, data, kind = dated(i // len(kinds) * 2 + i % 2)
            suffix = "jpg"
        path = folder / f"{i:05}.{suffix}"
        path.write_bytes(data)
        cases.append(Case(path, field, right, kind, "DateTimeOriginal" if field == "taken" else "Description"))
    return cases


def ours(cases: list[Case]) -> tuple[list[Any], float]:
    """What photodesk reads, and its seconds without those of the pixels."""
    values: list[Any] = []
    seconds = 0.0
    for case in cases:
        try:
            decoded = images.read(case.path.read_bytes(), where=case.path.name)
        except Exception:
            values.append(None)
            continue
        start = time.perf_counter()
        entry, _ = metadata.read(decoded, sidecar=case.sidecar)
        seconds += time.perf_counter() - start
        values.append(getattr(entry, case.field))
    return values, seconds


def theirs(folder: Path, cases: list[Case]) -> tuple[list[Any], float]:
    """What exiftool reads, in our form, and its seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        ["exiftool", "-j", "-use", "MWG", "-sep", "\x1f", "-r", "-fast", "-ext", "*", folder], capture_output=True
    )
    seconds = time.perf_counter() - start
    found = {Path(one["SourceFile"]).name: one for one in json.loads(done.stdout.decode("utf-8", "replace"))}
    values: list[Any] = []
    for case in cases:
        known = found.get((case.sidecar or case.path).name, {})
        said = next((str(known[name]) for name in case.mwg.split("|") if name in known), "")
        if case.field == "taken":
            said = said.replace(":", "-", 2).replace(" ", "T")[:19]
        elif isinstance(case.right, tuple):
            said = tuple(said.split("\x1f"))  # type: ignore[assignment]
        elif isinstance(case.right, int):
            said = int("".join(filter(str.isdigit, said)) or 0)  # type: ignore[assignment]
        values.append(said)
    return values, seconds


def exiv2(python: str, folder: Path) -> float:
    """Seconds of pyexiv2, in a process of its own."""
    code = (
        "import pyexiv2, sys, time, pathlib\npyexiv2.set_log_level(4)\n"
        "paths = [p for p in pathlib.Path(sys.argv[1]).iterdir()]\nstart = time.perf_counter()\n"
        "for p in paths:\n try:\n  with pyexiv2.Image(str(p)) as i: i.read_exif(); i.read_iptc(); i.read_xmp()\n"
        " except Exception: pass\nprint(time.perf_counter() - start)"
    )
    return float(subprocess.run([python, "-c", code, str(folder)], capture_output=True, text=True, check=True).stdout)


def report(name: str, folder: Path, cases: list[Case], options: argparse.Namespace) -> dict[str, Any]:
    mine, seconds = ours(cases)
    peer, peers = theirs(folder, cases) if shutil.which("exiftool") else ([None] * len(cases), 0.0)
    wrong = [i for i, case in enumerate(cases) if mine[i] != case.right]
    found: dict[str, Any] = {
        "files": len(cases),
        "lost": sum(value is None for value in mine),
        "equal": round(1 - len(wrong) / len(cases), 5),
        "exiftool equal": round(sum(v == c.right for v, c in zip(peer, cases, strict=True)) / len(cases), 5),
        "files/s": round(len(cases) / seconds),
        "exiftool files/s": round(len(cases) / peers) if peers else None,
    }
    if options.pyexiv2:
        found["pyexiv2 files/s"] = round(len(cases) / exiv2(options.pyexiv2, folder))
    print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    for i in wrong[: options.show]:
        print(f"  {cases[i].kind} {cases[i].field}: got {mine[i]!r}, right is {cases[i].right!r}, exiftool {peer[i]!r}")
    by: dict[str, list[bool]] = defaultdict(list)
    for i, case in enumerate(cases):
        by[case.kind].append(mine[i] == case.right)
    bad = {kind: f"{sum(right)} of {len(right)}" for kind, right in by.items() if not all(right)}
    if bad:
        print("  not all equal: " + "; ".join(f"{kind} {value}" for kind, value in bad.items()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--damaged", type=int, default=300)
    parser.add_argument("--pyexiv2", default="", help="a Python that has it")
    parser.add_argument("--show", type=int, default=20, help="wrong values that are printed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    assert features.check("webp")
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for part, count, make in (("well-formed", options.files, well_formed), ("damaged", options.damaged, damaged)):
            if part == "well-formed" and not shutil.which("exiftool"):
                print("exiftool is not installed: no well-formed files (apt-get install libimage-exiftool-perl)")
                continue
            folder = Path(name, part)
            folder.mkdir()
            results[part] = report(part, folder, make(folder, count), options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    good = results.get("well-formed", {"equal": 1, "lost": 0}), results["damaged"]
    sys.exit(not (good[0]["equal"] >= 0.999 and good[1]["equal"] >= 0.98 and not good[0]["lost"] + good[1]["lost"]))


if __name__ == "__main__":
    main()
