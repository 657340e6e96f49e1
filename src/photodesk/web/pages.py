"""The pages: forms that work without a script, and the parts of them that the script asks for (`X-Part`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import TypeAdapter, ValidationError

from photodesk.archive import embargo
from photodesk.engines.schema import Entry, Filter
from photodesk.errors import PhotodeskError, UsageError
from photodesk.search import schema
from photodesk.search.explain import EXPLAINED
from photodesk.search.query import READ
from photodesk.web import schemas, translations
from photodesk.web.lanes import AGAIN, BusyError
from photodesk.web.security import COOKIE, Access, address
from photodesk.web.service import FACETS, PREVIEW, Service, UploadGoneError, told

FIELDS = (
    "draft",
    "like",
    "upload",
    "since",
    "until",
    "phrase",
    "file",
    "min_width",
    "min_height",
    "min_rating",
    "used_days",
    "used",
)
NUMBERS = ("min_width", "min_height", "min_rating", "used_days")
FILTERS = (*schema.FILTERS, "used")
YEAR = 365 * 24 * 3600
_QUERY = TypeAdapter(schema.Query)

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


class _Form:
    """What a form sent: the query, and which button was pressed."""

    def __init__(self, body: bytes) -> None:
        got = _fields(body, 500)
        fields: dict[str, Any] = {name: got[name][0] for name in FIELDS if name in got}
        fields |= {name: got[name] for name in FACETS if name in got}
        fields |= {name: int(text) for name in NUMBERS if (text := fields.get(name, "")[:10]).isdecimal()}
        fields |= {"diverse": True} if "diverse" in got else {}
        if "like_this" in got:
            fields |= {"like": got["like_this"][0], "upload": ""}
        if "upload_this" in got:
            fields |= {"upload": got["upload_this"][0], "like": ""}
        dropped = (FILTERS if "clear" in got else ()) + (("like", "upload") if "alone" in got else ())
        self.cleared = "clear" in got
        fields = {name: value for name, value in fields.items() if name not in dropped}
        wrong: dict[str, str] = {}
        for name in ("since", "until", "phrase"):
            try:
                Filter(**{name: fields.get(name, "")})
            except UsageError as error:
                wrong[name] = str(error)
        fields = {name: value for name, value in fields.items() if name not in wrong}
        try:
            self.query = _QUERY.validate_python(fields)
        except ValidationError as error:
            wrong |= {str(one["loc"][0]): one["msg"] for one in error.errors()}
            self.query = _QUERY.validate_python({name: value for name, value in fields.items() if name not in wrong})
        self.wrong = "; ".join(f"{name}: {what}" for name, what in wrong.items())
        photo, _, rank = got.get("choice", [""])[0].partition(" ")
        self.photo, self.rank = photo, int(rank) if rank.isdecimal() and len(rank) < 6 else 1


def _fields(body: bytes, most: int) -> dict[str, list[str]]:
    """What a form sent, by field.

    Raises:
        UsageError: it has more than `most` values.
    """
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=most)
    except ValueError:
        raise UsageError(f"a form of this desk has at most {most} fields; this one has more") from None


def router(service: Service, access: Access) -> APIRouter:
    """The pages."""
    pages = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    async def answered(request: Request, **what: bool) -> Response:
        form = _Form(await request.body())
        if form.query.asks() and (
            "x-part" not in request.headers or form.cleared
        ):  # else the script asks for the filters afterwards
            with suppress(PhotodeskError):  # the search will say it
                await service.facets(form.query, request.is_disconnected)
        lane = service.lanes.why if what.get("why") else service.lanes.search(form.query)
        try:
            return await lane.run(request, _desk, service, request, form, **what)
        except BusyError:
            return _crowded(request, form)

    @pages.get("/")
    async def start(request: Request) -> Response:
        return await run_in_threadpool(_desk, service, request, _Form(b""))

    @pages.post("/")
    async def search(request: Request) -> Response:
        return await answered(request)

    @pages.post("/filters")
    async def filters(request: Request) -> Response:
        query = _Form(await request.body()).query
        found = await service.facets(query, request.is_disconnected)
        return _answer(
            request,
            ["filters.html"],
            query=query,
            facets=_facets(found.facets, query),
            active=query.active(),
            wide=False,
        )

    @pages.post("/why")
    async def why(request: Request) -> Response:
        return await answered(request, why=True)

    @pages.post("/pick")
    async def pick(request: Request) -> Response:
        return await answered(request, pick=True)

    @pages.post("/unpick")
    async def unpick(request: Request) -> Response:
        return await answered(request, unpick=True)

    @pages.get("/archive")
    def archive(request: Request) -> Response:
        state, w = service.state(), translations.LANGUAGES[_language(request)]
        return _answer(
            request,
            ["state.html"] if "x-part" in request.headers else ["archive.html"],
            here="archive",
            running=[job for job in state.jobs if job.state == "running"],
            jobs=[job for job in state.jobs if job.state != "running"],
            counts=list(state.counts.items()),
            photos=state.counts["photos"],
            picks=state.counts["picks"],
            recent=[
                _shown(one.photo, one.about, w)
                | {"added": one.about.added.replace("T", " ").removesuffix("Z"), "embargo": _embargo(one, w)}
                for one in state.recent
            ],
            faults=state.faults,
            left_out=", ".join(f"{kind} {count:,}" for kind, count in state.left_out.items()),
            more_faults=state.counts["faults"] - len(state.faults),
            about=[("engine", state.engine), ("encoder", state.encoder)],
        )

    @pages.get("/enter")
    def enter(request: Request) -> Response:
        return _answer(request, ["enter.html"], here="", bad=False, wait=0)

    @pages.post("/enter")
    async def entered(request: Request) -> Response:
        token, where = _fields(await request.body(), 10).get("token", [""])[0].strip(), address(request.scope)
        status = access.tried(token, where) if token else 401
        if status != 200:
            wait = access.guesses.wait(where) if status == 429 else 0
            refused = _answer(request, ["enter.html"], status=status, here="", bad=True, wait=wait)
            if wait:
                refused.headers["retry-after"] = str(wait)
            return refused
        there = RedirectResponse("/", 303)
        there.set_cookie(
            COOKIE, access.session, max_age=YEAR, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return there

    return pages


def _language(request: Request) -> str:
    return translations.chosen(
        request.query_params.get("lang", ""),
        request.cookies.get("lang", ""),
        request.headers.get("accept-language", ""),
    )


def _answer(request: Request, templates: list[str], *, status: int = 200, **more: Any) -> Response:
    lang = _language(request)
    theme = request.cookies.get("theme", "")

    def number(count: int) -> str:
        return f"{count:,}".replace(",", "." if lang == "de" else ",")

    given = {
        "w": translations.LANGUAGES[lang],
        "lang": lang,
        "languages": {code: known["name"] for code, known in translations.LANGUAGES.items()},
        "theme": theme if theme in ("light", "dark") else "",
        "path": "/" if request.url.path in ("/why", "/pick", "/unpick") else request.url.path,
        "number": number,
        **more,
    }
    response = HTMLResponse("".join(_templates.get_template(name).render(given) for name in templates), status)
    if request.query_params.get("lang") == lang:
        response.set_cookie("lang", lang, max_age=YEAR, samesite="strict")
    return response


def _desk(
    service: Service, request: Request, form: _Form, *, why: bool = False, pick: bool = False, unpick: bool = False
) -> Response:
    w = translations.LANGUAGES[_language(request)]
    query, answer, reason, status = form.query, None, None, 200
    said, bad = form.wrong, bool(form.wrong)
    part = "x-part" in request.headers
    try:
        if pick:
            service.pick(_pick_query(query, form.photo, form.rank))
            said = w["picked_said"].format(rank=form.rank)
        if unpick and (article := query.article()):
            service.withdraw(article.id, form.photo)
            said = w["unpicked_said"].format(rank=form.rank)
        if why:
            reason = _reason(service.why(query, form.photo), form.rank, w) | {
                "picked": form.photo in service.picked(query)
            }
        if query.asks() and not (why and part):
            answer = service.search(query)
            said = said or _said(answer, w)
        elif not part and request.method == "POST":
            said = said or w["no_draft"]
    except PhotodeskError as error:
        said = w["upload_gone"] if isinstance(error, UploadGoneError) else told(error)
        bad, status = True, 200 if part else 400
    picked = service.picked(query) if answer else set()
    counts = service.counted(query) if answer else {}
    here: dict[str, Any] = _empty(query) | {
        "answer": answer,
        "said": said or w["start"],
        "bad": bad,
        "tiles": [_tile(hit, w, picked) for hit in answer.hits] if answer else [],
        "facets": _facets(counts or {}, query),
        "why": reason,
    }
    if not part:
        return _answer(request, ["desk.html"], status=status, **here)
    if bad:  # leave on the page what is there
        return JSONResponse({"detail": said}, 400)
    if why:
        return _answer(request, ["panel.html"], **here)
    made = _answer(request, ["photo.html", *(["filters.html"] if counts is not None else []), "results.html"], **here)
    if counts is None:
        made.headers["x-filters"] = "later"
    return made


def _empty(query: schema.Query) -> dict[str, Any]:
    """What the page with a query shows as long as there is no answer."""
    return {
        "query": query,
        "answer": None,
        "said": "",
        "bad": False,
        "tiles": [],
        "facets": _facets({}, query),
        "active": query.active(),
        "why": None,
        "wide": False,
        "here": "search",
        "read": READ,
        "explained": EXPLAINED,
    }


def _crowded(request: Request, form: _Form) -> Response:
    """Too much is under way: the script leaves on the page what is there, without one the draft stands in the form."""
    said = translations.LANGUAGES[_language(request)]["crowded"]
    headers = {"retry-after": str(AGAIN)}
    if "x-part" in request.headers:
        return JSONResponse({"detail": said}, 503, headers)
    made = _answer(request, ["desk.html"], status=503, **_empty(form.query) | {"said": said, "bad": True})
    made.headers.update(headers)
    return made


def _pick_query(query: schema.Query, photo: str, rank: int) -> schemas.PickQuery:
    """What was sent to be picked; only here is a value that a model refuses the visitor's, elsewhere it is ours."""
    try:
        return schemas.PickQuery(query=query, photo=photo, rank=rank)
    except ValidationError as error:
        raise UsageError("; ".join(one["msg"] for one in error.errors())) from None


