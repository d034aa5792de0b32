"""The page in a real browser: what people see while connections and processes are lost.

It needs `chromium-headless-shell` (Debian's), or another Chromium named by CHROMIUM.
"""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import pytest
from conftest import Serve, offline

from servestream_client.testing import CutKind, Fault, FaultKind, FaultProxy

playwright = pytest.importorskip("playwright.async_api")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
if CHROMIUM is None:
    pytest.skip("there is no chromium-headless-shell", allow_module_level=True)

QUESTION = "Tell me a story about a lighthouse keeper."
MAX_TOKENS = 200  # the page's own


def expected() -> str:
    tokens = offline(QUESTION, MAX_TOKENS)
    return b"".join(token.text for token in tokens).decode(errors="replace")


@pytest.fixture
async def page() -> AsyncIterator[playwright.Page]:
    """An empty tab. What a script on it raises fails the test."""
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM)
        try:
            page = await browser.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            yield page
            assert errors == []
        finally:
            await browser.close()


async def ask(page: playwright.Page, url: str) -> None:
    await page.goto(url)
    await page.get_by_label("Your question").fill(QUESTION)
    await page.get_by_role("button", name="Ask").click()


async def shown(page: playwright.Page) -> str:
    """The answer as it stands, without the marks of its seams."""
    return (await page.locator(".answer").text_content() or "").replace("✂", "")


async def until_some_of_it_came(page: playwright.Page, characters: int = 40) -> None:
    await page.wait_for_function(
        f"document.querySelector('.answer')?.textContent.length > {characters}"
    )


async def until_it_ended(page: playwright.Page) -> None:
    await page.locator("article:not(.running)").wait_for(timeout=60_000)


async def test_an_answer_is_shown_as_it_comes(page: playwright.Page, serve: Serve) -> None:
    async with serve() as url:
        await ask(page, url)
        await until_some_of_it_came(page)
        assert expected().startswith(await shown(page))
        assert await page.locator(".running").count() == 1, "it is not complete yet"
        await until_it_ended(page)
    assert await shown(page) == expected()
    assert await page.locator(".note").text_content() == ""


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=1, output=20))
async def test_a_dead_replica_is_a_mark_in_the_text(page: playwright.Page, serve: Serve) -> None:
    async with serve() as url:
        await ask(page, url)
        await until_it_ended(page)
    assert await page.locator(".cut").count() == 1
    assert await shown(page) == expected()


async def test_a_browser_that_lost_its_connection_goes_on_at_the_next_token(
    page: playwright.Page, serve: Serve
) -> None:
    async with serve() as url:
        with FaultProxy(urlsplit(url).netloc) as link:
            await ask(page, f"http://{link.target}")
            for characters in (40, 120, 300):
                await until_some_of_it_came(page, characters)
                assert await asyncio.to_thread(link.cut, CutKind.RESET) > 0
            await until_it_ended(page)
    assert await shown(page) == expected()


async def test_a_web_service_that_starts_anew_is_said_and_nothing_is_spliced(
    page: playwright.Page, serve: Serve
) -> None:
    async with serve() as url:
        await ask(page, url)
        await until_some_of_it_came(page)
    async with serve(port=urlsplit(url).port):
        await until_it_ended(page)
        note = await page.locator(".note").text_content()
    assert "What you see is its beginning; ask again" in note
    assert await page.locator(".failed").count() == 1
    assert expected().startswith(await shown(page))


async def leave(page: playwright.Page) -> None:
    await page.goto("about:blank")


async def kill(page: playwright.Page) -> None:
    """So Chromium runs no handler of the page: only the connection ends."""
    await page.close()


@pytest.mark.parametrize(("goes", "patience"), [(leave, 3600), (kill, 1)])
async def test_for_a_page_that_is_gone_the_replica_stops(
    page: playwright.Page,
    serve: Serve,
    ends: queue.Queue[int],
    goes: Callable[[playwright.Page], Awaitable[None]],
    patience: float,
) -> None:
    async with serve(patience=patience) as url:
        await ask(page, url)
        await until_some_of_it_came(page)
        await goes(page)
        made = await asyncio.to_thread(ends.get, timeout=30)
    assert made < len(offline(QUESTION, MAX_TOKENS))


async def test_stop_keeps_what_came(
    page: playwright.Page, serve: Serve, ends: queue.Queue[int]
) -> None:
    async with serve() as url:
        await ask(page, url)
        await until_some_of_it_came(page)
        await page.get_by_role("button", name="Stop").click()
        await until_it_ended(page)
        assert await asyncio.to_thread(ends.get, timeout=30) < len(offline(QUESTION, MAX_TOKENS))
    assert await page.locator(".note").text_content() == "the answer was stopped"
    assert expected().startswith(await shown(page))
