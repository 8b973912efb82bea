"""The review server by its protocol: what is hidden, what is kept, and who is refused."""

import asyncio
import json
import logging
import re
import signal
from importlib.resources import files

import aiohttp
import pytest

from faceattr.audit.judgements import ReviewerAnswer, append_judgements, read_judgements
from faceattr.audit.review.access import check_access
from faceattr.audit.review.session import ReviewSession
from faceattr.cli import main as faceattr
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError
from tests.audit.audits import write_audit
from tests.audit.review.servers import ask, run_review

TOKEN = "correct-horse-battery"


def judgement(folder, **changes):
    """The body of a judgement."""
    usual = {"audit": ReviewSession(folder).audit_id, "item": 0, "answer": 1, "reviewer": "ann"}
    return {**usual, **changes}


def logged(folder):
    return [(each.item, each.answer, each.reviewer) for each in read_judgements(LocalStore(folder))]


def test_what_the_table_says_is_hidden_until_the_item_is_judged(audit):
    async def scenario(client, origin):
        async with client.get("/api/review?reviewer=ann") as answer:
            before = await answer.text()
        async with client.post("/api/judgements", json=judgement(audit), headers=origin) as answer:
            reply = await answer.json()
        async with client.get("/api/review?reviewer=ann") as answer:
            after = await answer.json()
        async with client.get("/api/review?reviewer=bob") as answer:
            others = await answer.json()
        return before, reply, after, others

    before, reply, after, others = ask(audit, scenario)
    said = {"label": 1, "score": 0.75, "threshold": 0.5, "image_id": "hat_yes.jpg", "reason": "score"}
    for hidden in ("0.75", "hat_yes", "label", "score", "threshold", "uri"):
        assert hidden not in before
    assert json.loads(before)["answers"] == []
    assert reply == {"table": said}
    assert after["answers"] == [[0, 1, said]]
    assert others["answers"] == []
    assert [(each["name"], each["classes"], each["items"]) for each in after["attributes"]] == [
        ("hat", ["no", "yes"], [0, 1, 2]),
        ("hair", ["black", "brown", "blond"], [3]),
    ]


def test_the_last_answer_counts_and_none_is_overwritten(audit):
    async def scenario(client, origin):
        for answer in (1, 0, None):
            async with client.post("/api/judgements", json=judgement(audit, answer=answer), headers=origin) as reply:
                assert reply.status == 200
        async with client.get("/api/review?reviewer=ann") as reply:
            return (await reply.json())["answers"]

    ((item, answer, _),) = ask(audit, scenario)
    assert (item, answer) == (0, None)
    assert logged(audit) == [(0, 1, "ann"), (0, 0, "ann"), (0, None, "ann")]


def test_one_reviewer_for_the_whole_server(audit):
    async def scenario(client, origin):
        async with client.post("/api/judgements", json=judgement(audit, reviewer="bob"), headers=origin):
            pass
        async with client.get("/api/review") as reply:
            return await reply.json()

    found = ask(audit, scenario, reviewer="ann")
    assert (found["reviewer"], found["fixed"], len(found["answers"])) == ("ann", True, 1)
    assert logged(audit) == [(0, 1, "ann")]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"item": 4}, "there is no item 4; the sample has 0 to 3"),
        ({"item": -1}, "there is no item -1"),
        ({"item": True}, "there is no item True"),
        ({"answer": 2}, "item 0: expected null or 0 to 1, found the answer 2"),
        ({"item": 3, "answer": 3}, "item 3: expected null or 0 to 2"),
        ({"answer": False}, "found the answer False"),
        ({"answer": "yes"}, "found the answer 'yes'"),
        ({"reviewer": "  "}, "expected 1 to 64 visible characters"),
        ({"reviewer": "a\nb"}, "expected 1 to 64 visible characters"),
        ({"reviewer": 3}, "expected an object with answer, audit, item, reviewer"),
        ({"audit": "0123456789abcdef"}, "this page shows another audit than the server has; reload it"),
        ({"more": 1}, "expected an object with answer, audit, item, reviewer"),
    ],
)
def test_a_wrong_judgement_is_refused_in_one_sentence(audit, changes, found):
    async def scenario(client, origin):
        async with client.post("/api/judgements", json=judgement(audit, **changes), headers=origin) as answer:
            return answer.status, (await answer.json())["error"]

    status, error = ask(audit, scenario)
    assert status == 400
    assert found in error
    assert logged(audit) == []


