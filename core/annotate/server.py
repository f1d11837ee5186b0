"""The server of the annotation page: this machine alone, with the token of its start; it opens no path that it is
asked for."""

import base64
import hashlib
import ipaddress
import json
import mimetypes
import os
import re
import secrets
import socket
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from torchpack.utils.logging import logger

from core.annotate.frames import Frames
from core.annotate.requests import BadRequest
from core.annotate.session import Session
from core.errors import UserError

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
MAX_BODY = 1 << 20
"""Bytes; an action is far smaller."""
IDLE = 60
"""s, after which a connection on which nothing comes is closed."""
Answered = tuple[str, bytes]
"""Content type and content."""


class Refused(Exception):
    """A request that is not answered: HTTP status and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def page_files() -> dict[str, Answered]:
    """All files of the page by their address; nothing else is ever served from the disk."""
    found = {}
    for folder, _, names in os.walk(PAGE):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                content = file.read()
            kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "text/plain"
            found["/" + os.path.relpath(path, PAGE).replace(os.sep, "/")] = (f"{kind}; charset=utf-8", content)
    found["/"] = found.pop("/index.html")
    return found


def content_policy(page: bytes) -> str:
    """Lets the page load its own files alone, and run the inline scripts that it has (the import map)."""
    inline = re.findall(rb"<script type=\"importmap\">(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline)
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Server(ThreadingHTTPServer):
    """Serves one session.

    Attributes:
        token: that requests must carry.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, session: Session, frames: Frames) -> None:
        self.session, self.frames, self.host = session, frames, host
        self.token = secrets.token_urlsafe(24)
        self.files = page_files()
        self.policy = content_policy(self.files["/"][1])
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"--host {host} --port {port}: cannot be listened on ({error}); choose another") from None

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{self.host}:{self.server_port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie; one for each port, since cookies are not kept apart by it."""
        return f"annotate-{self.server_port}"

    def knows(self, host: str) -> bool:
        """Whether a Host header is this server: names that others could point here are not."""
        name = urlsplit(f"//{host}").hostname or ""
        if name in ("localhost", self.host):
            return True
        if self.host == "127.0.0.1":
            return False
        return name == socket.gethostname().lower() or _is_address(name)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is no matter."""
        logger.debug(f"connection from {client_address[0]} broke off")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE

    def do_GET(self) -> None:
        self._respond(self._get)

    def do_POST(self) -> None:
        self._respond(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def version_string(self) -> str:
        """Says nothing of versions."""
        return "annotate"

    def _respond(self, method: Callable[[], Answered]) -> None:
        try:
            self._check_host()
            if self._entered():
                return
            self._check_token()
            self._send(200, *method())
        except BadRequest as error:
            self._fail(400, str(error))
        except Refused as error:
            self.close_connection = True
            self._fail(error.status, str(error))
        except UserError as error:
            logger.error(str(error))
            self._fail(500, str(error))
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        except Exception:
            logger.exception("A request failed.")
            self._fail(500, "failed; the terminal shows why")

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not self.server.knows(hosts[0]):
            raise Refused(403, "Host: not this server")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{hosts[0]}":
            raise Refused(403, "Origin: not this server")

    def _entered(self) -> bool:
        """Turns the token of the printed address into a cookie, so that it stays in no history."""
        address = urlsplit(self.path)
        given = parse_qs(address.query).get("token")
        if self.command != "GET" or address.path != "/" or not given or not self._is_token(given[0]):
            return False
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Set-Cookie", f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Strict")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _check_token(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        if not given and self.server.cookie in cookies:
            given = cookies[self.server.cookie].value
        if not self._is_token(given):
            raise Refused(403, "token: missing or of another start; open the address that annotate.py printed")

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(errors="replace"), self.server.token.encode())

    def _get(self) -> Answered:
        address = urlsplit(self.path)
        if address.path in self.server.files:
            return self.server.files[address.path]
        parts = [unquote(part) for part in address.path.split("/")[1:]]
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        session, frames = self.server.session, self.server.frames
        match parts:
            case ["api", "session"]:
                return _json(session.overview())
            case ["api", "changes"]:
                return _json(session.since(_number(query.get("since", "0"))))
            case ["api", "frame", token] if token in frames:
                return "application/octet-stream", session.frame(token)
            case ["api", "component", token, component]:
                return _json(session.component(token, _number(component), query.get("frame")))
            case ["api", "image", token, camera] if token in frames:
                opened = frames.open(token)
                if 0 <= _number(camera) < len(opened.frame.cameras):
                    return "image/jpeg", frames.image(token, _number(camera))
        raise Refused(404, "not here")

    def _post(self) -> Answered:
        if urlsplit(self.path).path != "/api/action":
            raise Refused(404, "not here")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            raise Refused(411, "Content-Length: needed")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise Refused(413, f"too large; at most {MAX_BODY} bytes")
        body = self.rfile.read(int(length))
        if self.headers.get_content_type() != "application/json":
            raise BadRequest("Content-Type: expected application/json")
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            raise BadRequest("expected JSON") from None
        if not isinstance(request, dict):
            raise BadRequest("expected an object")
        return _json(self.server.session.act(request))

    def _fail(self, status: int, why: str) -> None:
        try:
            self._send(status, *_json({"error": why}))
        except OSError:
            self.close_connection = True

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _json(value: Any) -> Answered:
    return "application/json", json.dumps(value, separators=(",", ":")).encode()


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadRequest(f"expected a number, not '{text[:20]}'")
    return int(text)