def _said(answer: schema.Answer, w: dict[str, str]) -> str:
    near = "".join(
        " " + w["found_near"].format(value=value, like=", ".join(f"{one} ({count})" for one, count in others.items()))
        for _, value, others in answer.near
    )
    if not answer.hits:
        return w["found_none"] + near
    best = answer.hits[0]
    form = w["found"] if len(answer.hits) > 1 else w["found_one"]
    said = form.format(count=len(answer.hits), words=w[f"level_{best.level}"], percent=percent(best.probability))
    return said + near


def percent(probability: float) -> str:
    """A probability for people; what is nearly sure is not said to be sure."""
    if probability > 0.99:
        return "> 99"
    return "< 1" if 0 < probability < 0.01 else f"{100 * probability:.0f}"


def _shown(photo: str, about: Entry, w: dict[str, str]) -> dict[str, Any]:
    scale = min(1.0, PREVIEW / max(about.width, about.height, 1))
    return {
        "photo": photo,
        "alt": about.caption or about.headline or w["no_caption"],
        "width": max(1, round(about.width * scale)),
        "height": max(1, round(about.height * scale)),
    }


def _tile(hit: schema.Hit, w: dict[str, str], picked: set[str]) -> dict[str, Any]:
    about = hit.about
    facts = [about.credit, about.taken[:10]]
    facts.append(w["used"].format(day=hit.used) if hit.used else "")
    return _shown(hit.photo, about, w) | {
        "rank": hit.rank,
        "probability": hit.probability,
        "percent": percent(hit.probability),
        "level": hit.level,
        "picked": hit.photo in picked,
        "facts": [fact for fact in facts if fact],
        "terms": about.terms,
        "embargo": _embargo(hit, w),
        "similar": _similar(hit.similar, w),
    }