def test_only_the_servers_own_page_may_judge_and_only_its_own_name_is_answered(audit):
    async def scenario(client, origin):
        async def judge(**headers):
            async with client.post("/api/judgements", json=judgement(audit), headers=headers) as answer:
                return answer.status

        async def read(host):
            async with client.get("/api/pictures/0", headers={"Host": host}) as answer:
                return answer.status

        foreign = [
            await judge(Origin="http://evil.example"),
            await judge(Origin="null"),
            await judge(),
            await judge(**origin, **{"Sec-Fetch-Site": "cross-site"}),
            await judge(Origin="http://evil.example", Host="evil.example"),
        ]
        names = [await read(host) for host in ("evil.example", "evil.example:80", "localhost.evil.example", "")]
        ours = [await read(host) for host in ("localhost:9000", "127.0.0.1", "[::1]:80", "10.0.0.7:8642")]
        return foreign, names, ours, await judge(**origin, **{"Sec-Fetch-Site": "same-origin"})

    foreign, names, ours, judged = ask(audit, scenario)
    assert foreign == [403] * 5
    assert names == [403] * 4
    assert ours == [200] * 4
    assert judged == 200
    assert logged(audit) == [(0, 1, "ann")]


def test_a_body_that_no_script_of_another_page_may_send_is_asked_for(audit):
    async def scenario(client, origin):
        plain = {**origin, "Content-Type": "text/plain"}
        async with client.post("/api/judgements", data=json.dumps(judgement(audit)), headers=plain) as answer:
            large = {**judgement(audit), "reviewer": "x" * 100_000}
            async with client.post("/api/judgements", json=large, headers=origin) as other:
                return answer.status, other.status

    assert ask(audit, scenario) == (400, 413)
    assert logged(audit) == []


def test_without_the_token_nothing_is_shown_and_nothing_is_kept(audit, caplog):
    async def scenario(client, origin):
        async def get(path):
            async with client.get(path, allow_redirects=False) as answer:
                return answer.status, answer.headers.get("Location")

        async def sign_in(token):
            form = {"token": token}
            async with client.post("/sign-in", data=form, headers=origin, allow_redirects=False) as answer:
                return answer.headers["Location"], answer.headers.get("Set-Cookie")

        async def judge():
            async with client.post("/api/judgements", json=judgement(audit), headers=origin) as answer:
                return answer.status

        async with client.get("/sign-in?wrong") as answer:
            assert 'role="alert">This is not the token' in await answer.text()
        before = [await get(path) for path in ("/", "/api/review", "/api/pictures/0", "/review.js")]
        refused = await judge()
        wrong = await sign_in(TOKEN[:-1])
        right = await sign_in(TOKEN)
        assert right[1] is not None
        # aiohttp's own client keeps no cookies of addresses unless it is told to.
        client.headers["Cookie"] = right[1].partition(";")[0]
        return before, refused, wrong, right, await get("/"), await judge()

    with caplog.at_level(logging.DEBUG):
        before, refused, wrong, right, after, judged = ask(audit, scenario, token=TOKEN)
    assert before == [(303, "/sign-in"), (401, None), (401, None), (401, None)]
    assert refused == 401
    assert wrong == ("/sign-in?wrong", None)
    assert right[0] == "/"
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in right[1].split(";")}
    assert TOKEN not in right[1]
    assert after == (200, None)
    assert judged == 200
    assert TOKEN not in caplog.text


