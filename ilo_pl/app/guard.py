"""Who may ask what: the machine's own pages only, unless somebody has a token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Nothing from elsewhere is loaded, run, framed or sent to.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The report brings its script and style with it, and names them by their hashes in a policy of its own.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
SAFE_METHODS = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Return whether a server bound to a host is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses what does not come from the app's own pages, and adds the headers that browsers obey.

    - ``Host`` must be this machine by a name that nobody else can give it: on loopback a loopback name, so that a
      page of somebody's domain whose address is changed to 127.0.0.1 (DNS rebinding) gets nothing.
    - What changes something must have an ``Origin`` that is the page's own; what browsers say to come from another
      site, or another port, is refused even where it only reads.
    - With a token, nothing is answered before it was given once, as ``/?token=``; it becomes a cookie.

    Args:
        app: what is guarded.
        host: what the server is bound to.
        names: further names that it is reached by.
        token: the token, if one is asked for.
        cookie: name of the cookie that holds it.
    """

    def __init__(
        self, app: ASGIApp, host: str, names: Sequence[str], token: str | None, cookie: str
    ) -> None:
        self._app = app
        self._local = is_loopback(host)
        self._names = {*LOOPBACK, *(name.lower() for name in names)}
        if not self._local:
            self._names |= {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._refusal(scope, headers) or self._ask_for_token(scope, headers)
        await (answer or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._known(host):
            return _refused(
                f"This server is not called {host[:80]!r}. Use the address that it printed, or start it "
                "with --name."
            )
        site = headers.get("sec-fetch-site", "none")
        # Following a link to the page itself is harmless, and its cookies stay behind.
        to_page = headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
        if site not in ("same-origin", "none") and not to_page:
            return _refused("Requests from other sites are not answered.")
        if scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin", "")
            if origin not in (f"http://{host}", f"https://{host}"):
                return _refused("Only the app's own page may change anything.")
        return None

    def _known(self, host: str) -> bool:
        name = _without_port(host)
        if name in self._names:
            return True
        # An address is no name that a stranger's server could answer for.
        return not self._local and _is_address(name)

    def _ask_for_token(self, scope: Scope, headers: Headers) -> Response | None:
        if self._token is None:
            return None
        cookies: Mapping[str, str] = cookie_parser(headers.get("cookie", ""))
        if self._right(cookies.get(self._cookie, "")):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["path"] == "/" and self._right(query.pop("token", [""])[0]):
            rest = urlencode(query, doseq=True)
            answer = RedirectResponse(f"/?{rest}" if rest else "/", status_code=303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return answer
        return _refused("Open the address with ?token= that the server printed.")

    def _right(self, given: str) -> bool:
        assert self._token is not None
        return secrets.compare_digest(given.encode(), self._token.encode())


def _refused(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", 403)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