def _embargo(photo: schema.Known, w: dict[str, str]) -> str:
    """That an embargo holds, and until when; empty if there is none any more."""
    if not photo.embargoed:
        return ""
    if photo.embargo == embargo.UNKNOWN:
        return w["embargo_unknown"]
    return w["embargo_until"].format(moment=photo.embargo[:16].replace("T", " "))


def _similar(similar: Sequence[schema.Known], w: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "photo": one.photo,
            "source": one.about.source,
            "facts": [fact for fact in (one.about.credit, f"{one.about.width} × {one.about.height}") if fact],
            "terms": one.about.terms,
            "embargo": _embargo(one, w),
        }
        for one in similar
    ]


def _facets(facets: Mapping[str, Mapping[str, int]], query: schema.Query) -> list[dict[str, Any]]:
    """Values to choose from: those that are chosen first, then the most frequent."""
    found = []
    for name in FACETS:
        counts = facets.get(name, {})
        chosen: list[str] = list(getattr(query, name))
        others = [value for value in counts if value not in chosen][: max(8 - len(chosen), 0)]
        values = [
            {"value": value, "count": counts.get(value, 0), "chosen": value in chosen} for value in [*chosen, *others]
        ]
        if values:
            more = [value for value in counts if value not in chosen] if name != "orientation" else []
            found.append({"name": name, "choices": values, "more": more if len(more) > len(others) else []})
    return found


