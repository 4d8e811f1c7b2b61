"""Chromium under the hands of a test: keys, files, widths, and everything that it asked the network for or complained of.

It is told what to do by its own protocol (Chrome DevTools Protocol) over two pipes, so no port is opened.
"""

import base64
import json
import os
import select
import subprocess
import time
from pathlib import Path

from tests.eval.browser import FLAGS


class Chromium:
    """A browser with one page."""

    def __init__(self, program, profile):
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # It reads at 3 and writes at 4; first to free numbers, since the pipes may have these.
        command = 'exec {from}<&"$0" {to}>&"$1"; shift; exec 3<&"$from" 4>&"$to"; exec "$@"'
        flags = ["--remote-debugging-pipe", f"--user-data-dir={profile}", *FLAGS, "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, str(to_read), str(to_write), program, *flags],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._last, self._session = b"", 0, None
        self.console, self.requests = [], []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")
        # Workers too: a request of theirs is one of the page.
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)

    def call(self, method, _timeout=300, **parameters):
        """Result of a method of the protocol; what happens meanwhile is kept."""
        self._last += 1
        self._send(self._last, method, parameters, self._session)
        number, until = self._last, time.monotonic() + _timeout
        while (message := self._next(until)) is not None:
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
        raise TimeoutError(method)

    def _send(self, number, method, parameters, session):
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")

    def _next(self, until):
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0, until - time.monotonic()))[0]:
                return None
            content = os.read(self._read, 2**20)
            assert content, "the browser has ended"
            self._buffer += content
        one, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(one)
        self._keep(message.get("method"), message.get("params", {}))
        return message

    def _keep(self, method, parameters):
        if method == "Target.attachedToTarget":
            for domain in ("Runtime", "Network", "Log"):
                self._last += 1
                self._send(self._last, f"{domain}.enable", {}, parameters["sessionId"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(parameters["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled":
            self.console.append([value.get("value") for value in parameters["args"]])
        elif method == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])

    def size(self, width, height, dark=False):
        """Sets the window's width and height, and which colours it prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, address):
        """Goes to an address."""
        self.call("Page.navigate", url=address)

    def run(self, script):
        """Value of an expression in the page, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script, seconds=300):
        """Waits until an expression is true, and returns its value."""
        until = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < until, f"{script} stays {value!r}; {self.console}"
            time.sleep(0.05)
        return value

    def key(self, key, code=0, text="", modifiers=0):
        """Presses a key, such as Tab (9) or ArrowRight (39)."""
        at = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **at)
        self.call("Input.dispatchKeyEvent", type="keyUp", **at)

    def type(self, text):
        """Types a text where the focus is."""
        self.call("Input.insertText", text=text)

    def choose_file(self, selector, path):
        """Gives a file to an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drop(self, path, x, y):
        """Drops a file from outside at a point."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def shot(self, path: Path):
        """Writes a picture of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self):
        """Ends the browser."""
        self._send(self._last + 1, "Browser.close", {}, None)
        self._process.wait(20)
        os.close(self._read)
        os.close(self._write)
