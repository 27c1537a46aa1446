"""A headless Chromium, told what to do over the DevTools protocol."""

import asyncio
import base64
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.needs import needed

PATIENCE = 60.0
"""Seconds that anything may take here before it counts as hanging."""


def program() -> str:
    """Where Chromium is."""
    return needed("chromium")


class Tab:
    """One page, and all that it complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self.complaints: list[str] = []
        self.loaded: list[str] = []
        """URLs of the requests that it made."""
        self._socket = socket
        self._session = session
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 100

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(
            {"id": self._number, "method": method, "params": params, "sessionId": self._session}
        )
        result = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in result, result
        return result["result"]

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; it is asked in the page, every 50 ms."""
        poll = f"(async () => {{ while (!({expression})) await new Promise((go) => setTimeout(go, 50)); }})()"
        await asyncio.wait_for(self.evaluate(poll), PATIENCE)

    async def open(self, url: str, width: int, scheme: str) -> None:
        """Load a page at a width, in a colour scheme."""
        height = 900 if width > 800 else 844
        mobile = width < 800
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def screenshot(self, whole: bool) -> bytes:
        """Take a picture of what is on the screen, or of the whole page, as PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize" if whole else "cssVisualViewport"]
        height = size["height"] if whole else size["clientHeight"]
        clip = {"x": 0, "y": 0, "width": await self.evaluate("innerWidth"), "height": height, "scale": 1}
        shot = await self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    async def listen(self) -> None:
        """Take what the browser says, until it says no more."""
        async for message in self._socket:
            event = json.loads(message.data)
            if answer := self._answers.pop(event.get("id"), None):
                answer.set_result(event)
            self._note(event.get("method"), event.get("params", {}))

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.loaded.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded":  # a violated Content-Security-Policy, a file that is not there
            self.complaints.append(params["entry"]["text"])
        elif method == "Audits.issueAdded":
            self.complaints.append(str(params["issue"]))


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """Run a browser with one empty page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
        browser = await asyncio.create_subprocess_exec(
            *(program(), *options, f"--user-data-dir={profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            address = await asyncio.to_thread(_address, Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket, await _new_tab(socket))
                listening = asyncio.create_task(tab.listen())
                for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
                    await tab.call(f"{domain}.enable")
                yield tab
                listening.cancel()
        finally:
            if browser.returncode is None:
                browser.terminate()
            await browser.wait()


def _address(file: Path) -> str:
    """Return where the browser listens, as soon as it has said so."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError, ValueError):
            port, path = file.read_text().split()
            return f"ws://127.0.0.1:{port}{path}"
        time.sleep(0.05)
    raise TimeoutError("Chromium did not start")


async def _new_tab(socket: aiohttp.ClientWebSocketResponse) -> str:
    await socket.send_json({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}})
    target = (await _answer(socket, 1))["targetId"]
    attach = {"targetId": target, "flatten": True}
    await socket.send_json({"id": 2, "method": "Target.attachToTarget", "params": attach})
    return str((await _answer(socket, 2))["sessionId"])


async def _answer(socket: aiohttp.ClientWebSocketResponse, number: int) -> dict[str, Any]:
    while True:
        message = await socket.receive_json(timeout=PATIENCE)
        if message.get("id") == number:
            result: dict[str, Any] = message["result"]
            return result