def _reason(why: schema.Why, rank: int, w: dict[str, str]) -> dict[str, Any]:
    rows, columns = len(why.heat), len(why.heat[0]) if why.heat else 0
    cells, spot = _cells(why.heat), ""
    if cells:
        y, x = max(((y, x) for y in range(rows) for x in range(columns)), key=lambda at: why.heat[at[0]][at[1]])
        spot = w[f"spot_{3 * (3 * y // rows) + 3 * x // columns}"]
    return _shown(why.photo, why.about, w) | {
        "rank": rank,
        "probability": why.probability,
        "percent": percent(why.probability),
        "level": why.level,
        "rows": rows,
        "columns": columns,
        "heat": cells,
        "where": spot,
        "whole": why.whole,
        "words": [{"text": word.text, "strength": min(4, max(0, round(4 * word.weight)))} for word in why.words],
        "shares": [
            {
                "name": name,
                "value": value,
                "percent": f"{round(100 * value):+d}".replace("-", "−") if round(100 * value) else "0",
            }
            for name, value in why.shares.items()
        ],
        "about": _facts(why, w),
        "similar": _similar(why.similar, w),
    }


def _cells(heat: list[list[float]]) -> list[dict[str, Any]]:
    """The cells of a heat map that are to be seen, the darker the more the score falls."""
    most = max((max(row) for row in heat), default=0.0)
    return [
        {"x": x, "y": y, "width": 1, "height": 1, "opacity": f"{0.65 * value / most:.2f}"}
        for y, row in enumerate(heat)
        for x, value in enumerate(row)
        if most > 0 and value > 0.1 * most
    ]


def _facts(photo: schema.Photo, w: dict[str, str]) -> list[dict[str, Any]]:
    """What is known of a photo, and from which near-duplicates."""
    about, files = photo.about, {one.photo: one.about.source or one.photo for one in photo.similar}
    names = ("headline", "caption", "byline", "credit", "copyright", "terms", "place", "sublocation", "event", "label")
    facts = (
        {"embargo": _embargo(photo, w)}
        | {name: getattr(about, name) for name in names}
        | {
            "people": ", ".join(about.people),
            "rating": "★" * about.rating,
            "keywords": ", ".join(about.keywords),
            "taken": about.taken.replace("T", " ").removesuffix(" 00:00:00"),
            "size": f"{about.width} × {about.height}",
            "source": about.source,
            "id": photo.photo,
        }
    )
    return [
        {
            "name": name,
            "value": value,
            "bad": name in ("embargo", "terms") and photo.embargoed,
            "origin": ", ".join(files.get(one, one) for one in photo.origins.get(name, ())),
        }
        for name, value in facts.items()
        if value
    ]
