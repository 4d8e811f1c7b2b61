"""Chromium for the tests of the report: opens a page without any script of its own, and says what it made of it."""

import html
import json
import re
import subprocess

import numpy as np

TALLEST = 15_000  # pixels of a page at 390, folded
SCREENS = {1280: 720, 390: 844}  # heights of the first screen, by width

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
    "--window-size=1280,2000",
]  # fmt: skip

READ = """<!doctype html><body style="margin:0">%s
<script>
addEventListener("load", () => {
  const read = frame => {
    const page = frame.contentDocument, root = page.documentElement, style = frame.contentWindow.getComputedStyle;
    const edges = of => { const box = of.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; };
    const all = selector => [...page.querySelectorAll(selector)];
    const seen = {
      tall: root.scrollHeight, wide: root.scrollWidth, width: root.clientWidth,
      requests: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name)
        .filter(name => !name.startsWith("data:")),
      first: all(".lead, .overlays figure, .tile, .facts").map(e => [e.className || e.tagName, ...edges(e)]),
      headings: all("h1, h2, h3, h4").map(e => +e.tagName[1]),
      unreachable: all("summary, a[href], .scroll").filter(e => e.tabIndex < 0).length,
      lost: all("a[href^='#']").map(e => e.hash.slice(1)).filter(id => !page.getElementById(id)),
      cut: all(".scroll").filter(e => e.scrollWidth > e.clientWidth + 1)
        .filter(e => !style(e).backgroundImage.includes("gradient")).length,
    };
    all("details").forEach(e => e.open = true);
    seen.openWide = root.scrollWidth;
    seen.outside = all("body *").filter(e => !e.parentElement.closest(".scroll, svg")
      && (edges(e)[2] > root.clientWidth + 0.5 || edges(e)[0] < -0.5)).map(e => e.outerHTML.slice(0, 90));
    return seen;
  };
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(read));
});
</script>"""
FRAME = '<iframe srcdoc="%s" style="display:block;border:0;width:%dpx;height:%dpx"></iframe>'


def browse(program, page, profile, *flags):
    command = [program, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, console


def read(program, pages, folder, width):
    """What a browser makes of pages, each in a frame of a width; its console has to stay empty."""
    frames = [FRAME % (html.escape(text), width, SCREENS[width]) for text in pages.values()]
    page = folder / f"read{width}.html"
    page.write_text(READ % "\n".join(frames), encoding="utf-8")
    document, console = browse(program, page, folder / "profile", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", document)
    assert title and console == [], (document[:500], console)
    return dict(zip(pages, json.loads(html.unescape(title[1])), strict=True))


def problems(found, width):
    """What is wrong with a page: too long, wider than the screen, a table cut without a sign, headings out of order, words or
    links that cannot be reached, a request.
    """
    headings = found["headings"]
    rules = {
        f"{found['tall']} pixels tall": found["tall"] < TALLEST,
        f"{found['wide']} wide, {found['openWide']} unfolded": found["wide"]
        == found["openWide"]
        == found["width"]
        == width,
        f"outside: {found['outside']}": found["outside"] == [],
        f"requests: {found['requests']}": found["requests"] == [],
        f"links to nothing: {found['lost']}": found["lost"] == [],
        f"{found['unreachable']} not reached by keys": found["unreachable"] == 0,
        f"{found['cut']} tables cut without a sign": found["cut"] == 0,
        f"headings: {headings}": headings[0] == 1 == headings.count(1) and (np.diff(headings) <= 1).all(),
    }
    return [problem for problem, holds in rules.items() if not holds]
