"""What each address of a server answers: real HTTP messages, in this process, with a stand-in for the replicas."""

import asyncio
import contextlib
import dataclasses

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from faceattr.config.serving.requests import RequestLimitsConfig
from faceattr.jobs.serve.http.bearer import Bearer
from faceattr.jobs.serve.http.figures import ServeFigures
from faceattr.jobs.serve.http.requests import RefusedRequestError
from faceattr.jobs.serve.http.scored import Scored
from faceattr.jobs.serve.http.site import Site

LIMITS = RequestLimitsConfig(max_bytes=1_000, max_images=3, max_queue=4, max_queue_bytes=2_000, timeout_s=60)
TOKEN = "0123456789abcdef-secret"
JPEG = {"Content-Type": "image/jpeg"}


class Lengths:
    """Scores an image by its number of bytes; `bad` cannot be used, `fault` fails. Waits until `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.ready = True
        self.asked = 0

    async def score(self, upload, *, confidence):
        self.asked += 1
        await self.open.wait()
        if upload.data == b"fault":
            raise RefusedRequestError(500, "the model failed")
        if upload.data == b"bad":
            return Scored(values={"path": upload.name, "error": "corrupt: so it is"}, reason="corrupt")
        found = {"size": len(upload.data)} | ({"size_confidence": 0.5} if confidence else {})
        return Scored(values={"path": upload.name, "attributes": found}, batch_images=1, batch_s=0.2)

    async def is_ready(self):
        return self.ready


def on_a_site(check, *, token=None, **limits):
    """Runs `check(client, lengths, figures)` with a client of a site; `limits` differ from LIMITS."""

    async def run():
        lengths, figures = Lengths(), ServeFigures()
        site = Site(lengths, dataclasses.replace(LIMITS, **limits), Bearer.of(token), figures)

        async def application(scope, receive, send):
            response = await site.answer(Request(scope, receive, send))
            await response(scope, receive, send)

        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await check(client, lengths, figures)

    asyncio.run(run())


def read(figures: ServeFigures) -> dict[tuple[str, ...], float]:
    """Every sample as Prometheus reads it: (name, values of its labels) -> value."""
    families = text_string_to_metric_families(figures.encode().decode())
    return {
        (sample.name.removeprefix("faceattr_serve_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_an_image_and_a_form_of_several():
    async def check(client, lengths, figures):
        one = await client.post("/predict", content=b"12345", headers=JPEG)
        assert (one.status_code, one.headers["content-type"]) == (200, "application/json")
        assert one.json() == {"path": "-", "attributes": {"size": 5}}
        sure = await client.post("/predict?confidence=true", content=b"123", headers=JPEG)
        assert sure.json()["attributes"] == {"size": 3, "size_confidence": 0.5}
        files = [("image", ("b.jpg", b"1")), ("image", ("a.jpg", b"bad")), ("other", ("c.jpg", b"123"))]
        several = await client.post("/predict", files=files)
        assert several.status_code == 200
        assert several.json() == [
            {"path": "b.jpg", "attributes": {"size": 1}},
            {"path": "a.jpg", "error": "corrupt: so it is"},
            {"path": "c.jpg", "attributes": {"size": 3}},
        ]
        assert (await client.post("/predict", files=files[:1])).json() == [several.json()[0]]
        found = read(figures)
        assert found["requests_total", "/predict", "200"] == 4
        assert (found["images_total",], found["rejected_images_total", "corrupt"]) == (5, 1)
        assert (found["batch_images_count",], found["batch_images_sum",]) == (5, 5)
        assert (found["batch_images_bucket", "1.0"], round(found["batch_seconds_sum",], 9)) == (5, 1.0)
        assert found["request_seconds_count",] == 4

    on_a_site(check)


def test_what_is_refused_and_how():
    async def check(client, lengths, figures):
        async def status(method, path, **more):
            answer = await client.request(method, path, **more)
            assert set(answer.json()) == {"error"}
            return answer.status_code

        assert await status("GET", "/") == 404
        assert await status("GET", "/predict") == 405
        assert await status("POST", "/metrics") == 405
        assert await status("POST", "/predict", content=b"x") == 415
        assert await status("POST", "/predict?size=1", content=b"x", headers=JPEG) == 400
        assert await status("POST", "/predict", content=bytes(1_001), headers=JPEG) == 413
        assert await status("POST", "/predict", files=[("a", ("a", b"x"))] * 4) == 413
        assert await status("POST", "/predict", data={"a": "x"}, files=[("a", ("a", b"x"))]) == 400
        assert await status("POST", "/predict", content=b"fault", headers=JPEG) == 500
        assert await status("POST", "/predict", content=b"x", headers={**JPEG, "Host": "rebound.example"}) == 403
        lengths.ready = False
        assert await status("GET", "/readyz") == 503
        assert lengths.asked == 1
        found = read(figures)
        assert found["requests_total", "other", "404"] == 1
        assert found["requests_total", "/predict", "413"] == 2
        assert found["queue_images",] == 0

    on_a_site(check)


def test_health_and_readiness_need_no_token_and_the_rest_does():
    async def check(client, lengths, figures):
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200
            assert (await client.head(path)).status_code == 200
        right, wrong = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {TOKEN[:-1]}"}
        for headers in ({}, wrong):
            answer = await client.get("/metrics", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in answer.text
            assert (await client.post("/predict", content=b"x", headers={**JPEG, **headers})).status_code == 401
        assert lengths.asked == 0
        assert (await client.post("/predict", content=b"x", headers={**JPEG, **right})).status_code == 200
        # A name is fine where there is a token: other machines use one.
        figures_text = await client.get("/metrics", headers={**right, "Host": "models.example"})
        assert "faceattr_serve_requests_total" in figures_text.text
        assert figures_text.headers["content-type"].startswith("text/plain")

    on_a_site(check, token=TOKEN)


async def until(holds):
    while not holds():
        await asyncio.sleep(0)


def test_a_full_queue_says_so_at_once_and_empties():
    async def check(client, lengths, figures):
        lengths.open.clear()
        files = [("image", (f"{number}.jpg", b"x")) for number in range(3)]
        waiting = asyncio.create_task(client.post("/predict", files=files))
        await until(lambda: lengths.asked == 3)
        fourth = asyncio.create_task(client.post("/predict", content=b"x", headers=JPEG))
        await until(lambda: lengths.asked == 4)
        fifth = await client.post("/predict", content=b"x", headers=JPEG)
        assert (fifth.status_code, fifth.headers["retry-after"]) == (429, "1")
        assert (await client.get("/healthz")).status_code == 200
        assert read(figures)["queue_images",] == 4
        lengths.open.set()
        assert [(await each).status_code for each in (waiting, fourth)] == [200, 200]
        assert (await client.post("/predict", content=b"x", headers=JPEG)).status_code == 200
        assert read(figures)["queue_images",] == 0

    on_a_site(check)


def test_what_takes_too_long_is_given_up_and_holds_no_place():
    async def check(client, lengths, figures):
        lengths.open.clear()
        late = await client.post("/predict", content=b"x", headers=JPEG)
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert "--limits.timeout-s" in late.json()["error"]

        async def slow():
            yield b"x"
            await asyncio.Event().wait()

        slow_body = await client.post("/predict", content=slow(), headers=JPEG)
        assert slow_body.status_code == 408
        assert read(figures)["queue_images",] == 0

    on_a_site(check, timeout_s=0.05)


def test_a_client_that_leaves_is_no_fault_of_the_server():
    async def check(client, lengths, figures):
        lengths.open.clear()
        leaving = asyncio.create_task(client.post("/predict", content=b"x", headers=JPEG))
        await until(lambda: lengths.asked == 1)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        assert read(figures)["queue_images",] == 0

    on_a_site(check)