def test_a_bad_request_with_the_token_in_it_is_not_logged(audit, caplog):
    async def scenario(client, origin):
        host, _, port = origin["Origin"].removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /?token={TOKEN} HTTP/9.x\r\n{TOKEN}\r\n\r\n".encode())
        answer = await reader.readline()
        writer.close()
        return answer

    logger = logging.getLogger("faceattr")
    logger.propagate = True  # an earlier test may have configured it as an entry point does
    with caplog.at_level(logging.DEBUG):
        assert b" 400 " in ask(audit, scenario, token=TOKEN)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "gpu1.lan", "::"])
def test_a_host_that_others_can_reach_needs_a_token(host):
    with pytest.raises(ConfigError, match=r"--host .* can be reached from other machines, so it needs a --token"):
        check_access(host, None)
    check_access(host, TOKEN)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_alone_needs_none(host):
    check_access(host, None)


def test_a_short_token_is_refused_without_being_shown(audit, capsys):
    assert faceattr(["audit", "review", str(audit), "--token", "hunter2"]) == 2
    error = capsys.readouterr().err
    assert "--token: expected at least 16 characters, found 7" in error
    assert "hunter2" not in error


def test_every_answer_forbids_foreign_content(audit):
    async def scenario(client, origin):
        found = {}
        for path in ("/", "/review.js", "/review.css", "/sign-in", "/api/review", "/api/pictures/1", "/nothing"):
            async with client.get(path) as answer:
                found[path] = answer.headers
        async with client.get("/", headers={"Host": "evil.example"}) as answer:
            found["refused"] = answer.headers
        return found

    for path, headers in ask(audit, scenario).items():
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'", path
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'", path
        assert policy["frame-ancestors"] == "'none'", path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Cache-Control"] == "no-store", path


def test_the_page_loads_nothing_from_elsewhere_and_has_no_code_in_its_text():
    folder = files("faceattr.audit.review") / "page"
    for each in folder.iterdir():
        text = each.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "//" not in re.sub(r"^\s*//.*$|[^:]// .*$", "", text, flags=re.MULTILINE), each.name  # no address
        if each.name.endswith(".html"):
            assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", text) == [], each.name


def test_folders_that_cannot_be_reviewed(tmp_path, capsys):
    assert faceattr(["audit", "review", str(tmp_path)]) == 2
    assert "has no audit.json" in capsys.readouterr().err
    assert faceattr(["audit", "review", "s3://bucket/audit"]) == 2
    assert "expected a path on this machine" in capsys.readouterr().err
    write_audit(tmp_path / "empty", [], root=tmp_path)
    assert faceattr(["audit", "review", str(tmp_path / "empty")]) == 2
    assert "the sample has no items" in capsys.readouterr().err
    write_audit(tmp_path / "packed", [{"image_id": "a", "source_row": 1}], root=tmp_path)
    assert faceattr(["audit", "review", str(tmp_path / "packed")]) == 2
    assert "names no bytes_column" in capsys.readouterr().err


def test_answers_survive_a_killed_server_and_ctrl_c_ends_it_well(audit):
    """Also that a line which was cut off harms neither the answers before it nor those after it."""

    async def judge(address, item):
        async with aiohttp.ClientSession(address) as client:
            body = judgement(audit, item=item)
            async with client.post("/api/judgements", json=body, headers={"Origin": address}) as answer:
                assert answer.status == 200

    with run_review(audit) as (process, address):
        asyncio.run(judge(address, 0))
        asyncio.run(judge(address, 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert logged(audit) == [(0, 1, "ann"), (1, 1, "ann")]
    with (audit / "judgements.jsonl").open("ab") as file:
        file.write(b'{"item": 2, "ans')
    with run_review(audit) as (process, address):
        asyncio.run(judge(address, 2))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "3 of 4 items are judged" in out
    assert logged(audit) == [(0, 1, "ann"), (1, 1, "ann"), (2, 1, "ann")]


def test_two_servers_see_each_others_answers(audit):
    async def scenario(client, origin):
        append_judgements(audit / "judgements.jsonl", [ReviewerAnswer(item=2, answer=0, reviewer="ann", time_s=1.0)])
        async with client.get("/api/review?reviewer=ann") as answer:
            return [each[:2] for each in (await answer.json())["answers"]]

    assert ask(audit, scenario) == [[2, 0]]
