"""The API: what programs and the pages' scripts ask; described by /openapi.json."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse

from photodesk import images
from photodesk.archive import picks
from photodesk.search import schema
from photodesk.web import lanes, schemas, uploads
from photodesk.web.security import Access
from photodesk.web.service import GoneError, Service, UploadGoneError

TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/tiff", "image/bmp")
ASKED = {"cache-control": "private, no-cache"}
"""A browser may keep it, and asks each time whether it may still show it: not after the token changed, nor once the
photo was removed."""

ArticleId = Annotated[schemas.ArticleId, Path(description="16 hexadecimal digits, as the answer to a pick has them.")]
PhotoId = Annotated[schemas.PhotoId, Path(description="32 hexadecimal digits, as hits have them.")]


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": schemas.Problem} for code in (400, 401, 403, 408, 413, 421, 422, 429, 503, *codes)}


def _picture(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        **_problems(404, *codes),
    }


def router(service: Service, access: Access) -> APIRouter:
    """The routes below /api."""
    api = APIRouter(prefix="/api")

    def owner(request: Request) -> None:
        if not access.owner(dict(request.headers)):
            raise HTTPException(
                403, "only who started the desk may ask this; the key stands in the archive's lock file"
            )

    @api.post("/search", tags=["search"], responses=_problems(404))
    async def search(query: schema.Query, request: Request) -> schema.Answer:
        """The best photos for an article, a photo, or both. A query without any of these has no answer (400). Where too
        many long texts wait to be read, a further one is refused (503, with Retry-After)."""
        owner = access.owner(dict(request.headers))
        return await service.lanes.search(query).run(request, service.search, query, owner=owner)

    @api.post("/facets", tags=["search"], responses=_problems())
    async def facets(query: schema.Query, request: Request) -> schemas.Facets:
        """How many photos that pass the filters of a query have each value; a new filter may take a while, and searches
        do not wait for it."""
        return await service.facets(query, request.is_disconnected)

    @api.post("/why", tags=["search"], responses=_problems(404))
    async def why(asked: schemas.WhyQuery, request: Request) -> schema.Why:
        """Which words, which part of the picture and which component made a photo's score. Takes a second or so; where
        too many wait for theirs, a further one is refused (503, with Retry-After)."""
        owner = access.owner(dict(request.headers))
        return await service.lanes.why.run(request, service.why, asked.query, asked.photo, owner=owner)

    @api.post("/picks", tags=["picks"], status_code=201, responses=_problems(404))
    def pick(asked: schemas.PickQuery) -> schemas.Picked:
        """Note that a photo was taken for an article: when, which text, at which rank."""
        return service.pick(asked)

    @api.get(
        "/picks",
        tags=["picks"],
        response_class=StreamingResponse,
        responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}, **_problems()},
    )
    def picked() -> StreamingResponse:
        """All picks as training pairs, one JSON object a line. `photodesk archive picks` writes them with the
        pictures."""
        return StreamingResponse(picks.lines(service.archive), media_type="application/x-ndjson")

    @api.delete("/picks/{article}/{photo}", tags=["picks"], responses=_problems(404))
    def withdraw(article: ArticleId, photo: PhotoId) -> schemas.Withdrawn:
        """Take a pick back: the photo is not picked for the article any more. The archive still records that
        it was, and until when."""
        return service.withdraw(article, photo)

    @api.post("/uses", tags=["picks"], status_code=201, responses=_problems(404))
    def use(asked: schemas.Use) -> schemas.Use:
        """Note that a photo was printed or put online, as a content management system does; `used_days` of a search
        looks at it."""
        return service.use(asked)

    @api.post(
        "/uploads",
        tags=["search"],
        status_code=201,
        responses=_problems(415),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in TYPES},
            }
        },
    )
    async def upload(request: Request) -> schemas.Upload:
        """Read a picture to search with; only a small copy is kept, in memory, for a while."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in TYPES:
            raise HTTPException(415, f"a picture is wanted here: {', '.join(TYPES)}")
        async with service.lanes.uploads.turn():  # before its body is read
            data = bytearray()
            async for part in request.stream():
                data += part
            picture = await lanes.attended(request, None, uploads.shrink, data)
        return schemas.Upload(upload=service.uploads.keep(picture), width=picture.width, height=picture.height)

    @api.get("/uploads/{upload}", tags=["search"], response_class=Response, responses=_picture())
    def uploaded(upload: PhotoId) -> Response:
        """The small copy of a picture that was sent."""
        picture = service.uploads.get(upload)
        if picture is None:
            raise UploadGoneError
        return Response(images.jpeg(picture), media_type="image/jpeg")

    @api.get("/photos/{photo}", tags=["photos"], responses=_problems(404))
    def photo(photo: PhotoId, request: Request) -> schema.Photo:
        """What the archive knows of a photo and of its near-duplicates."""
        return service.about(photo, owner=access.owner(dict(request.headers)))

    @api.get(
        "/photos/{photo}/thumbnail",
        tags=["photos"],
        response_class=Response,
        responses=_picture() | {304: {"description": "If-None-Match names what there is."}},
    )
    def thumbnail(photo: PhotoId, request: Request) -> Response:
        """320 pixels at most."""
        content, headers = service.thumbnail(photo), ASKED | {"etag": f'"{photo}"'}
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="image/jpeg", headers=headers)

    @api.get("/photos/{photo}/preview", tags=["photos"], response_class=Response, responses=_picture())
    async def preview(photo: PhotoId, request: Request) -> Response:
        """1280 pixels at most; the thumbnail where the file is gone."""
        content = await service.lanes.pictures.run(request, service.preview, photo)
        return Response(content, media_type="image/jpeg")

    @api.get(
        "/photos/{photo}/original",
        tags=["photos"],
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
            **_problems(404),
        },
    )
    async def original(photo: PhotoId, request: Request) -> Response:
        """The file as it was added, if it still holds that very photo."""
        name, content = await service.lanes.pictures.run(request, service.original, photo)
        plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
        given = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, errors='replace')}"
        return Response(content, media_type="application/octet-stream", headers={"content-disposition": given})

    @api.get("/archive", tags=["archive"], responses=_problems())
    def archive() -> schemas.Archive:
        """Counts, faults, what came last, what is under way."""
        return service.state()

    @api.post("/archive/jobs", tags=["archive"], status_code=202, dependencies=[Depends(owner)], responses=_problems())
    def start(asked: schemas.Command) -> schemas.Progress:
        """Let the desk run a command of `photodesk archive`, one after the other; `faults`, `stats` and `use` are
        answered at once, without a job. Wants the key of the archive's owner."""
        return schemas.Progress.model_validate(service.jobs().start(asked.command, asked.options))

    @api.get("/archive/jobs/{number}", tags=["archive"], dependencies=[Depends(owner)], responses=_problems(404))
    def progress(number: Annotated[int, Path(ge=1, le=2**31)]) -> schemas.Progress:
        """How far a command is. Wants the key of the archive's owner."""
        state = service.jobs().state(number)
        if state is None:
            raise GoneError(f"there is no job {number}")
        return schemas.Progress.model_validate(state)

    return api
