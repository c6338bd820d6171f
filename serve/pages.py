"""The pages for people, `/` and `/dashboard`: files of the package, read once, and what a browser may do with them."""

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from rlhf_ray.durable import digest

from serve.errors import Refused
from serve.orders import Refusal

FOLDER = Path(__file__).parent / "page"
PAGES = {"/": "ask.html", "/dashboard": "dashboard.html"}
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Greet = Callable[[Request, Response], None]


def add_pages(app: FastAPI, greet: Greet) -> None:
    """Serve the pages. `greet` may add to the answer that brings a page, such as a visitor's cookie."""
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}

    def page(door: str, name: str) -> None:
        @app.head(door, include_in_schema=False, name=name)
        @app.get(door, include_in_schema=False, name=name)
        async def show(request: Request) -> Response:
            answer = _answer(name, files[name], "no-store")
            greet(request, answer)
            return answer

    for door, name in PAGES.items():
        page(door, name)
    tags = {name: f'"{digest(content)[:32]}"' for name, content in files.items()}

    @app.get("/page/{name}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        if name not in files or name in PAGES.values():
            raise Refused(Refusal(404, "no such file of the page"))
        known = request.headers.get("if-none-match") == tags[name]
        answer = Response(status_code=304, headers=HEADERS) if known else _answer(name, files[name], "no-cache")
        answer.headers["ETag"] = tags[name]
        return answer


def _answer(name: str, content: bytes, cache: str) -> Response:
    kind = f"{KINDS[Path(name).suffix]}; charset=utf-8"
    return Response(content, headers={**HEADERS, "Cache-Control": cache, "Content-Type": kind})
