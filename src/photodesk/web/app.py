"""The app: API, pages and files behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from photodesk import __version__
from photodesk.encoders.cancellation import Cancelled
from photodesk.errors import PhotodeskError, PhotoError, StoreError
from photodesk.web import api, lanes, pages, uploads
from photodesk.web.security import Access, Guard
from photodesk.web.service import DeskLike, GoneError, Service, told

STATUS: tuple[tuple[type[PhotodeskError], int], ...] = (
    (GoneError, 404),
    (lanes.BusyError, 503),
    (PhotoError, 422),
    (StoreError, 503),
    (PhotodeskError, 400),
)


def make(desk: DeskLike, access: Access) -> FastAPI:
    """The app around a desk; see `create_app`."""
    service = Service(desk)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="photodesk",
        version=__version__,
        summary="Finds the right photo of an archive for an article.",
        description="Photos go by ids, never by paths. A desk that others can reach wants `Authorization: Bearer "
        "TOKEN`.",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever the Host header names
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    app.include_router(api.router(service, access))
    app.include_router(pages.router(service, access))
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")))
    app.add_exception_handler(PhotodeskError, _told)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(Cancelled, _left)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_middleware(Guard, access=access, upload_bytes=uploads.BYTES)
    _secured(app)
    return app


async def _told(_: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    headers = {"retry-after": str(lanes.AGAIN)} if isinstance(error, lanes.BusyError) else None
    return JSONResponse({"detail": told(error)}, status, headers)


async def _left(_: Request, error: Exception) -> Response:
    """Nobody reads this; the log has the number, as others use it."""
    return Response(status_code=499)


async def _misread(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
    return JSONResponse({"detail": said}, 422)


def _secured(app: FastAPI) -> None:
    """Say in the description how a token and a key are shown."""
    plain: Callable[[], dict[str, Any]] = app.openapi

    def described() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {})["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{}, {"bearer": []}]
        for path, methods in schema["paths"].items():
            if path.startswith("/api/archive/jobs"):
                for method in methods.values():
                    method["security"] = [{"bearer": []}]
        return schema

    app.openapi = described  # type: ignore[method-assign]
