"""The site as built: links, texts of pictures, and what a browser makes of it. `make docs` runs this after building.

The browser is Chromium, without a window; where there is none, its tests are skipped. All pages are opened in frames of
the width of a phone and of a desk, in one go, because starting a browser takes longer than looking at a page.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(path for path in SITE.rglob("*.html") if path.name != "404.html")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1440)


class Page(HTMLParser):
    """What a page without JavaScript has: its links, ids, pictures and words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.untold: list[str] = []
        self.words = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids.update(filter(None, (values.get("id"), values.get("name"))))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img" and not values.get("alt"):
            self.untold.append(values.get("src", "?"))

    def handle_data(self, data):
        self.words += data


@cache
def read(path: Path) -> Page:
    return Page(path)


def test_there_are_pages():
    assert len(PAGES) > 20


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.parent.relative_to(SITE)))
def test_pictures_are_told_and_links_lead_somewhere(path):
    page = read(path)
    assert not page.untold, "pictures without a text"
    broken = [link for link in page.links if not _leads_somewhere(path, link)]
    assert not broken


def _leads_somewhere(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in read(target).ids


def test_the_start_page_needs_no_javascript():
    words = " ".join(read(SITE / "index.html").words.split())
    for part in ("anything you can name", "index.search", "Where to go next", "Install"):
        assert part in words


# --- in a browser -----------------------------------------------------------------------------------------------------

LOOK = """<!doctype html><title>look</title><pre id="seen"></pre><script>
const pages = PAGES, widths = WIDTHS, seen = {};
async function look(page, width) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = "/" + page;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  await new Promise(done => setTimeout(done, 300));
  const root = frame.contentDocument.documentElement;
  seen[page + " " + width] = root.scrollWidth - root.clientWidth;
  frame.remove();
}
(async () => {
  for (const page of pages) for (const width of widths) await look(page, width);
  document.getElementById("seen").textContent = JSON.stringify(seen);
})();
</script>"""


class Handler(SimpleHTTPRequestHandler):
    """The site, and a page at `/look` that opens its pages in frames."""

    def do_GET(self):
        if self.path != "/look":
            return super().do_GET()
        names = json.dumps([str(path.parent.relative_to(SITE)) + "/" for path in PAGES])
        text = LOOK.replace("PAGES", names).replace("WIDTHS", json.dumps(WIDTHS)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(text)
        return None

    def log_message(self, *arguments):
        """Nothing."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """What Chromium saw: how much wider than its frame each page is, and what it had to say."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--virtual-time-budget=120000", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]
    look = f"http://127.0.0.1:{server.server_port}/look"
    try:
        result = subprocess.run([*command, look], capture_output=True, text=True, check=True, timeout=240)
    finally:
        server.shutdown()
        server.server_close()
    found = re.search(r'<pre id="seen">(.+?)</pre>', result.stdout, flags=re.DOTALL)
    assert found, "the browser did not come to the end"
    return json.loads(found[1]), re.findall(r".*:CONSOLE.*", result.stderr)


def test_nothing_is_wider_than_the_window(browser):
    seen, _ = browser
    assert len(seen) == len(PAGES) * len(WIDTHS)
    assert not {page: over for page, over in seen.items() if over > 0}


def test_the_console_is_silent(browser):
    assert not browser[1]
